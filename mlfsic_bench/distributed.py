"""Several processes on one run, as `torchrun` starts them: who leads, orders, shared work.

torchrun says to each process its number (RANK) and how many there are (WORLD_SIZE). Process 0
leads: it alone holds the lock of the run's folder, writes the record and prints. The others follow
its orders and do their share. They have three ways to talk:

- torchrun's store of keys and values: orders, counters of what is taken, values to compare;
- a connection of every process with process 0, for errors (`team`);
- torch's process group, for training only (`training.together`).

Outside `together`, and without torchrun, every function here does what one process needs, and
nothing is opened or started. Files are shared by their paths: all processes must see the same file
system.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlfsic_bench.errors import BenchError

if TYPE_CHECKING:
    from mlfsic_bench.team import Team

NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LOCAL = "LOCAL_RANK"  # the number among the processes of this machine

_team: Team | None = None


def environment() -> tuple[int, int]:
    """(this process's number, how many there are), as torchrun says it; (0, 1) without torchrun."""
    said = {name: os.environ.get(name, "") for name in NAMES}
    if not all(said.values()) or said["WORLD_SIZE"] == "1":
        return 0, 1
    said[LOCAL] = os.environ.get(LOCAL, "0")
    numbers = [text for name, text in said.items() if name != "MASTER_ADDR"]
    if not all(text.isascii() and text.isdigit() for text in numbers) or not (
        int(said["RANK"]) < int(said["WORLD_SIZE"])
    ):
        raise BenchError(
            "the environment says something impossible about several processes",
            expected="RANK, WORLD_SIZE, MASTER_PORT and LOCAL_RANK as torchrun sets them",
            found=", ".join(f"{name}={text}" for name, text in said.items()),
            remedy="start with torchrun, or unset these variables",
        )
    return int(said["RANK"]), int(said["WORLD_SIZE"])


def own_gpu() -> int:
    """The number of the GPU that is this process's on its machine."""
    return int(os.environ.get(LOCAL, "0")) if _team else 0


def team() -> Team | None:
    """The processes that work together; None for one alone."""
    return _team


def number() -> int:
    """This process's number among those that work together; 0 for the one that leads."""
    return _team.number if _team else 0


def count() -> int:
    """How many processes work together."""
    return _team.count if _team else 1


# -- beginning and end --------------------------------------------------------------------------


@contextmanager
def together() -> Iterator[None]:
    """In the block the processes that torchrun started work together, each calling the same code.

    An exception in one of them, or its death, ends the block in all: in process 0 with that error,
    in the others with an error that nobody prints (`silent`). Ctrl-C ends all.
    """
    global _team
    own, total = environment()
    if total == 1:
        yield
        return
    from mlfsic_bench.team import Team

    _team = team = Team(own, total)
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
    final = team.end(error)
    _team = None
    if team.speaks_for_all(final) and _streams is not None:
        sys.stdout, sys.stderr = _streams
    if final is not None:
        raise final from (error if error is not final else None)


def end_all(error: BaseException) -> None:
    """Let an error of this process end the work of all, also where its caller would go on."""
    if _team is not None:
        _team.fail(error)


@contextmanager
def inseparable() -> Iterator[None]:
    """Work in which processes wait for one another: an error in the block ends the work of all."""
    try:
        yield
    except Exception as error:
        end_all(error)
        raise


_streams: tuple[Any, Any] | None = None


def silent() -> None:
    """Let this process print nothing, when it is not process 0: its errors go there."""
    global _streams
    if environment()[0] and _streams is None:
        _streams = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115


# -- orders and shared work ---------------------------------------------------------------------


def agree(what: str, value: str) -> None:
    """BenchError in all processes, which ends them, unless `value` is the same in all of them."""
    if _team is None:
        return
    key = _team.turn("agree")
    _team.store.set(f"{key}/{_team.number}", value)
    if _team.number:
        _team.get(f"{key}/agreed")
        return
    values = [_team.get(f"{key}/{other}") for other in range(_team.count)]
    if len(set(values)) > 1:
        other = next(i for i, one in enumerate(values) if one != value)
        with inseparable():
            raise BenchError(
                f"the processes do not agree on {what}",
                expected=f"{value[:12]}, as process 0 has it",
                found=f"{values[other][:12]} in process {other}",
                remedy="give all processes the same files, packages and options",
            )
    _team.store.set(f"{key}/agreed", "")


END, GIVEN_UP = "end", "given up"


class GivenUpError(BenchError):
    """Process 0 gave a run up."""


def lead(order: str) -> None:
    """Process 0: tell the others what to do next (`follow`); END when there is nothing more."""
    if _team is not None and not _team.number:
        _team.store.set(_team.turn("order"), order)


def follow(meanwhile: Callable[[], object]) -> Iterator[str]:
    """Another process: the orders of process 0 until END; `meanwhile` is called while it waits.

    GivenUpError where process 0 gives the run up.
    """
    assert _team is not None
    while (order := _team.get(_team.turn("order"), meanwhile)) != END:
        if order == GIVEN_UP:
            raise GivenUpError("process 0 gave the run up", expected="", found="", remedy="")
        yield order
        _team.store.add(f"order/{_team.turns['order']}/done", 1)


@contextmanager
def reported() -> Iterator[None]:
    """Another process: a BenchError in what was ordered is raised by process 0 (`all_followed`)."""
    try:
        yield
    except BenchError as error:
        assert _team is not None
        _team.store.set(f"order/{_team.turns['order']}/failed", _team.in_words(error))
        _take_all()


def all_followed() -> None:
    """Process 0: wait until all others have done what they were told last; raise their error."""
    if _team is not None:
        team, key = _team, f"order/{_team.turns['order']}"
        team.wait(lambda: team.store.add(f"{key}/done", 0) == team.count - 1)
        if team.store.check([f"{key}/failed"]):
            raise team.from_words(team.store.get(f"{key}/failed").decode())


def given_up(error: Exception) -> bool:
    """Whether this error ends a run in all processes alike, so that they may begin another one.

    It is a BenchError of a run, not one of work that is `inseparable`. Process 0 gives the run up,
    and the others then meet a GivenUpError.
    """
    if _team is None or _team.failed.is_set() or not isinstance(error, BenchError):
        return False
    if _team.number:
        return isinstance(error, GivenUpError)
    _take_all()
    lead(GIVEN_UP)
    return True


def _take_all() -> None:
    """Leave nothing to others of what was ordered last (`claims`)."""
    assert _team is not None
    _team.store.add(f"claims/{_team.turns['order']}", 1 << 40)


def claims(total: int, name: str = "") -> Iterator[int]:
    """Numbers below `total` that this process takes, in order: all processes together take all.

    name: of the work; without one, it is what process 0 ordered last.
    """
    if _team is None:
        yield from range(total)
        return
    key = f"claims/{name or _team.turns['order']}"
    while True:
        with _team.talking():
            taken = _team.store.add(key, 1) - 1
        if taken >= total:
            return
        yield taken


def announce(name: str, value: str) -> None:
    """Put up a value for all processes (`announced`); an empty one takes it down."""
    if _team is not None:
        _team.store.set(f"announced/{name}", value)


def announced(name: str) -> str:
    """The value that is up; empty where there is none."""
    if _team is None:
        return ""
    with _team.talking():
        there = _team.store.check([f"announced/{name}"])
        return _team.store.get(f"announced/{name}").decode() if there else ""


def wait_for(ready: Callable[[], bool]) -> None:
    """Wait until `ready()`, or until another process fails, which is raised."""
    if _team is not None:
        _team.wait(ready)

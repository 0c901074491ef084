"""Several processes on one run, as `torchrun` starts them: who leads, shared work, one error.

torchrun says to each process its number (RANK) and how many there are (WORLD_SIZE). Process 0
leads: it alone holds the lock of the run's folder, writes the record and prints. The others follow
its orders and do their share. They have three ways to talk:

- torchrun's store of keys and values: orders, counters of what is taken, values to compare;
- a connection of every process with process 0. It carries errors, and breaks when a process dies:
  within seconds all end, with one error;
- torch's process group, for training only (`training.together`).

Outside `together`, and without torchrun, every function here does what one process needs, and
nothing is opened or started. Files are shared by their paths: all processes must see the same file
system.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

from mlfsic_bench.errors import BenchError
from mlfsic_bench.signals import Stopped, end_anyway, exit_code, ignore_signals
from mlfsic_bench.text import exception_text

START = 120.0  # seconds until all processes must have found each other
GRACE = 15.0  # seconds that a process has to end by itself after another has failed
OWN_FIRST = 1.0  # seconds in which process 0 meets by itself an error that all processes meet
SHORTEST, LONGEST = 0.01, 0.25  # seconds between two looks at the store
INTERRUPT: int = getattr(signal, "SIGURG", 0)  # Windows has none: there a wait ends, no work
NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

_team: Team | None = None


def environment() -> tuple[int, int]:
    """(this process's number, how many there are), as torchrun says it; (0, 1) without torchrun."""
    texts = [os.environ.get(name, "") for name in NAMES]
    if not all(texts) or texts[1] == "1":
        return 0, 1
    if not all(texts[i].isascii() and texts[i].isdigit() for i in (0, 1, 3)) or not (
        int(texts[0]) < int(texts[1])
    ):
        raise BenchError(
            "the environment says something impossible about several processes",
            expected="RANK, WORLD_SIZE and MASTER_PORT as torchrun sets them",
            found=", ".join(f"{name}={text}" for name, text in zip(NAMES, texts, strict=True)),
            remedy="start with torchrun, or unset these variables",
        )
    return int(texts[0]), int(texts[1])


def own_gpu() -> int:
    """The number of the GPU that is this process's on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) if _team else 0


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
    _team = team = Team(own, total)
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
    final = team.end(error)
    _team = None
    if final is not None:
        raise final from (error if error is not final else None)


def end_all(error: BaseException) -> None:
    """Let an error of this process end the work of all, also where its caller would go on."""
    if _team is not None:
        _team.fail(error)


_streams: tuple[Any, Any] | None = None


def silent() -> None:
    """Let this process print nothing, when it is not process 0: its errors go there."""
    global _streams
    if environment()[0] and _streams is None:
        _streams = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115


class OtherProcessError(BenchError):
    """Another process of the run failed, was stopped or died."""

    def __init__(self, what: str, *, code: int = 1, **fields: str) -> None:
        super().__init__(what, **fields)
        self.exit_code = code


class Team:
    """The processes that work together, as one of them sees it."""

    def __init__(self, number: int, count: int) -> None:
        self.number, self.count = number, count
        self.failure: BaseException | None = None  # what ends the work of all
        self.failed = threading.Event()
        self.ending = False  # of this process: nothing is raised in it any more
        self.gone: set[int] = set()  # processes that said how they ended
        self.closed = threading.Event()  # process 0 is gone, or all others have ended
        self.turns: Counter[str] = Counter()  # how often each collective call was made
        self.at_end: list[Callable[[], object]] = []  # called when all went well
        self._lock = threading.Lock()
        self._failing = False
        self._timer: threading.Timer | None = None
        self.store = _open_store()
        self._links = self._accepted() if number == 0 else {0: self._connected()}
        if INTERRUPT and threading.current_thread() is threading.main_thread():
            signal.signal(INTERRUPT, self._interrupted)
        for other, link in self._links.items():
            threading.Thread(target=self._listen, args=(other, link), daemon=True).start()

    # -- connections with process 0

    def _accepted(self) -> dict[int, BinaryIO]:
        """Process 0: the connections of all others."""
        import secrets
        import socket

        here = os.environ.get("LOCAL_WORLD_SIZE") == str(self.count)
        host = "127.0.0.1" if here else os.environ["MASTER_ADDR"]
        token = secrets.token_hex(16)
        links: dict[int, BinaryIO] = {}
        end = time.monotonic() + START
        with socket.create_server(("127.0.0.1" if here else "", 0)) as server:
            self.store.set("hub", json.dumps([host, server.getsockname()[1], token]))
            while len(links) < self.count - 1:
                server.settimeout(max(0.01, end - time.monotonic()))
                try:
                    connection = server.accept()[0]
                    connection.settimeout(5.0)
                    link = cast(BinaryIO, connection.makefile("rwb"))
                    said = json.loads(link.readline(1000))
                except TimeoutError as error:
                    if time.monotonic() < end:
                        continue
                    raise _not_found(f"{len(links) + 1} of {self.count} came") from error
                except (OSError, ValueError):
                    continue
                if isinstance(said, list) and said[:1] == [token]:  # else somebody else's
                    connection.settimeout(None)
                    links[int(said[1])] = link
        return links

    def _connected(self) -> BinaryIO:
        """Another process: its connection with process 0."""
        import socket

        host, port, token = json.loads(self.store.get("hub"))
        try:
            connection = socket.create_connection((host, port), START)
        except OSError as error:
            raise _not_found(f"process 0 at {host} port {port}: {error}") from error
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        link = cast(BinaryIO, connection.makefile("rwb"))
        _tell(link, [token, self.number])
        return link

    def _listen(self, other: int, link: BinaryIO) -> None:
        """A thread: what process `other` says, and that it is gone."""
        with contextlib.suppress(OSError, ValueError):
            for line in link:
                self._heard(other, json.loads(line))
        if other not in self.gone:
            self.fail(_died(other, self.count))
        if other == 0:
            self.closed.set()

    def _heard(self, other: int, said: dict[str, Any]) -> None:
        self.gone.add(other)
        if self.number == 0 and len(self.gone) == self.count - 1:
            self.closed.set()
        if "failed" in said:
            if self.number == 0:
                time.sleep(OWN_FIRST)
            self.fail(OtherProcessError(**said["failed"]))
        elif "stopped" in said:
            time.sleep(OWN_FIRST)
            by = said["stopped"] - 128
            self.fail(KeyboardInterrupt() if by == signal.SIGINT else Stopped(by))

    def fail(self, error: BaseException) -> None:
        """End the work of this process with `error`, and in process 0 that of all others."""
        with self._lock:
            if self.ending or self._failing:
                return
            self._failing = True
        end_anyway()  # torchrun stops what is left when a process has died
        if self.number == 0:
            self._tell_all(error)  # before this process may end by it
        self._timer = threading.Timer(GRACE, self._give_up)
        self._timer.daemon = True
        self._timer.start()
        self.failure = error
        self.failed.set()
        if INTERRUPT:
            signal.pthread_kill(threading.main_thread().ident or 0, INTERRUPT)

    def _give_up(self) -> NoReturn:
        """The process is stuck in code that can't be interrupted, such as a wait for a GPU."""
        if self.number == 0 and sys.stderr is not None:
            sys.stderr.write(f"error: {self.failure}\n")
            sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def _interrupted(self, number: int, frame: object) -> None:
        if self.failure is not None and not self.ending:
            self.stop()

    def stop(self) -> NoReturn:
        """Raise what ended the work of all."""
        assert self.failure is not None
        if threading.current_thread() is threading.main_thread():
            ignore_signals()
        raise self.failure

    def _tell_all(self, error: BaseException | None) -> None:
        code = _exit_code(error)
        fields = {"expected": "all processes", "found": f"exit code {code}", "remedy": "see there"}
        said = {"failed": {"what": "process 0 ended the work", "code": code, **fields}}
        for link in self._links.values():
            _tell(link, {"done": True} if error is None else said)

    def end(self, error: BaseException | None) -> BaseException | None:
        """What the block ends with in this process: the other processes are told and waited for."""
        if isinstance(error, SystemExit) and not error.code:
            error = None
        if error is not None and not isinstance(error, (BenchError, KeyboardInterrupt, SystemExit)):
            self.failed.wait(2.0)  # a death breaks what a process is just doing, too
        with self._lock:
            self.ending = True
        if self._failing:
            self.failed.wait(2.0)
        if self._timer is not None:
            self._timer.cancel()
        if self.failure is not None and not isinstance(error, SystemExit):  # one was told already
            error = self.failure
        if error is None:
            for close in self.at_end:
                close()
        if self.number == 0:
            if error is None:
                self.closed.wait(GRACE)
            if self.failure is None:
                self._tell_all(error)
        else:
            _tell(self._links[0], _said(error, self.number, self.count))
            if not isinstance(self.failure, OtherProcessError) and _exit_code(error) <= 128:
                # torchrun stops all when one fails: process 0 must know the error by then. It may
                # be in a sum that waits for this process, which only the end of this one breaks.
                self.closed.wait(GRACE if error is None else 3 * OWN_FIRST)
            if self.number == 1 and isinstance(error, OtherProcessError) and 0 not in self.gone:
                sys.stdout, sys.stderr = _streams or (sys.stdout, sys.stderr)
        return error

    # -- the store

    def wait(
        self, ready: Callable[[], bool], meanwhile: Callable[[], object] | None = None
    ) -> None:
        """Return once `ready()`; call `meanwhile()` now and then."""
        pause = SHORTEST
        while True:
            if self.failure is not None:
                self.stop()
            with self.talking():
                if ready():
                    return
            if meanwhile is not None:
                meanwhile()
            time.sleep(pause)
            pause = min(LONGEST, 1.5 * pause)

    def get(self, key: str, meanwhile: Callable[[], object] | None = None) -> str:
        """The value of a key of the store, once it has one."""
        self.wait(lambda: bool(self.store.check([key])), meanwhile)
        return str(self.store.get(key).decode())

    def turn(self, name: str) -> str:
        """The key of a call that all processes make in the same order."""
        self.turns[name] += 1
        return f"{name}/{self.turns[name]}"

    @contextmanager
    def talking(self) -> Iterator[None]:
        """An error of torch.distributed in the block is that of the process that has failed."""
        try:
            yield
        except (RuntimeError, OSError):
            self.failed.wait(5.0)
            if self.failure is not None:
                self.stop()
            raise


def _open_store() -> Any:
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    try:
        store = next(rendezvous("env://", timeout=timedelta(seconds=START)))[0]
    except (RuntimeError, OSError) as error:
        raise _not_found(exception_text(error)) from error
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"mlfsic-bench/{attempt}", store)


def _tell(link: BinaryIO, said: object) -> None:
    with contextlib.suppress(OSError, ValueError):  # the other end is gone
        link.write(json.dumps(said).encode() + b"\n")
        link.flush()


def _said(error: BaseException | None, number: int, count: int) -> dict[str, Any]:
    """How a process ended, in words for process 0."""
    if error is None:
        return {"done": True}
    if _exit_code(error) > 128:
        return {"stopped": _exit_code(error)}
    if isinstance(error, BenchError):
        fields = {"expected": error.expected, "found": error.found, "remedy": error.remedy}
        what = error.what
    else:
        last = traceback.extract_tb(error.__traceback__)[-1:]
        lines = [f"{one.filename}:{one.lineno} in {one.name}: {one.line}" for one in last]
        fields = {
            "expected": "no exception",
            "found": "\n".join([exception_text(error), *lines]),
            "remedy": "run with one process to see more; the same command resumes the run",
        }
        what = "an unexpected error"
    what = f"process {number} of {count} failed: {what}"
    return {"failed": {"what": what, "code": _exit_code(error), **fields}}


def _exit_code(error: BaseException | None) -> int:
    if isinstance(error, BenchError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return exit_code(error)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    return 0 if error is None else 1


def _died(other: int, count: int) -> OtherProcessError:
    return OtherProcessError(
        f"process {other} of {count} died",
        expected="all processes, until the work is done",
        found="a connection that broke: the process was killed, or crashed",
        remedy="see what the system says (was memory short?), then give the same command again: "
        "it goes on where this one ended, with any number of processes",
    )


def _not_found(found: str) -> BenchError:
    return BenchError(
        "the processes that torchrun started don't find each other",
        expected=f"all of them at {os.environ['MASTER_ADDR']} within {START:.0f} s",
        found=found,
        remedy="check the addresses given to torchrun and what the other processes say; unset "
        "WORLD_SIZE to work with one process",
    )


# -- orders and shared work ---------------------------------------------------------------------


def agree(what: str, value: str) -> None:
    """BenchError in all processes unless `value` is the same in all of them."""
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
        raise BenchError(
            f"the processes do not agree on {what}",
            expected=f"{value[:12]}, as process 0 has it",
            found=f"{values[other][:12]} in process {other}",
            remedy="give all processes the same files, packages and options",
        )
    _team.store.set(f"{key}/agreed", "")


END = "end"


def lead(order: str) -> None:
    """Process 0: tell the others what to do next (`follow`); END when there is nothing more."""
    if _team is not None and not _team.number:
        _team.store.set(_team.turn("order"), order)


def follow(meanwhile: Callable[[], object]) -> Iterator[str]:
    """Another process: the orders of process 0 until END; `meanwhile` is called while it waits."""
    assert _team is not None
    while (order := _team.get(_team.turn("order"), meanwhile)) != END:
        yield order
        _team.store.add(f"order/{_team.turns['order']}/done", 1)


def all_followed() -> None:
    """Process 0: wait until all others have done what they were told last."""
    if _team is not None:
        team, key = _team, f"order/{_team.turns['order']}/done"
        team.wait(lambda: team.store.add(key, 0) == team.count - 1)


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

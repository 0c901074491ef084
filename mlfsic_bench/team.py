"""The processes of one run as one of them sees them: connections, the store, one error for all.

Process 0 leads, and every other has a connection with it. A connection carries how a process ended,
and breaks when one dies; then all end within seconds, with one error. torchrun's store of keys and
values carries all else (`distributed`).
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
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, cast

from mlfsic_bench.errors import BenchError
from mlfsic_bench.signals import INTERRUPT, Stopped, end_anyway, exit_code, ignore_signals
from mlfsic_bench.text import exception_text

if TYPE_CHECKING:
    import socket

START = 120.0  # seconds until all processes must have found each other
GRACE = 15.0  # seconds that a process has to end by itself after another has failed
OWN_FIRST = 1.0  # seconds in which process 0 meets by itself an error that all processes meet
# seconds without a word until the other end is asked, and between questions, and how many
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}
SHORTEST, LONGEST = 0.01, 0.25  # seconds between two looks at the store


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
                    found = _introduced(server.accept()[0], token)
                except TimeoutError as error:
                    raise _not_found(f"{len(links) + 1} of {self.count} came") from error
                except OSError:
                    continue
                if found is not None:
                    links[found[0]] = found[1]
        return links

    def _connected(self) -> BinaryIO:
        """Another process: its connection with process 0."""
        import socket

        try:
            host, port, token = json.loads(self.store.get("hub"))
        except RuntimeError as error:  # of torch: nothing was said in time
            raise _not_found(f"nothing from process 0: {exception_text(error)}") from error
        try:
            connection = socket.create_connection((host, port), START)
        except OSError as error:
            raise _not_found(f"process 0 at {host} port {port}: {error}") from error
        _watched(connection)
        link = _link(connection)
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

    def _give_up(self) -> None:
        """The process is stuck in code that can't be interrupted, such as a wait for a GPU."""
        if self.number == 0 and sys.stderr is not None:
            sys.stderr.write(f"error: {self.failure}\n")
            sys.stderr.flush()
        os._exit(_exit_code(self.failure))

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
        return error

    def speaks_for_all(self, error: BaseException | None) -> bool:
        """Whether it is this process that prints the error, since process 0 died."""
        return self.number == 1 and isinstance(error, OtherProcessError) and 0 not in self.gone

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
                if self.number and self.closed.is_set():
                    raise _left()
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

    def in_words(self, error: BenchError) -> str:
        """An error of this process, for `from_words` in another one."""
        return json.dumps(_said(error, self.number, self.count)["failed"])

    def from_words(self, said: str) -> BenchError:
        """The error of another process."""
        return OtherProcessError(**json.loads(said))

    @contextmanager
    def talking(self) -> Iterator[None]:
        """An error of torch.distributed in the block is that of the process that has failed."""
        try:
            yield
        except (RuntimeError, OSError) as error:
            self.failed.wait(5.0)
            if self.failure is not None:
                self.stop()
            if self.number and self.closed.is_set():
                raise _left() from error
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


def _introduced(connection: socket.socket, token: str) -> tuple[int, BinaryIO] | None:
    """(number, link) of another process; None for a stranger, who is turned away."""
    connection.settimeout(5.0)
    link = _link(connection)
    said = None
    with contextlib.suppress(OSError, ValueError, RecursionError):
        said = json.loads(link.readline(1000))
    if not isinstance(said, list) or said[:1] != [token]:
        link.close()
        return None
    _watched(connection)
    return int(said[1]), link


def _link(connection: socket.socket) -> BinaryIO:
    """The connection as a file, which closes it."""
    link = cast(BinaryIO, connection.makefile("rwb"))
    connection.close()
    return link


def _watched(connection: socket.socket) -> None:
    """Let the connection break within two minutes of the other machine's end, and not before."""
    import socket

    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


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


def _left() -> OtherProcessError:
    return OtherProcessError(
        "process 0 has ended while this process still waits for it",
        expected="processes that do the same work",
        found="work that only this process has to do",
        remedy="give all processes the same files and the same cache folder, then try again",
    )


def _not_found(found: str) -> BenchError:
    return BenchError(
        "the processes that torchrun started don't find each other",
        expected=f"all of them at {os.environ['MASTER_ADDR']} within {START:.0f} s",
        found=found,
        remedy="check the addresses given to torchrun and what the other processes say; unset "
        "WORLD_SIZE to work with one process",
    )

"""A run's side of a fresh process: start it, ask it for scores, hand it features, end it.

One process of this kind serves all audits of a program; it has imported torch and no method, and
forks for every session (`child`). It is started when an audit asks for it, or forked from a command
that has just begun. Whatever goes wrong in it is a FreshFailedError here.
"""

from __future__ import annotations

import atexit
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.evaluation.audit.messages import Arrays, Message, receive, send
from mlfsic_bench.evaluation.predict import Chunk
from mlfsic_bench.evaluation.record import AuditKind
from mlfsic_bench.paths import exists
from mlfsic_bench.randomness import stream_seed

if TYPE_CHECKING:
    from mlfsic_bench.features.sources import FeatureSource
    from mlfsic_bench.methods.contract import Support

# The program's own search path comes first: what it imports is what the fresh process imports.
START = (
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from mlfsic_bench.evaluation.audit.child import main; main()"
)
DIED: AuditKind = "the fresh process died"
HUNG: AuditKind = "the fresh process hung"
FAILED: AuditKind = "the method failed in a fresh process"
Float32 = npt.NDArray[np.float32]
LINES = 5  # of what a process that died had printed


class FreshFailedError(Exception):
    """The fresh process gave no scores."""

    def __init__(self, kind: AuditKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class Fresh:
    """A session: a method as its saved state says, in a process that has run nothing else of it.

    Use it in a `with`. Raises FreshFailedError.

    Parameters
    ----------
    job: what `child` needs to make the method.
    embeddings: float32 [L, d_w] or None.
    source: where the run's features come from.
    limit_s: seconds that one answer may take.
    nudge: number of a draw: every number of the features is changed by at most its last bit, each
        image's alike whenever it is asked for; None leaves them as they are.
    """

    def __init__(
        self,
        job: Mapping[str, Any],
        embeddings: npt.NDArray[np.float32] | None,
        source: FeatureSource,
        limit_s: float,
        nudge: int | None = None,
    ) -> None:
        self.job = {**job, "limit_s": limit_s}
        self.embeddings = embeddings
        self.source = source
        self.limit_s = limit_s
        self.nudge = nudge
        self.server: _Server | None = None

    def __enter__(self) -> Fresh:
        self.server = _running()
        try:
            self._command(
                self.job, {} if self.embeddings is None else {"embeddings": self.embeddings}, ()
            )
        except BaseException as failure:
            self._leave(failure)
            raise
        return self

    def __exit__(self, kind: object, failure: BaseException | None, trace: object) -> None:
        self._leave(failure)

    def _leave(self, failure: BaseException | None) -> None:
        """Let the process serve on when the session ended by itself, also with an error it told."""
        if self.server is None:
            return
        server, self.server = self.server, None
        told = isinstance(failure, FreshFailedError) and failure.kind == FAILED
        with suppress(FreshFailedError):
            if failure is None:
                server.tell({"end": True}, {})
            if failure is None or told:
                server.hear(self.limit_s)  # how the session ended
                return
        stop()

    def score(
        self,
        first: int,
        supports: Sequence[Support],
        which: int,
        blocks: Sequence[Sequence[str]],
        *,
        together: bool = False,
        seconds: float | None = None,
    ) -> Chunk:
        """(float32 [n, L] scores, bool [n, L] decisions or None) of these images, in their order.

        Parameters
        ----------
        first: the number of the first support's episode.
        supports: of one episode, or of several.
        which: the place in `supports` of the episode whose queries are scored.
        blocks: ids of the query images, those of a block scored together.
        together: whether `adapt_all` gets all supports at once; else `adapt` gets each in its turn.
        seconds: after which the blocks that are left are not scored; None for all blocks.
        """
        ids = [list(support.images.ids) for support in supports]
        head = {
            "first": first,
            "supports": ids,
            "seeds": [support.seed for support in supports],
            "which": which,
            "blocks": [list(block) for block in blocks],
            "together": together,
            "seconds": seconds,
        }
        targets = {f"targets{i}": one.targets.cpu().numpy() for i, one in enumerate(supports)}
        arrays = self._command(head, targets, [i for some in (*ids, *blocks) for i in some])
        return arrays["scores"], arrays.get("decisions")

    def _command(
        self, head: Mapping[str, Any], arrays: Arrays, allowed: Iterable[str]
    ) -> dict[str, npt.NDArray[Any]]:
        """Send a command, serve what the method asks for meanwhile, return the answer's arrays."""
        assert self.server is not None
        end, ids = time.monotonic() + self.limit_s, frozenset(allowed)
        self.server.tell(head, arrays)
        while True:
            answer, given = self.server.hear(end - time.monotonic())
            if "get" in answer:
                self.server.tell(*self._features(answer, ids))
            elif "error" in answer:
                raise FreshFailedError(FAILED, f"{answer['error']} ({answer['found']})")
            elif "ended" in answer:
                raise FreshFailedError(DIED, self.server.ended(answer["ended"]))
            else:
                return given

    def _features(
        self, request: Mapping[str, Any], allowed: frozenset[str]
    ) -> tuple[dict[str, Any], Arrays]:
        import torch

        from mlfsic_bench.features.sources import JoinedFeatures
        from mlfsic_bench.methods.limited import LimitedFeatures, not_given

        ids = request["ids"]
        foreign = [image_id for image_id in ids if image_id not in allowed]
        if foreign:
            error = not_given(foreign)
            refused = {k: getattr(error, k) for k in ("what", "expected", "found", "remedy")}
            return {"refused": refused}, {}
        source: Any = self.source
        if request["get"] == "inputs":  # of a live network, which lies inside
            source = source.source if isinstance(source, LimitedFeatures) else source
            if isinstance(source, JoinedFeatures):
                source = source.sources[request["network"]]
        with torch.no_grad():
            found = getattr(source, request["get"])(ids)
        features = found.detach().to("cpu", torch.float32).numpy()
        if self.nudge is not None:
            features = nudged(features, ids, self.nudge)
        return {}, {"features": features}


def nudged(features: Float32, ids: Sequence[str], draw: int) -> Float32:
    """Features [n, ...], each number times 1 + u with |u| < 2^-23, drawn by image and `draw`."""
    streams = (np.random.default_rng(stream_seed("audit", "nudge", draw, one)) for one in ids)
    by = np.stack([stream.uniform(-1, 1, features.shape[1:]) for stream in streams])
    return (features * (1 + by * 2.0**-23)).astype(np.float32)


def search_path() -> list[str]:
    """Where this program finds its modules, places as absolute paths; some names are no places."""
    return [str(Path(p).absolute()) if exists(Path(p)) else p for p in sys.path]


class _Server:
    """The process that forks for every session, and a thread that listens to it."""

    def __init__(self, forked: bool = False) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process lives
        self.process: subprocess.Popen[bytes] | _Forked
        if forked:
            self.process = _Forked(self.log)
        else:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, *search_path()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for the run, which then ends this process
            )
        self.messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.listener = threading.Thread(target=self._listen, name="audit", daemon=True)
        self.listener.start()

    def tell(self, head: Mapping[str, Any], arrays: Arrays) -> None:
        assert self.process.stdin is not None
        try:
            send(self.process.stdin, head, arrays)
        except OSError as error:
            raise FreshFailedError(DIED, self.ended(self.process.poll())) from error

    def hear(self, seconds: float) -> Message:
        try:
            message = self.messages.get(timeout=max(0.0, seconds))
        except queue.Empty as error:
            raise FreshFailedError(HUNG, "no answer came in time") from error
        if message is None:
            raise FreshFailedError(DIED, self.ended(self.process.poll()))
        return message

    def stop(self) -> None:
        """End the process with all that it started."""
        _kill(self.process)
        self.process.wait()
        self.listener.join()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            if stream is not None:
                stream.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        try:
            while True:
                self.messages.put(receive(self.process.stdout))
        except (EOFError, OSError, ValueError, KeyError, TypeError):
            self.messages.put(None)

    def ended(self, code: int | None) -> str:
        """How it ended, with the last lines that it printed."""
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()[-LINES:]
        return "\n".join([f"it ended with exit code {code}", *lines])


class _Forked:
    """A fork of this process that serves sessions, with what is used of a `subprocess.Popen`."""

    def __init__(self, log: IO[bytes]) -> None:
        from mlfsic_bench.evaluation.audit import child

        (commands, to_child), (from_child, answers) = os.pipe(), os.pipe()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()  # or both processes would print what it holds
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()  # Ctrl-C is for the run, which then ends this process
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_DFL)
                os.close(to_child)
                os.close(from_child)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                sys.stdout = sys.stderr = os.fdopen(2, "w", errors="backslashreplace")
                child.serve(child.Pipe(os.fdopen(commands, "rb", 0), os.fdopen(answers, "wb", 0)))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(commands)
        os.close(answers)
        self.stdin, self.stdout = os.fdopen(to_child, "wb", 0), os.fdopen(from_child, "rb", 0)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None as long as it runs."""
        return self._waited(os.WNOHANG)

    def wait(self) -> int | None:
        """The exit code, once it has ended."""
        return self._waited(0)

    def kill(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)

    def _waited(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


_server: _Server | None = None


def fork_early() -> None:
    """Fork the process that audits now, while nothing of a method has run in this one.

    For programs that have just imported torch and done nothing else: as fresh as a process that
    starts later, without the seconds in which that imports torch again.
    """
    global _server
    if _server is None and hasattr(os, "fork") and threading.active_count() == 1:
        with suppress(OSError):  # one is started later
            _server = _Server(forked=True)


def _running() -> _Server:
    global _server
    if _server is None or _server.process.poll() is not None:
        stop()
        _server = _Server()
    return _server


def stop() -> None:
    """End the process, if there is one; the next session starts another."""
    global _server
    server, _server = _server, None
    if server is not None:
        server.stop()


def _kill(process: subprocess.Popen[bytes] | _Forked) -> None:
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):  # it has ended, or has not yet made its group
            os.killpg(process.pid, signal.SIGKILL)  # a forked session is of the same group
    if process.poll() is None:
        process.kill()


atexit.register(stop)

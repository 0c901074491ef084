"""Runs hostile cases with little memory and time, in one process of their own; Linux only.

Everything heavy is imported once. A case that ends the process, or uses up its memory or time, is
reported as its own fault, and the next one gets a new process.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pkgutil
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.fakes.processes import FORKS
from tests.hostile.cases import HOSTILE, Command

MEMORY = 1 << 30  # address space beyond what the process has before the case
SECONDS = 20  # of processor time; none of the readers takes two
MODULES = (
    "score_archive",
    "score_member",
    "score_meta",
    "score_path",
    "entry",
    "split",
    "store",
    "pack",
    "yaml",
    "other",
)
CRASHED = 70  # exit status for any exception but those of the command line


class Runner:
    """The process that runs cases, each below `folder`; started anew when a case has ended it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._start()

    def run(self, name: str) -> dict[str, Any]:
        """A case's exit status, output, peak of memory, seconds, and what it left behind."""
        self.asked.send(name)
        try:
            result: dict[str, Any] = self.asked.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            self._start()
            return {"status": code, "out": "", "err": f"the process ended with {code}"}
        return result

    def close(self) -> None:
        self.asked.close()
        self.process.join()

    def _start(self) -> None:
        self.asked, answered = FORKS.Pipe()
        # each process has a folder of its own, for a case that is tried again
        place = Path(tempfile.mkdtemp(dir=self.folder))
        self.process = FORKS.Process(target=serve, args=(answered, place))
        self.process.start()
        answered.close()


def serve(asked: Connection, folder: Path) -> None:
    """Run the cases that are asked for until nobody asks any more."""
    for name in MODULES:
        importlib.import_module(f"tests.hostile.{name}_cases")
    _import_all()
    os.environ["MLFSIC_CACHE"] = str(folder / "cache")
    os.environ.pop("MLFSIC_DATA", None)
    from tests.hostile.sound import write_sound

    (folder / "sound").mkdir()
    write_sound(folder / "sound")
    gc.collect()
    gc.freeze()  # a collection need not look at what all cases share
    number = 0
    with contextlib.suppress(EOFError):
        while True:
            case = HOSTILE[asked.recv()]
            place = folder / f"case-{(number := number + 1)}"
            place.mkdir()
            os.chdir(place)
            asked.send(_run(case.prepare(folder / "sound"), folder, place))


def _import_all() -> None:
    """Every module of the package that a reader may import, so that no case pays for one."""
    import mlfsic_bench

    for module in pkgutil.walk_packages(mlfsic_bench.__path__, "mlfsic_bench."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    for name in (
        "matplotlib.figure",
        "scipy.stats",
        "sklearn.metrics",
        "mlfsic_baselines.prototypes.protonet",
    ):
        importlib.import_module(name)


def _run(command: Command, folder: Path, place: Path) -> dict[str, Any]:
    before, texts = _tree(place), []
    gc.collect()
    with tempfile.TemporaryFile(dir=folder) as out, tempfile.TemporaryFile(dir=folder) as err:
        with _limits(), _outputs(out.fileno(), err.fileno()):
            start, start_rss = _processor_seconds(), _reset_peak()
            status = _call(command)
            peak, seconds = _status("VmHWM") - start_rss, _processor_seconds() - start
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read(1 << 20).decode("utf-8", "replace"))
    return {
        "status": status,
        "out": texts[0],
        "err": texts[1],
        "peak": peak,
        "seconds": seconds,
        "changed": _changed(before, _tree(place)),
    }


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """As much memory and time as a case may use; what goes beyond ends the process or the case."""
    used = int(_processor_seconds())
    limits = {resource.RLIMIT_AS: _status("VmSize") + MEMORY, resource.RLIMIT_CPU: used + SECONDS}
    before = {kind: resource.getrlimit(kind) for kind in limits}
    for kind, soft in limits.items():
        resource.setrlimit(kind, (soft, before[kind][1]))
    signal.alarm(3 * SECONDS)  # for a reader that waits without computing
    try:
        yield
    finally:
        signal.alarm(0)
        for kind, limit in before.items():
            resource.setrlimit(kind, limit)


@contextlib.contextmanager
def _outputs(out: int, err: int) -> Iterator[None]:
    """Standard output and error go to these files."""
    kept = os.dup(1), os.dup(2)
    os.dup2(out, 1)
    os.dup2(err, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for mine, number in zip(kept, (1, 2), strict=True):
            os.dup2(mine, number)
            os.close(mine)


def _call(command: Command) -> int:
    from mlfsic_bench.cli.main import main as program
    from mlfsic_bench.errors import BenchError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # as for a user: what is warned of is in the output
            if isinstance(command, list):
                program(command)
            else:
                command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BenchError as error:  # of a reader without a verb: what the program would do
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        return CRASHED
    return 0


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _reset_peak() -> int:
    """Let VmHWM, the peak of memory, begin anew; bytes of memory that are in use now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(key: str) -> int:
    """Bytes, from /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def _tree(place: Path) -> dict[str, tuple[int, int]]:
    """Every path with size and time of change, links and pipes not followed."""
    found = {}
    for path in place.rglob("*"):
        state = path.lstat()
        found[path.relative_to(place).as_posix()] = (state.st_size, state.st_mtime_ns)
    return found


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(p for p in {**before, **after} if before.get(p) != after.get(p))

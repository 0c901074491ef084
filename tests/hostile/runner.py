"""Runs hostile cases, each in a process of its own with little memory and time; Linux only.

    python -m tests.hostile.runner FOLDER

Everything heavy is imported once; each case then is a fork, so that its peak of memory is its own.
Writes FOLDER/results.json: a case's exit status, output, peak and what it left behind.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

from tests.hostile.cases import HOSTILE, Command

MEMORY = 1 << 30  # address space beyond that of the imported package
SECONDS = 20  # of processor time; none of the readers takes two
MODULES = (
    "score_archive",
    "score_member",
    "score_meta",
    "score_path",
    "entry",
    "split",
    "store",
    "yaml",
    "other",
)
CRASHED = 70  # exit status for any exception but those of the command line


def main(folder: Path) -> None:
    """Prepare and run every case below `folder`."""
    for name in MODULES:
        importlib.import_module(f"tests.hostile.{name}_cases")
    _import_all()
    os.environ["MLFSIC_CACHE"] = str(folder / "cache")
    os.environ.pop("MLFSIC_DATA", None)
    from tests.hostile.sound import write_sound

    (folder / "sound").mkdir()
    write_sound(folder / "sound")
    gc.collect()
    gc.freeze()  # so that a fork's collections don't copy what all forks share
    results: dict[str, Any] = {}
    for number, (name, case) in enumerate(HOSTILE.items()):
        place = folder / f"case-{number}"
        place.mkdir()
        os.chdir(place)
        command = case.prepare(folder / "sound")
        results[name] = _run(command, folder, place)
    (folder / "results.json").write_text(json.dumps(results))


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
        "mlfsic_baselines.protonet",
    ):
        importlib.import_module(name)


def _run(command: Command, folder: Path, place: Path) -> dict[str, Any]:
    before = _tree(place)
    limit = _status("VmSize") + MEMORY
    read, write = os.pipe()
    with tempfile.TemporaryFile(dir=folder) as out, tempfile.TemporaryFile(dir=folder) as err:
        child = os.fork()
        if child == 0:
            os.write(write, str(_status("VmRSS")).encode())
            _child(command, limit, out.fileno(), err.fileno())
        _, status, usage = os.wait4(child, 0)
        baseline = int(os.read(read, 40))
        os.close(read)
        os.close(write)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read(1 << 20).decode("utf-8", "replace"))
    return {
        "status": os.waitstatus_to_exitcode(status),
        "out": texts[0],
        "err": texts[1],
        "peak": usage.ru_maxrss * 1024 - baseline,
        "seconds": usage.ru_utime + usage.ru_stime,
        "changed": _changed(before, _tree(place)),
    }


def _child(command: Command, limit: int, out: int, err: int) -> None:
    """In the fork: run the command and leave; never returns."""
    status = CRASHED
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        signal.alarm(3 * SECONDS)  # for a reader that waits without computing
        status = _call(command)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _call(command: Command) -> int:
    from mlfsic_bench.cli.main import main as program
    from mlfsic_bench.errors import BenchError

    warnings.simplefilter("default")  # as for a user: what is warned of stands in the output
    try:
        if isinstance(command, list):
            program(command)
        else:
            command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BenchError as error:  # of a reader without a verb: what the program would do
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


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


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())

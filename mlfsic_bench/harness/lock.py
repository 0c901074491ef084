"""One writer per output folder: a lock that the system drops even when the writer is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.locks import lock_exclusively


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock while the block runs; BenchError when another process holds it."""
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+b")
    except OSError as error:
        raise BenchError(
            f"cannot write in the output folder {folder}",
            expected="a folder that can be written",
            found=f"{error.strerror or error} (errno {error.errno})",
            remedy="name another folder with --out",
        ) from error
    with stream:
        try:
            lock_exclusively(stream.fileno())
        except OSError as error:
            raise BenchError(
                f"another process is writing to {folder}",
                expected="one writer per output folder",
                found="a lock that is held",
                remedy="wait until the other run has ended, or name another folder with --out",
            ) from error
        yield

"""One writer per output folder: a lock that the system drops even when the writer is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import remove_left_behind
from mlfsic_bench.locks import LockHeldError, lock_exclusively
from mlfsic_bench.paths import reason


@contextmanager
def only_writer(
    folder: Path, inner: tuple[str, ...] = (), log: Callable[[str], None] = lambda line: None
) -> Iterator[None]:
    """Hold the folder's lock while the block runs; BenchError when another process holds it.

    Temporary files that a killed writer left in the folder and in its `inner` folders are removed.
    Where the file system has no locks, `log` is told so and the block runs all the same: every
    file of a run is written whole, and two processes of one run write the same bytes.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+b")
    except (OSError, ValueError) as error:
        number = f" (errno {error.errno})" if isinstance(error, OSError) else ""
        raise BenchError(
            f"cannot write in the output folder {folder}",
            expected="a folder that can be written",
            found=f"{reason(error)}{number}",
            remedy="name another folder with --out",
        ) from error
    with stream:
        try:
            locked = lock_exclusively(stream.fileno(), folder, log)
        except LockHeldError as error:
            raise BenchError(
                f"another process is writing to {folder}",
                expected="one writer per output folder",
                found="a lock that is held",
                remedy="wait until the other run has ended, or name another folder with --out",
            ) from error
        if locked:
            for place in (folder, *(folder / name for name in inner)):
                remove_left_behind(place, older_than=0.0)
        yield

"""Locks that the system drops even when the holder is killed: one writer for each folder.

Some file systems (certain NFS, FUSE and cluster ones) have no locks. There nothing can tell whether
another process writes to the same place; that is said once, and the work goes on.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import remove_left_behind
from mlfsic_bench.paths import reason

# What the system answers when another process holds the lock; all else means: no locks here.
HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_said: set[Path] = set()


class LockHeldError(Exception):
    """Another process holds the lock."""


def lock_exclusively(handle: int, folder: Path, log: Callable[[str], None]) -> bool:
    """Lock the open file at once, on behalf of `folder`; the system unlocks when the process ends.

    Returns whether it is locked: False where the file system has no locks, which `log` is told
    once for each folder. Raises LockHeldError when another process holds the lock.
    """
    try:
        _lock(handle)
    except OSError as error:
        if error.errno in HELD:
            raise LockHeldError(str(folder)) from error
        if folder not in _said:
            _said.add(folder)
            log(
                f"note: the file system of {folder} has no locks ({error.strerror}); "
                "let only one process at a time write there"
            )
        return False
    return True


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


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

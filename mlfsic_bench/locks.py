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
from mlfsic_bench.files import cannot_write, make_folder, remove_left_behind

# What the system answers when another process holds the lock; all else means: no locks here.
HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_said: set[Path] = set()


class BusyError(BenchError):
    """Another process writes to the folder."""


@contextmanager
def only_writer(
    folder: Path, inner: tuple[str, ...] = (), log: Callable[[str], None] = lambda line: None
) -> Iterator[None]:
    """Hold the folder's lock while the block runs; BusyError when another process holds it.

    The folder is made, and BenchError raised where that can't be. Temporary files that a killed
    writer left in it and in its `inner` folders are removed. Where the file system has no locks,
    `log` is told so once for each folder and the block runs all the same: every file of a run is
    written whole, and two processes of one run write the same bytes.
    """
    make_folder(folder)
    try:
        stream = (folder / ".lock").open("a+b")
    except (OSError, ValueError) as error:
        raise cannot_write(folder, error) from error
    with stream:
        try:
            _lock(stream.fileno())
            for place in (folder, *(folder / name for name in inner)):
                remove_left_behind(place, older_than=0.0)
        except OSError as error:
            if error.errno in HELD:
                raise BusyError(
                    f"another process is writing to {folder}",
                    expected="one writer per folder",
                    found="a lock that is held",
                    remedy="wait until the other process has ended, or name another folder",
                ) from error
            if folder not in _said:
                _said.add(folder)
                log(
                    f"note: the file system of {folder} has no locks ({error.strerror}); "
                    "let only one process at a time write there"
                )
        yield


def is_held(folder: Path) -> bool:
    """Whether another process holds the folder's lock now; False where there is no lock."""
    try:
        with (folder / ".lock").open("r+b") as stream:
            _lock(stream.fileno())
    except OSError as error:
        return error.errno in HELD
    return False


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

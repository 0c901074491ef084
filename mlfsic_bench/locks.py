"""An exclusive lock on an open file, which the system drops even when its holder is killed.

Some file systems (certain NFS, FUSE and cluster ones) have no locks. There nothing can tell whether
another process writes to the same place; that is said once, and the work goes on.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path

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


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

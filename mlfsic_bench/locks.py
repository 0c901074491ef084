"""An exclusive lock on an open file, which the system drops even when its holder is killed."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    import msvcrt

    def lock_exclusively(handle: int) -> None:
        """Lock the file or raise OSError at once; the system unlocks when the process ends."""
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def lock_exclusively(handle: int) -> None:
        """Lock the file or raise OSError at once; the system unlocks when the process ends."""
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

"""Decoded, resized images of one data set, transform and list of ids, in one file on disk.

Row i is that of id i: eight bytes that say what follows, then uint8 [size, size, 3]. The file is
sparse, and filled as images are asked for. No lock is needed: whoever writes a row writes the same
bytes, and a row that was cut off, or is not there yet, does not have its checksum and is made anew.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import weakref
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.hashing import hash_json

FOLDER = "images"
HEADER = struct.Struct("<4sI")
MAGIC = b"px1\n"
SPOT_CHECKS = 16  # kept images that are compared with the data set when a cache is opened
SPARE = 1 << 30  # bytes that stay free on the disk
Pixels = npt.NDArray[np.uint8]
HERE = hasattr(os, "preadv") and hasattr(os, "pwritev")  # not on Windows


class ImageCache:
    """The rows of `ids`, kept in a file of `folder`; `open_cache` makes one.

    Attributes
    ----------
    path: the file. It may be deleted at any time.
    size: side of the images.
    """

    def __init__(self, path: Path, ids: Sequence[str], size: int) -> None:
        self.path = path
        self.size = size
        self._row = {name: row for row, name in enumerate(ids)}
        self._row_bytes = HEADER.size + 3 * size * size
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        self._file = os.open(path, flags, 0o644)
        self._close = weakref.finalize(self, os.close, self._file)
        state = os.fstat(self._file)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(f"{path} is no regular file")
        self.filled = state.st_blocks * 512 / max(1, self.length)
        os.ftruncate(self._file, self.length)
        self._writes = True

    @property
    def length(self) -> int:
        """Bytes of the full file."""
        return len(self._row) * self._row_bytes

    def read(self, image_id: str, into: Pixels) -> bool:
        """Whether the image is kept; its pixels are then in `into`, uint8 [size, size, 3]."""
        row = self._row.get(image_id)
        if row is None:
            return False
        head = bytearray(HEADER.size)
        # `into` is a row of a larger array, contiguous itself
        parts: list[Any] = [head, into.data.cast("B")]
        try:
            found = os.preadv(self._file, parts, row * self._row_bytes)
        except OSError:
            return False
        if found != self._row_bytes:
            return False
        magic, checksum = HEADER.unpack(head)
        return bool(magic == MAGIC and checksum == _checksum(image_id, into))

    def write(self, image_id: str, pixels: Pixels) -> None:
        """Keep the pixels of an image; a disk that is full ends the keeping, and nothing else."""
        row = self._row.get(image_id)
        if row is None or not self._writes:
            return
        pixels = np.ascontiguousarray(pixels)
        head = HEADER.pack(MAGIC, _checksum(image_id, pixels))
        try:
            os.pwritev(self._file, [head, pixels.data.cast("B")], row * self._row_bytes)
        except OSError:
            self._writes = False

    def agrees(self, make: Callable[[str], Pixels]) -> bool:
        """Whether a few kept images, spread over the ids, are what `make` gives now."""
        kept = np.empty((self.size, self.size, 3), np.uint8)
        ids = list(self._row)
        return all(
            np.array_equal(kept, make(name))
            for name in ids[:: max(1, -(-len(ids) // SPOT_CHECKS))]
            if self.read(name, kept)
        )

    def close(self) -> None:
        """Close the file."""
        self._close()


def open_cache(
    cache: Path,
    dataset: str,
    transform: str,
    ids: Sequence[str],
    size: int,
    make: Callable[[str], Pixels],
    log: Callable[[str], None],
) -> ImageCache | None:
    """The cache of these images below the folder `cache`; None, said to `log`, where none can be.

    Parameters
    ----------
    dataset, transform: name and id; with the sorted `ids` they are the name of the file.
    size: side of the images.
    make: the pixels of an image. A file whose images are others is written again.
    """
    if not HERE or not ids:
        return None
    ids = sorted(set(ids))
    key = hash_json({"dataset": dataset, "transform": transform, "size": size, "ids": ids})
    path = cache / FOLDER / f"{dataset}-{key[:16]}.rows"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = ImageCache(path, ids, size)
        if made.filled and not made.agrees(make):
            log(f"{path} was made from other images; it is written again")
            made.close()
            path.unlink()
            made = ImageCache(path, ids, size)
        missing = (1 - min(1.0, made.filled)) * made.length
        if missing + SPARE > shutil.disk_usage(path.parent).free:
            made.close()
            log(f"no room for {missing / 1e9:.1f} GB of decoded images in {path.parent}")
            return None
    except OSError as error:
        log(f"decoded images are not kept: {error}")
        return None
    if missing > made.length / 2:
        log(f"decoded images are kept in {path} ({made.length / 1e9:.1f} GB when it is full)")
    return made


def _checksum(image_id: str, pixels: Pixels) -> int:
    return zlib.crc32(pixels.data.cast("B"), zlib.crc32(image_id.encode()))

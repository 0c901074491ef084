"""Decoded, resized images of one data set and transform, in one file on disk for all runs.

Row i is that of the data set's image i: eight bytes that say what follows, then uint8 [size, size,
3]. The file is sparse, and filled as images are asked for, so only these take room. No lock is
needed: whoever writes a row writes the same bytes, and a row that was cut off, or is not there yet,
does not have its checksum and is made anew.
"""

from __future__ import annotations

import os
import stat
import struct
import weakref
import zlib
from collections.abc import Callable, Mapping, Sequence
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
    """The rows of images in a file; `open_cache` makes one.

    Parameters
    ----------
    path: the file. It may be deleted at any time.
    rows: image id -> number of its row.
    size: side of the images.
    """

    def __init__(self, path: Path, rows: Mapping[str, int], size: int) -> None:
        self.size = size
        self._row = rows
        self._row_bytes = HEADER.size + 3 * size * size
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        self._file = os.open(path, flags, 0o644)
        self._close = weakref.finalize(self, os.close, self._file)
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            raise OSError(f"{path} is no regular file")
        self._writes = True

    def missing(self, count: int) -> int:
        """Bytes that the file grows by until it has so many images; at least 0."""
        return max(0, count * self._row_bytes - os.fstat(self._file).st_blocks * 512)

    def room(self) -> int:
        """Bytes that the disk has beyond those that stay free."""
        disk = os.fstatvfs(self._file)
        return disk.f_bavail * disk.f_frsize - SPARE

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
        """Keep the pixels of an image; a disk that gets full ends the keeping, and nothing else."""
        row = self._row.get(image_id)
        if row is None or not self._writes:
            return
        pixels = np.ascontiguousarray(pixels)
        head = HEADER.pack(MAGIC, _checksum(image_id, pixels))
        try:
            self._writes = self.room() > self._row_bytes  # others fill the disk, too
            if self._writes:
                os.pwritev(self._file, [head, pixels.data.cast("B")], row * self._row_bytes)
        except OSError:
            self._writes = False

    def agrees(self, ids: Sequence[str], make: Callable[[str], Pixels]) -> bool:
        """Whether a few kept images, spread over these, are what `make` gives now."""
        kept = np.empty((self.size, self.size, 3), np.uint8)
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
    images: Sequence[str],
    ids: Sequence[str],
    size: int,
    make: Callable[[str], Pixels],
    log: Callable[[str], None],
) -> ImageCache | None:
    """The cache of a data set below the folder `cache`; None, said to `log`, where none can be.

    Parameters
    ----------
    dataset, transform, images: its name and image ids, and the id of the transform. All runs with
        these share a file.
    ids: the images that are going to be asked for.
    size: side of the images.
    make: the pixels of an image. A file whose images are others is written again.
    """
    if not HERE or not ids:
        return None
    rows = {name: row for row, name in enumerate(sorted(images))}
    key = hash_json({"dataset": dataset, "transform": transform, "size": size, "ids": list(rows)})
    path = cache / FOLDER / f"{dataset}-{key[:16]}.rows"
    ids = sorted(set(ids))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = ImageCache(path, rows, size)
        if not made.agrees(ids, make):
            log(f"{path} was made from other images; it is written again")
            made.close()
            path.unlink(missing_ok=True)  # another process may have found the same
            made = ImageCache(path, rows, size)
        missing = made.missing(len(ids))
        if missing > made.room():
            made.close()
            log(f"no room for {missing / 1e9:.1f} GB of decoded images in {path.parent}")
            return None
    except OSError as error:
        log(f"decoded images are not kept: {error}")
        return None
    if missing:
        log(f"decoded images are kept in {path}, up to {missing / 1e9:.1f} GB more")
    return made


def _checksum(image_id: str, pixels: Pixels) -> int:
    return zlib.crc32(pixels.data.cast("B"), zlib.crc32(image_id.encode()))

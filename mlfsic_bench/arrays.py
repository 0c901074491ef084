"""Arrays in an `.npz` file: the same arrays always give the same bytes, and no pickle is read.

NumPy's own writer stamps the time into the archive and its reader trusts the archive's sizes;
here times are fixed and everything is checked against the array's header before it is loaded.
"""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import a_or_an, atomic_writer, no_file, open_regular

LIMIT = 1 << 30  # bytes in all members together
HEADER_LIMIT = 1 << 10  # NumPy's own are 118 bytes; a long one could exhaust Python's parser
DIRECTORY_LIMIT = 1 << 17  # bytes read at once while the archive's list of members is read
# What reading an archive of others raises.
UNREADABLE = (
    OSError,
    ValueError,
    RuntimeError,  # encrypted members; NotImplementedError is one
    OverflowError,  # offsets beyond 64 bits
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
)
TYPE = re.compile(r"[<|][bfiuSU][0-9]{1,9}")


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write named arrays to `path` as an uncompressed `.npz`, atomically and byte-reproducibly."""
    with atomic_writer(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            buffer = io.BytesIO()
            array = np.asarray(arrays[name], order="C")  # ascontiguousarray would add a dimension
            np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            archive.writestr(info, buffer.getvalue())


def read_arrays(
    path: Path,
    *,
    kind: str,
    required: Collection[str],
    optional: Collection[str] = (),
    limit: int = LIMIT,
    instead: Mapping[str, str] | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """The arrays in `path`; BenchError when it is not exactly such a file.

    Parameters
    ----------
    path: the file.
    kind: what the file is called in an error, e.g. `scores file`.
    required, optional: the member names that must and may stand in it; no other may.
    limit: the largest number of bytes that all members together may have.
    instead: of a required member, another that may stand in its place.

    Nothing is decompressed, nothing is unpickled, and at most `limit` bytes and a copy of the
    largest member are held in memory.
    """
    path = Path(path)
    try:
        with (
            open_regular(path) as stream,
            zipfile.ZipFile(bounded := BoundedFile(stream)) as archive,
        ):
            members = _members(archive, limit)
            needed = set(required)
            for name, other in (instead or {}).items():
                if other in members:
                    needed = needed - {name} | {other}
            _check_names(path, kind, set(members), needed, set(optional))
            bounded.bounded = False  # from here on each read has the size of a checked header
            return {name: _load(archive, info) for name, info in members.items()}
    except FileNotFoundError as error:
        raise no_file(kind, path, "check the path, or finish the run that writes it") from error
    except UNREADABLE as error:
        raise BenchError(
            f"{path} is not a readable {kind}",
            expected="an .npz file of uncompressed arrays without objects",
            found=f"{type(error).__name__}: {error}",
            remedy="check which file is named; if it is this one, make it or fetch it again",
        ) from error


class BoundedFile:
    """A file that `zipfile` may read, but not much of it at once until its members are known.

    The list of members can claim millions of them, each of which would become an object.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable
        self.bounded = True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; ValueError when they are the list of a great many members."""
        if not self.bounded:
            return self.stream.read(size)
        data = self.stream.read(DIRECTORY_LIMIT + 1 if size < 0 else min(size, DIRECTORY_LIMIT + 1))
        if len(data) > DIRECTORY_LIMIT:
            raise ValueError(f"a list of members longer than {DIRECTORY_LIMIT} bytes")
        return data


def _members(archive: zipfile.ZipFile, limit: int) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name in members or name == info.filename:
            raise ValueError(f"member {_short(info.filename)} is doubled or not an .npy file")
        if info.compress_type != zipfile.ZIP_STORED:  # so no member is larger than the file
            raise ValueError(f"member {_short(info.filename)} is compressed")
        members[name] = info
    total = sum(info.file_size for info in members.values())
    if total > limit:
        raise ValueError(f"its members have {total} bytes, above {limit}")
    return members


def _short(name: str) -> str:
    return repr(name) if len(name) <= 60 else f"{name[:60]!r}... ({len(name)} characters)"


def _check_names(
    path: Path, kind: str, found: set[str], required: set[str], optional: set[str]
) -> None:
    if not required <= found <= required | optional:
        extra = f" and perhaps {', '.join(sorted(optional))}" if optional else ""
        raise BenchError(
            f"{path} is not {a_or_an(kind)}: its members are not the ones such a file has",
            expected=", ".join(sorted(required)) + extra,
            found=", ".join(_short(name) for name in sorted(found)[:8]) or "(no member)",
            remedy=f"name {a_or_an(kind)} that mlfsic-bench wrote",
        )


def _load(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
    with archive.open(info) as stream:
        shape, dtype = read_header(info.filename, stream)
        size = math.prod(shape) * dtype.itemsize
        if info.file_size != stream.tell() + size:
            raise ValueError(f"member {info.filename!r} has another size than its header says")
        data = stream.read(size + 1)
        if len(data) != size:
            raise ValueError(f"member {info.filename!r} holds {len(data)} bytes, not {size}")
    if dtype.kind == "b" and data.translate(None, b"\0\1"):
        raise ValueError(f"member {info.filename!r} holds truth values that are not 0 or 1")
    if dtype.kind == "U" and (np.frombuffer(data, "<u4") > 0x10FFFF).any():
        raise ValueError(f"member {info.filename!r} holds text that is not Unicode")
    return np.frombuffer(data, dtype).reshape(shape).copy()


def read_header(name: str, stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of a version 1.0 member, its stream then at the first number."""
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("not version 1.0 of the format")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Python warns of odd text instead of refusing it
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, HEADER_LIMIT)
    except Exception as error:  # whatever Python's parser and NumPy run into
        first = str(error).split("\n")[0]
        raise ValueError(f"member {name!r} has an unreadable header: {first}") from error
    if fortran or TYPE.fullmatch(dtype.str) is None or dtype.itemsize == 0:
        raise ValueError(
            f"member {name!r} is not a plain array in C order, of the type {dtype.str!r}: only "
            "little-endian numbers and text may stand there, and objects are never read"
        )
    if not all(type(n) is int and 0 <= n <= LIMIT for n in shape):
        raise ValueError(f"member {name!r} has the shape {shape!r}")
    return shape, dtype

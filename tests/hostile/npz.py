"""Making `.npz` files that are wrong in one way, from the members of a sound one."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path("scores.npz")  # the file that cases write, in the current folder
SCORE = ["score", str(FILE)]  # and the command that reads it


def members(path: Path) -> dict[str, bytes]:
    """The bytes of every member, by its name in the archive."""
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def npy(array: np.ndarray[Any, Any]) -> bytes:
    """An array as NumPy writes it, objects too."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=True)
    return buffer.getvalue()


def raw_npy(header: str | bytes, data: bytes = b"") -> bytes:
    """A version 1.0 member with any header."""
    text = header.encode("latin1") if isinstance(header, str) else header
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def header(descr: object = "<f4", shape: object = (3, 24, 6), fortran: object = False) -> str:
    """The text of a header."""
    return f"{{'descr': {descr!r}, 'fortran_order': {fortran!r}, 'shape': {shape!r}, }}\n"


def archive(path: Path, content: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> str:
    """An archive of these members; its path as text."""
    with zipfile.ZipFile(path, "w", method) as stream:
        for name, data in content.items():
            stream.writestr(zipfile.ZipInfo(name), data, method)
    return str(path)


def patched(path: Path, content: dict[str, bytes], find: bytes, offset: int, new: bytes) -> str:
    """An archive in which `new` stands `offset` bytes after every place of `find`."""
    archive(path, content)
    data = bytearray(path.read_bytes())
    at = data.find(find)
    while at >= 0:
        data[at + offset : at + offset + len(new)] = new
        at = data.find(find, at + 1)
    path.write_bytes(data)
    return str(path)


def sparse_zeros(path: Path, name: str, head: bytes, size: int, rest: dict[str, bytes]) -> str:
    """An archive whose first member is `head` and `size` zero bytes, which take no disk."""
    crc = zlib.crc32(head)
    block = bytes(1 << 20)
    for _ in range(size >> 20):
        crc = zlib.crc32(block, crc)
    crc = zlib.crc32(bytes(size & ((1 << 20) - 1)), crc)
    whole = len(head) + size
    local = struct.pack(
        "<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 33, crc, whole, whole, len(name), 0
    )
    with path.open("wb") as stream:
        stream.write(local + name.encode() + head)
        stream.truncate(len(local) + len(name) + whole)
    offset, entries, more = len(local) + len(name) + whole, [], b""
    entries.append(_entry(name, crc, whole, 0))
    for other, data in rest.items():
        place, check = offset + len(more), zlib.crc32(data)
        more += struct.pack(
            "<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 33, check, len(data), len(data), len(other), 0
        )
        more += other.encode() + data
        entries.append(_entry(other, check, len(data), place))
    directory = b"".join(entries)
    start = offset + len(more)
    count = len(entries)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory), start, 0)
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(more + directory + end)
    return str(path)


def _entry(name: str, crc: int, size: int, offset: int) -> bytes:
    fixed = (0x314, 20, 0, 0, 0, 33, crc, size, size, len(name), 0, 0, 0, 0, 0, offset)
    return struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *fixed) + name.encode()

"""Messages between a run and the fresh process that audits it: a JSON object and named arrays.

A message is the length of its head (8 bytes, little endian), the head, then the bytes of the arrays
whose names, types and shapes the head lists under `arrays`. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

HEAD_LIMIT = 64 << 20  # bytes; 1024 ids of query images take 30 kB
LIMIT = 4 << 30  # bytes of an array
TYPES = ("float32", "bool")
Arrays = Mapping[str, npt.NDArray[Any]]
Message = tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]


def send(stream: IO[bytes], head: Mapping[str, Any], arrays: Arrays | None = None) -> None:
    """Write a message; OSError when nobody reads any more."""
    listed = [[name, str(value.dtype), list(value.shape)] for name, value in (arrays or {}).items()]
    data = json.dumps({**head, "arrays": listed}).encode()
    _write(stream, len(data).to_bytes(8, "little") + data)
    for value in (arrays or {}).values():
        _write(stream, np.ascontiguousarray(value).tobytes())


def receive(stream: IO[bytes]) -> Message:
    """The next message; EOFError when the stream has ended, ValueError for what is no message."""
    length = int.from_bytes(_read(stream, 8), "little")
    if length > HEAD_LIMIT:
        raise ValueError(f"a message whose head has {length} bytes")
    head = json.loads(_read(stream, length))
    arrays = {}
    for name, kind, shape in head.pop("arrays"):
        size = math.prod(shape) * np.dtype(kind).itemsize
        if kind not in TYPES or not 0 <= size <= LIMIT:
            raise ValueError(f"an array of type {kind} and shape {shape}")
        data = np.frombuffer(_read(stream, size), kind)
        arrays[name] = data.reshape(shape).copy()  # a buffer of bytes can't be written to
    return head, arrays


def _write(stream: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:  # a raw pipe takes as much as it has room for
        rest = rest[stream.write(rest) :]
    stream.flush()


def _read(stream: IO[bytes], size: int) -> bytes:
    parts = []
    while size:
        part = stream.read(size)
        if not part:
            raise EOFError("the other process has ended")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)

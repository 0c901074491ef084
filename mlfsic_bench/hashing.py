"""Canonical bytes and SHA-256 of files and of JSON values."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from mlfsic_bench.files import open_regular
from mlfsic_bench.progress import progress

MIB = 1 << 20


def canonical_json(value: Any) -> bytes:
    """`value` as UTF-8 JSON with sorted keys, no spaces and no NaN: equal values, equal bytes."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def hash_json(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical bytes of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def hash_bytes(data: bytes) -> str:
    """SHA-256 (64 hex digits) of `data`."""
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """SHA-256 (64 hex digits), or the MD5 of an official archive, of a file's bytes.

    It is read in pieces. OSError when it can't be read, BenchError when a Git LFS pointer lies in
    its place.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open_regular(path) as stream:
        blocks = -(-os.fstat(stream.fileno()).st_size // MIB)
        with progress(f"hashing {path.name}", blocks, unit="MiB") as advance:
            while block := stream.read(MIB):
                digest.update(block)
                advance(1)
    return digest.hexdigest()

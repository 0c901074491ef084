"""Canonical bytes and SHA-256 of files and of JSON values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mlfsic_bench.files import open_regular


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


def hash_file(path: Path) -> str:
    """SHA-256 (64 hex digits) of a file's bytes, read in pieces.

    OSError when it can't be read, BenchError when a Git LFS pointer lies in its place.
    """
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

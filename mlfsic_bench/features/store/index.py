"""The index of a feature store: one JSON line per row, appended after the row's data."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular, parse_json
from mlfsic_bench.paths import reason
from mlfsic_bench.schema import is_plain

LIMIT = 128 << 20  # bytes of an index: a million images
INDEX, LOCAL, POOLED = "index.jsonl", "local.f16", "pooled.f32"


@dataclass(frozen=True)
class Index:
    """The complete lines of an index.

    Attributes
    ----------
    ids: image ids, row by row.
    digests: SHA-256 of each image's bytes.
    size: bytes of the complete lines; what lies behind them was cut off by a kill.
    """

    ids: tuple[str, ...]
    digests: tuple[str, ...]
    size: int


def index_lines(ids: Sequence[str], digests: Sequence[str]) -> bytes:
    """The lines of these rows, each ending with a line end."""
    pairs = zip(ids, digests, strict=True)
    lines = (json.dumps({"id": i, "sha256": d}, ensure_ascii=False) + "\n" for i, d in pairs)
    return "".join(lines).encode()


def read_index(folder: Path) -> Index:
    """The rows of a store; BenchError naming the line when one is not the index's.

    A last line without its line end is left out: its writer was killed, or is still writing.
    """
    path = folder / INDEX
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            data = stream.read(min(size, LIMIT))
    except FileNotFoundError:
        size, data = 0, b""
    except OSError as error:
        raise damaged(str(path), "a file that can be read", reason(error)) from error
    if size > LIMIT:
        raise damaged(str(path), f"at most {LIMIT} bytes", "more")
    size = data.rfind(b"\n") + 1
    ids: list[str] = []
    digests: list[str] = []
    for number, line in enumerate(data[:size].split(b"\n")[:-1], start=1):
        try:
            row = parse_json(line.decode("utf-8"))
            if not isinstance(row, dict) or not {"id", "sha256"} <= set(row):
                raise ValueError("no object with these keys")
            if len(row) > 2:
                raise ValueError(f"unknown key {next(iter(set(row) - {'id', 'sha256'}))!r}")
            if not is_plain(row["id"]) or not is_plain(row["sha256"]):
                raise ValueError("an id or a hash that is no plain text")
            ids.append(row["id"])
            digests.append(row["sha256"])
        except (ValueError, RecursionError) as error:
            raise damaged(
                f"{path} line {number}",
                'a line {"id": ..., "sha256": ...}',
                f"{type(error).__name__}: {error}",
            ) from error
    if len(set(ids)) != len(ids):
        double = next(name for name, count in Counter(ids).items() if count > 1)
        raise damaged(str(path), "each image once", f"{double!r} twice")
    return Index(tuple(ids), tuple(digests), size)


def check_sizes(folder: Path, rows: int, row_bytes: dict[str, int]) -> None:
    """BenchError when a data file is shorter than its rows; longer is what a kill leaves."""
    for name, size in row_bytes.items():
        path = folder / name
        try:
            with open_regular(path) as stream:
                have = os.fstat(stream.fileno()).st_size
        except FileNotFoundError:
            have = 0
        except OSError as error:
            raise damaged(str(path), "a file that can be read", reason(error)) from error
        if have < rows * size:
            raise damaged(str(path), f"{rows} rows of {size} bytes", f"{have} bytes")


def damaged(place: str, expected: str, found: str) -> BenchError:
    """The error for a store whose files do not agree."""
    return BenchError(
        f"{place}: the feature store is damaged",
        expected=expected,
        found=found,
        remedy="remove the store's folder and extract again",
    )

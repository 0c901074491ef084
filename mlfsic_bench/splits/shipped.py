"""The splits that come with the package, by id."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path

from mlfsic_bench.errors import unknown_name
from mlfsic_bench.paths import exists
from mlfsic_bench.splits.files import parse_split, read_split_file
from mlfsic_bench.splits.schema import SplitFile

_NAME = re.compile(r"([a-z0-9]+(-[a-z0-9]+)*-v[0-9]+)\.json")


def shipped_ids() -> tuple[str, ...]:
    """The ids of the shipped splits, sorted; episode files beside them have other names."""
    names = (_NAME.fullmatch(entry.name) for entry in files("mlfsic_splits").iterdir())
    return tuple(sorted(name[1] for name in names if name))


def shipped_bytes(split_id: str) -> bytes:
    """The bytes of a shipped split file; BenchError with the nearest id for an unknown one."""
    if split_id not in shipped_ids():
        raise unknown_name("split", split_id, shipped_ids())
    return files("mlfsic_splits").joinpath(f"{split_id}.json").read_bytes()


@cache
def shipped_file(split_id: str) -> SplitFile:
    """The content of a shipped split file (tests check that each is sound)."""
    return parse_split(json.loads(shipped_bytes(split_id)), f"the shipped split {split_id}")


def split_file(name_or_path: str, *, check: bool = True) -> SplitFile:
    """A shipped split by id, or the split file at a path (checked as a stranger's, see `check`)."""
    if name_or_path in shipped_ids():
        return shipped_file(name_or_path)
    path = Path(name_or_path)
    if path.suffix == ".json" or "/" in name_or_path or exists(path):
        return read_split_file(path, check=check)
    raise unknown_name("split", name_or_path, shipped_ids())

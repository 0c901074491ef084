"""From the name of a split to the split: shipped, read from a file, or built from a data root."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path

from mlfsic_bench.data.dataset import Dataset
from mlfsic_bench.data.registry import dataset_of
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.paths import exists
from mlfsic_bench.splits.build import build_file, limit_file
from mlfsic_bench.splits.files import (
    SplitFile,
    parse_split,
    read_split_file,
    table_in_place,
    to_split,
)
from mlfsic_bench.splits.names import plain_id, shipped_ids
from mlfsic_bench.splits.split import Split


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
    """A shipped split by id, or the split file at a path (checked unless `check` is False).

    An id from a table or record may end in `-unofficial`: whether what is built is official is
    seen when it is built.
    """
    if plain_id(name_or_path) in shipped_ids():
        return shipped_file(plain_id(name_or_path))
    path = Path(name_or_path)
    if path.suffix in (".csv", ".jsonl"):
        raise table_in_place(path)
    if path.suffix == ".json" or "/" in name_or_path or exists(path):
        return read_split_file(path, check=check)
    raise unknown_name("split", name_or_path, shipped_ids())


def resolve_split(
    name_or_path: str,
    *,
    data_root: Path | None,
    available_only: bool = False,
    min_pool: int | None = None,
    dataset: str | Dataset | None = None,
) -> Split:
    """The split of that name; see `resolve_file`."""
    content = resolve_file(
        name_or_path,
        data_root=data_root,
        available_only=available_only,
        min_pool=min_pool,
        dataset=dataset,
    )
    return to_split(content)


def resolve_file(
    name_or_path: str,
    *,
    data_root: Path | None,
    available_only: bool = False,
    min_pool: int | None = None,
    dataset: str | Dataset | None = None,
) -> SplitFile:
    """The complete split file of a shipped id or a path.

    A complete file is used as it is. A definition is built in memory from the annotations below
    `data_root` (None: the environment variable MLFSIC_DATA). `available_only` keeps the images on
    disk there; `min_pool` lets labels with fewer images leave; both mark the split as a subset.
    `dataset` says how the split's dataset is opened (None: by its name; `dataset_of`).
    Raises BenchError for unknown names, unsound files, and a missing data root where one is needed.
    """
    content = split_file(name_or_path)
    _refuse_namesake(content, name_or_path)
    limited = available_only or min_pool is not None
    if content.images is None:
        opened = dataset_of(content.dataset, data_root, dataset)
        return build_file(content, opened, available_only=available_only, min_pool=min_pool)
    if not limited:
        return content
    disk = dataset_of(content.dataset, data_root, dataset) if available_only else None
    return limit_file(content, disk, min_pool)


def _refuse_namesake(content: SplitFile, where: str) -> None:
    """A whole file under the id of a complete shipped split must be that split."""
    if plain_id(content.id) not in shipped_ids() or content.subset is not None:
        return
    shipped = shipped_file(plain_id(content.id))
    if shipped.images is not None and content.hash != shipped.hash:
        raise BenchError(
            f"{where} calls itself {content.id} but is not that split",
            expected=f"the hash of the shipped split, {shipped.hash}",
            found=str(content.hash),
            remedy=f"see `mlfsic-bench splits verify {where}`, or give the file an id of its own",
        )

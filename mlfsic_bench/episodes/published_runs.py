"""LaSO's own runs: lists of indices into `images` of instances_train2014.json, given by the user.

    {"format": "mlfsic-bench/coco-indices-v1", "shots": 1, "runs": [[38619, 46125, ...], ...]}

The indices count the images in the order in which the *official* file lists them. In a copy of the
file sorted by id the first 1-shot run has images without a novel label, so the orders differ.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from mlfsic_bench.data.coco import Coco
from mlfsic_bench.episodes.laso import check_runs
from mlfsic_bench.episodes.laso_law import SUPPORT_FROM
from mlfsic_bench.episodes.run_files import RunFile, shots_of
from mlfsic_bench.errors import BenchError, nearest
from mlfsic_bench.files import read_json
from mlfsic_bench.splits.split import Split

FORMAT = "mlfsic-bench/coco-indices-v1"
KEYS = ("format", "shots", "runs")


def import_runs(path: Path, split: Split, dataset: Coco) -> RunFile:
    """The runs in a file of indices, as image ids, checked against the split.

    BenchError for unknown keys, indices out of range or twice in a run, images that are no support
    images of the split, and labels with fewer than K images, naming the run.
    """
    raw = read_json(path, kind="file of indices")
    name = str(path)
    order = dataset.file_order(SUPPORT_FROM)
    runs = tuple(
        tuple(order[i] for i in run) for run in _runs(_checked(raw, name), len(order), name)
    )
    shots = shots_of(raw, name)
    try:
        check_runs(split, shots, runs, name)
    except BenchError as error:
        if order != tuple(sorted(order)):
            raise
        raise BenchError(
            error.what,
            expected=error.expected,
            found=error.found,
            remedy=f"use the official instances_{SUPPORT_FROM}.json: the one here lists its images "
            "sorted by id, so these indices name other images than in the official file",
        ) from error
    return RunFile(split.id, split.hash, shots, False, runs)


def _checked(raw: Any, name: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise _wrong(name, "a JSON object", type(raw).__name__)
    for key in raw:
        if key not in KEYS:
            close = nearest(key, KEYS)
            hint = f" (did you mean {close!r}?)" if close else ""
            raise _wrong(name, f"the keys {', '.join(KEYS)}", f"unknown key {key!r}{hint}")
    for key in KEYS:
        if key not in raw:
            raise _wrong(name, f"the key {key!r}", "no such key")
    if raw["format"] != FORMAT:
        raise _wrong(name, f"format {FORMAT!r}", repr(raw["format"])[:80])
    return raw


def _runs(raw: dict[str, Any], count: int, name: str) -> list[list[int]]:
    runs = raw["runs"]
    if not isinstance(runs, list) or not runs:
        raise _wrong(name, "a list of at least one run", repr(runs)[:80])
    for number, run in enumerate(runs, 1):
        if not isinstance(run, list) or not run or not all(type(i) is int for i in run):
            raise _wrong(name, "a list of whole numbers for each run", f"other values in {number}")
        outside = [i for i in run if not 0 <= i < count]
        if outside:
            found = f"{outside[0]} in run {number}"
            raise _wrong(name, f"indices from 0 to {count - 1} (images of {SUPPORT_FROM})", found)
        if len(set(run)) < len(run):
            double = next(i for i, count in Counter(run).items() if count > 1)
            raise _wrong(name, "each image once in a run", f"{double} twice in run {number}")
    return runs


def _wrong(name: str, expected: str, found: str) -> BenchError:
    return BenchError(
        f"{name} is not a valid file of indices",
        expected=expected,
        found=found,
        remedy="write it as docs/episodes.md shows",
    )

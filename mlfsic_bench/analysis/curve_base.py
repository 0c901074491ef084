"""How many of the base images given to a run it could train on, and with how many labels.

A base label that can't serve a training episode sits out, and with it the images that no other
label is left of (docs/methodology.md, M48). The record has the labels; the images follow from the
split.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.base_images import base_order
from mlfsic_bench.results.runs import FinishedRun
from mlfsic_bench.splits.split import Split


def labels_used(run: FinishedRun) -> int:
    """How many base labels the run trained with."""
    record = run.record
    return len(record.labels["base"]) - len(record.sitting_out.get("base", []))


def images_used(run: FinishedRun, total: int, split: Split | None) -> int | None:
    """How many base images the run trained on, of `total` in the split.

    `split` is only read when labels sat out; None is returned when it is needed and not there.
    """
    record = run.record
    given = record.base_images.used if record.base_images else total
    out = set(record.sitting_out.get("base", []))
    if not out:
        return given
    if split is None:
        return None
    base = split.base
    kept = [i for i, label in enumerate(base.labels) if label not in out]
    chosen = set(base_order(split.hash, base.image_ids)[:given])
    rows = [i for i, image in enumerate(base.image_ids) if image in chosen]
    return int(np.count_nonzero(base.targets[np.ix_(rows, kept)].any(axis=1)))


def splits_of(runs: Sequence[FinishedRun], known: Sequence[Split] = ()) -> dict[str, Split]:
    """The split of these runs by its hash: from `known`, or made anew where that needs no data."""
    from mlfsic_bench.results.targets import can_rebuild
    from mlfsic_bench.splits.resolve import resolve_split

    found = {split.hash: split for split in known}
    for run in runs:
        meta = run.scores.meta
        needed = run.record.method.trains and run.record.sitting_out.get("base")
        if not needed or meta.split.hash in found or not can_rebuild(meta):
            continue
        try:
            split = resolve_split(meta.split.id, data_root=None)
        except BenchError:
            continue
        found[split.hash] = split
    return found

"""Limiting a split: to the images on disk, and to labels with enough images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.dataset import PART_NAMES, Dataset, PartName
from mlfsic_bench.errors import BenchError
from mlfsic_bench.splits.schema import Subset, per_part
from mlfsic_bench.splits.split import Part


def limit(
    parts: dict[PartName, Part], dataset: Dataset | None, min_pool: int | None
) -> tuple[dict[PartName, Part], Subset]:
    """The parts with less in them, and the record of what left.

    `dataset`: keep only images it has on disk (None: keep all). `min_pool`: then, labels that
    fewer images have leave their part, and images without a label left leave too. Such an image
    has none of the labels that stay, so their numbers do not fall and one pass is the fixed point.
    The rule was applied before: a label that left still excludes images from the other parts.
    Columns stay; those of labels that left are all False.
    """
    if min_pool is not None and min_pool < 1:
        raise BenchError(
            "--min-pool is too small",
            expected="a whole number of images, at least 1",
            found=str(min_pool),
            remedy="1 + 4 images per label need --min-pool 5",
        )
    limited: dict[PartName, Part] = {}
    missing: dict[PartName, int] = {}
    left: dict[PartName, dict[str, int]] = {}
    for name in PART_NAMES:
        part = parts[name]
        keep = (
            dataset.available(part.image_ids) if dataset else np.ones(len(part.image_ids), np.bool_)
        )
        missing[name] = int((~keep).sum())
        part = _take(part, keep)
        pools = part.targets.sum(axis=0)
        stay = pools >= (min_pool or 0)
        left[name] = {
            label: int(pool)
            for label, pool, stays in zip(part.labels, pools, stay, strict=True)
            if not stays
        }
        part = Part(part.labels, part.image_ids, part.targets & stay)
        limited[name] = _take(part, np.asarray(part.targets.any(axis=1)))
    subset = Subset(
        available_only=dataset is not None,
        min_pool=min_pool,
        images_missing=per_part(missing),
        labels_left=per_part(left),
    )
    return limited, subset


def _take(part: Part, keep: npt.NDArray[np.bool_]) -> Part:
    rows = np.flatnonzero(keep)
    return Part(part.labels, tuple(part.image_ids[row] for row in rows), part.targets[rows])

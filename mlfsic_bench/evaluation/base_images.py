"""The first N base images of a split, in an order fixed for ever: the cut of a learning curve."""

from __future__ import annotations

import numpy as np

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.meta import BaseImages
from mlfsic_bench.randomness import stream_seed
from mlfsic_bench.splits.split import Part, Split


def base_order(split_hash: str, image_ids: tuple[str, ...]) -> list[str]:
    """The ids in the order in which a learning curve takes them (docs/methodology.md, M48).

    An id's place is its number `stream_seed("base-images", split hash, id)`, the ids themselves
    settling ties. No training seed and no N is in it, so the images of a smaller N are among those
    of a larger one, and every method gets the same.
    """
    return sorted(image_ids, key=lambda i: (stream_seed("base-images", split_hash, i), i))


def first_base_images(split: Split, count: int) -> tuple[Part, BaseImages]:
    """The base part with only its first `count` images, and how many of how many that are.

    All labels stay, also those that no image is left of. Raises BenchError for a count below one
    or above the number of base images.
    """
    base = split.base
    total = len(base.image_ids)
    if not 1 <= count <= total:
        raise BenchError(
            f"can't train on {count:,} base images of split {split.id!r}",
            expected=f"a number from 1 to {total:,}",
            found=str(count),
            remedy="correct --base-images, or leave it out to train on all of them",
        )
    chosen = set(base_order(split.hash, base.image_ids)[:count])
    rows = np.array([i for i, name in enumerate(base.image_ids) if name in chosen], np.int64)
    ids = tuple(base.image_ids[row] for row in rows)
    part = Part(base.labels, ids, np.ascontiguousarray(base.targets[rows]))
    return part, BaseImages(used=count, of=total)

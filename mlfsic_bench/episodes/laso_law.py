"""The law of `laso_k_shot-v1`: support images until every label has at least K of them.

The protocol of LaSO (Alfassy et al., CVPR 2019): a *run* is a set of training images in which each
novel label has at least K; an image counts for all its novel labels, so a run has fewer images than
labels times K and frequent labels have more than K. How the original runs were drawn is not said;
this is our law (docs/episodes.md).

Labels are ordered by the size of their pools among the support images, smallest first, ties in the
part's order. Run r of K shots has the seed

    stream_seed("episodes", "laso_k_shot-v1", split hash, part, K, r)

For each label in that order, while fewer than K images of the run have it, one image is added. The
image with place p in the run (p = 0, 1, 2, ...) has the SplitMix64 stream that starts at
`splitmix64(seed, p)`; each word x of it, in turn, names image `x mod n` of the label's n images
(sorted by id). It is passed over when it is not below the largest multiple of n up to 2**64, or
when the image is in the run already: the image is uniform over those of the label not yet in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlfsic_bench.episodes.law import last_accepted
from mlfsic_bench.episodes.pools import Pools, build_pools
from mlfsic_bench.errors import BenchError
from mlfsic_bench.randomness import splitmix64, stream_seed
from mlfsic_bench.splits.split import Part

PROTOCOL = "laso_k_shot-v1"
SUPPORT_FROM = "train2014"
QUERY_FROM = "val2014"


def images_of(part: Part, folder: str) -> tuple[str, ...]:
    """The part's images in one folder (year) of the dataset, sorted."""
    return tuple(image for image in part.image_ids if image.partition("/")[0] == folder)


def draw_runs(
    part: Part, split_hash: str, part_name: str, shots: int, indices: Sequence[int]
) -> list[tuple[str, ...]]:
    """The support images of these runs, each in the order drawn.

    BenchError naming the labels when one has fewer than `shots` images to draw from.
    """
    images = images_of(part, SUPPORT_FROM)
    pools = build_pools(part.targets_of(images))
    short = [i for i in range(len(pools)) if pools.sizes[i] < shots]
    if short or shots < 1 or not part.labels:
        listed = ", ".join(f"{part.labels[i]} ({pools.sizes[i]})" for i in short)
        raise BenchError(
            f"can't draw runs with K = {shots}",
            expected=f"K of at least 1, and as many {SUPPORT_FROM} images of every label",
            found=f"labels with fewer: {listed}" if short else f"{len(part.labels)} labels",
            remedy="use all images of the data set, a smaller K, or let labels leave the part "
            f"with --min-pool N (which counts the images of the whole part, not {SUPPORT_FROM} "
            "alone)",
        )
    runs = []
    for index in indices:
        seed = stream_seed("episodes", PROTOCOL, split_hash, part_name, shots, index)
        runs.append(tuple(images[row] for row in draw_run(pools, seed, shots)))
    return runs


def draw_run(pools: Pools, seed: int, shots: int) -> list[int]:
    """The rows of one run's images in the order drawn; every pool has at least `shots` images."""
    order = pools.order.tolist()
    members = [np.asarray(pools[label]) for label in range(len(pools))]
    carried = [set(pool.tolist()) for pool in members]
    taken: list[int] = []
    for label in order:
        pool = members[label]
        while sum(row in carried[label] for row in taken) < shots:
            taken.append(_one(pool.tolist(), splitmix64(seed, len(taken)), set(taken)))
    return taken


def _one(pool: list[int], stream: int, used: set[int]) -> int:
    """An image of the pool that is not used yet; there is one."""
    n = len(pool)
    last = last_accepted(n)
    word = 0
    while True:
        x = splitmix64(stream, word)
        word += 1
        if x <= last and pool[x % n] not in used:
            return pool[x % n]

"""The sampler of `one_per_label-v1` as it is defined: one image after another.

Labels are ordered by the size of their pools, smallest first, ties in the part's order. An episode
has L(s + q) *positions*: for each label in that order its s support images, then for each label in
that order its q query images. The paper has s = 1 and q = 4 (sections 3 and 5).

Attempt t of the episode with seed e draws the positions p = 0, 1, 2, ... in turn. Position p has
the SplitMix64 stream that starts at

    splitmix64(e, t * 2**32 + p)

Each word x of it, in turn, is a candidate: with n images in the pool, x is passed over when it is
not below the largest multiple of n up to 2**64, and otherwise names image `x mod n` of the pool
(its images sorted by id), so that every image is exactly equally likely. The position takes the
first candidate that no earlier position of the attempt has taken: the image is uniform over those
of the pool not yet used. When every image of the pool is used the attempt has run dry, and the
whole episode is drawn again with t + 1. The result is therefore the sequential law conditioned on
not running dry. `fast_sampler.py` draws the same images, bit for bit, for many episodes at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlfsic_bench.episodes.feasibility import Pools
from mlfsic_bench.errors import BenchError
from mlfsic_bench.randomness import splitmix64

ATTEMPTS = 1000
"""An episode that runs dry this many times is an error."""

ATTEMPT_STRIDE = 1 << 32


def position_labels(pools: Pools, support: int, query: int) -> npt.NDArray[np.int64]:
    """int64 [L * (support + query)]: the label each position draws for."""
    return np.concatenate([np.repeat(pools.order, support), np.repeat(pools.order, query)])


def last_accepted(n: int) -> int:
    """The largest 64-bit word that is not passed over for a pool of n >= 1 images."""
    return (1 << 64) // n * n - 1


def draw_episode(pools: Pools, seed: int, support: int, query: int) -> npt.NDArray[np.int64]:
    """int64 [L * (support + query)]: the image row each position takes, in order of positions.

    Raises BenchError when 1000 attempts in a row have run dry.
    """
    labels = position_labels(pools, support, query).tolist()
    for attempt in range(ATTEMPTS):
        taken = draw_attempt(pools, labels, seed, attempt)
        if taken is not None:
            return np.array(taken, np.int64)
    raise BenchError(
        f"an episode ran dry {ATTEMPTS} times in a row",
        expected="pools large enough that labels drawn early leave images for the others",
        found=f"pool sizes {sorted(pools.sizes.tolist())}, many images shared between labels",
        remedy="use more images, or let labels with small pools leave the part with --min-pool N",
    )


def draw_attempt(pools: Pools, labels: list[int], seed: int, attempt: int) -> list[int] | None:
    """The image each position takes in this attempt, or None when it runs dry.

    `labels` is the label of each position.
    """
    taken: list[int] = []
    used: set[int] = set()
    for position, label in enumerate(labels):
        pool = pools[label]
        n = len(pool)
        if n <= len(used) and used.issuperset(pool.tolist()):
            return None
        stream = splitmix64(seed, attempt * ATTEMPT_STRIDE + position)
        last = last_accepted(n)
        word = 0
        while True:
            x = splitmix64(stream, word)
            word += 1
            if x > last:
                continue
            image = int(pool[x % n])
            if image not in used:
                break
        taken.append(image)
        used.add(image)
    return taken

"""The images of an epoch in batches, in an order that a seed names."""

from __future__ import annotations

import math

import numpy as np

from mlfsic_bench.randomness import splitmix64_array


def epoch_batches(n: int, size: int, seed: int) -> list[list[int]]:
    """Positions 0 to n - 1 in the order keyed by `seed`, in ceil(n / size) batches.

    The batches are of equal length, or one apart, and so hold at most `size` images each.

    >>> [len(rows) for rows in epoch_batches(10, 4, seed=1)]
    [4, 3, 3]
    >>> sorted(sum(epoch_batches(10, 4, seed=1), []))
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    words = splitmix64_array(np.array([seed], np.uint64), np.arange(n, dtype=np.uint64))
    return [rows.tolist() for rows in np.array_split(np.argsort(words), math.ceil(n / size))]

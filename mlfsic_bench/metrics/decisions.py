"""Precision, recall and F1 at the method's decisions, for every label of every episode at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Counts:
    """How many queries are hit, predicted and positive: int64 [E, L] per label, or [E] over all."""

    hits: Int64
    predicted: Int64
    positive: Int64

    def pooled(self) -> Counts:
        """The counts of each episode's Q x L pairs, int64 [E]: what micro averages are made of."""
        return Counts(self.hits.sum(axis=1), self.predicted.sum(axis=1), self.positive.sum(axis=1))


def count(decisions: Bool, targets: Bool) -> Counts:
    """The counts per label, int64 [E, L], of decisions and targets [E, Q, L]."""
    return Counts(_sum(decisions & targets), _sum(decisions), _sum(targets))


def precision(counts: Counts) -> Float64:
    """hits / predicted; 0 where nothing is predicted."""
    return _ratio(counts.hits, counts.predicted, 0.0)


def recall(counts: Counts) -> Float64:
    """hits / positive; NaN where nothing is positive."""
    return _ratio(counts.hits, counts.positive, np.nan)


def f1(counts: Counts) -> Float64:
    """2 hits / (predicted + positive); NaN where nothing is positive."""
    ratio = _ratio(2 * counts.hits, counts.predicted + counts.positive, 0.0)
    return np.where(counts.positive > 0, ratio, np.nan)


def harmonic_mean(p: Float64, r: Float64) -> Float64:
    """2 p r / (p + r), elementwise; 0 where both are 0, NaN where one is NaN.

    >>> harmonic_mean(np.array([0.5, 0.0]), np.array([1.0, 0.0])).round(4).tolist()
    [0.6667, 0.0]
    """
    total = p + r
    undefined = np.where(np.isnan(total), np.nan, 0.0)
    mean: Float64 = np.divide(2 * p * r, total, out=undefined, where=total > 0)
    return mean


def mean_over_tested(values: Float64, counts: Counts) -> Float64:
    """float64 [E]: mean of values [E, L] over labels with positives; NaN where there are none."""
    tested = counts.positive > 0
    total = np.where(tested, values, 0.0).sum(axis=1)
    return _ratio(total, tested.sum(axis=1), np.nan)


def _sum(values: Bool) -> Int64:
    total: Int64 = np.count_nonzero(values, axis=1).astype(np.int64)
    return total


def _ratio(above: npt.NDArray[np.generic], below: Int64, undefined: float) -> Float64:
    result: Float64 = np.full(below.shape, undefined)
    np.divide(above, below, out=result, where=below > 0)
    return result

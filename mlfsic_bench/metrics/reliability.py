"""Reliability: how often a cell is positive, against what the sigmoid of its score says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reliability:
    """Cells (query x label) in bins of equal width of sigmoid(score).

    Attributes
    ----------
    edges: float64 [B + 1], from 0 to 1. A bin holds its lower edge; the last one 1 as well.
    count: int64 [B]. confidence, positive: float64 [B], mean sigmoid and share of positives; NaN
        in empty bins.
    ece: sum over bins of count / total * |positive - confidence| (Naeini et al. 2015).
    """

    edges: Float64
    count: npt.NDArray[np.int64]
    confidence: Float64
    positive: Float64
    ece: float


def reliability(scores: npt.ArrayLike, targets: npt.ArrayLike, bins: int = 10) -> Reliability:
    """The reliability of sigmoid(score) over all cells.

    `scores` and `targets` (0 or 1) have the same shape.

    >>> result = reliability([-2.0, -2.0, 2.0, 2.0], [0, 1, 1, 1], bins=2)
    >>> result.count.tolist(), result.positive.tolist(), round(result.ece, 4)
    ([2, 2], [0.5, 1.0], 0.25)
    """
    if bins < 1:
        raise BenchError(
            "a reliability diagram needs a bin",
            expected="at least 1",
            found=str(bins),
            remedy="correct --bins",
        )
    from scipy.special import expit

    p = expit(np.asarray(scores, np.float64)).ravel()
    y = np.asarray(targets, np.float64).ravel()
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    empty = np.full(bins, np.nan)
    confidence = np.divide(np.bincount(place, p, bins), count, out=empty.copy(), where=count > 0)
    positive = np.divide(np.bincount(place, y, bins), count, out=empty.copy(), where=count > 0)
    gaps = np.nan_to_num(np.abs(positive - confidence))
    ece = float((gaps * count).sum() / max(len(p), 1))
    return Reliability(np.linspace(0, 1, bins + 1), count, confidence, positive, ece)

"""The two interpolated APs of PASCAL VOC, for every label of every episode at once.

With precision P_n and recall R_n at each distinct threshold n,

    11-point (VOC 2007)      1/11 * sum over r in 0, 0.1, ..., 1 of max over R_n >= r of P_n
    all-point (VOC 2010 on)  sum over n, highest first, of (R_n - R_{n-1}) max over m >= n of P_m

Everingham et al., IJCV 2010, section 4.2, and the development kit of VOC 2012. Equal scores are one
threshold, as in `average_precision`; the kits break ties by the order of the images.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlfsic_bench.metrics.inputs import FloatArray, check_binary, check_scores
from mlfsic_bench.metrics.weighted import groups

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


def eleven_point_ap(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Float64:
    """float64 [E, L]: the 11-point AP of scores and targets [E, Q, L]; NaN without positives.

    >>> eleven_point_ap([[[2.0], [1.0]]], [[[0], [1]]]).tolist()
    [[0.5]]
    """
    p, t, m = _curve(scores, targets)[:3]
    best = np.zeros(m.shape)
    for k in range(11):
        reached = 10 * t >= k * m[..., None]  # whole numbers: 0.3 is not 3 / 10 in binary
        best += np.where(reached, p, 0.0).max(axis=-1)
    return np.where(m > 0, best / 11, np.nan)


def all_point_ap(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Float64:
    """float64 [E, L]: the all-point AP of scores and targets [E, Q, L]; NaN without positives.

    >>> all_point_ap([[[3.0], [2.0], [1.0]]], [[[1], [0], [1]]]).round(4).tolist()
    [[0.8333]]
    """
    p, _, m, y = _curve(scores, targets)
    envelope = np.maximum.accumulate(p[..., ::-1], axis=-1)[..., ::-1]
    total = (y * envelope).sum(axis=-1)
    result: Float64 = np.divide(total, m, out=np.full(m.shape, np.nan), where=m > 0)
    return result


def _curve(
    scores: npt.ArrayLike, targets: npt.ArrayLike
) -> tuple[Float64, npt.NDArray[np.int64], npt.NDArray[np.int64], Bool]:
    """(precision [E, L, Q], positives so far [E, L, Q], positives [E, L], targets by rank)."""
    s: FloatArray = check_scores(scores)
    y = check_binary(targets, s.shape, "targets")
    s, y = s.transpose(0, 2, 1), y.transpose(0, 2, 1)
    order = np.argsort(-s, axis=-1, kind="stable")
    y = np.take_along_axis(y, order, axis=-1)
    last = groups(np.take_along_axis(s, order, axis=-1))[1]
    t = np.take_along_axis(np.cumsum(y, axis=-1, dtype=np.int64), last, axis=-1)
    precision: Float64 = t / (last + 1)
    positives: npt.NDArray[np.int64] = y.sum(axis=-1, dtype=np.int64)
    return precision, t, positives, y

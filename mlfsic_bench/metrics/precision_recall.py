"""Precision at given recalls: the step curve under which the area is the AP."""

from __future__ import annotations

import numpy as np

from mlfsic_bench.metrics.average_precision import Bool, Float64
from mlfsic_bench.metrics.inputs import FloatArray


def precision_at_recalls(scores: FloatArray, targets: Bool, steps: int) -> Float64:
    """float64 [rows, steps]: precision at the recalls k / steps, k = 1 ... steps, of each ranking.

    Parameters
    ----------
    scores: [rows, n], finite. targets: bool [rows, n].

    The precision at recall r is that of the highest threshold whose recall reaches r; nothing is
    interpolated, equal scores are one threshold. Where the number of positives divides `steps` the
    mean of a row is its AP exactly. NaN for rows without positives.

    >>> s, y = np.array([[3.0, 2.0, 1.0, 0.0]]), np.array([[True, False, True, False]])
    >>> precision_at_recalls(s, y, 4).round(3).tolist()
    [[1.0, 1.0, 0.667, 0.667]]
    """
    result = np.full((len(scores), steps), np.nan)
    k = np.arange(1, steps + 1)
    for i, (s, y) in enumerate(zip(scores, targets, strict=True)):
        m = int(y.sum())
        if not m:
            continue
        order = np.argsort(-s, kind="stable")
        s, y = s[order], y[order]
        t = np.cumsum(y)
        # the rank that ends the group of equal scores each element is in
        ends = np.append(np.flatnonzero(s[1:] != s[:-1]), len(s) - 1)
        end = ends[np.searchsorted(ends, np.arange(len(s)))]
        precision = t[end] / (end + 1)
        needed = -(-k * m // steps)  # ceil(k m / steps) positives give recall k / steps
        result[i] = precision[np.searchsorted(t, needed)]
    return result

"""Average precision of weighted queries, exact with ties, sorted once for any number of weightings.

    AP(w) = sum over distinct thresholds n, highest first, of (R_n - R_{n-1}) P_n

where recall and precision count each element with its weight w >= 0. Weight 2 is the element twice,
weight 0 is the element left out. With all weights 1 it is `average_precision.label_ap`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlfsic_bench.metrics.inputs import FloatArray, check_binary, check_scores

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


def weighted_label_ap(
    scores: npt.ArrayLike, targets: npt.ArrayLike, weights: npt.ArrayLike
) -> Float64:
    """float64 [E, L]: AP of each label, each query counted with its weight.

    Parameters
    ----------
    scores, targets: [E, Q, L], as for `label_ap`.
    weights: [E, Q], 0 or more.

    NaN for a label whose positives have no weight.

    >>> weighted_label_ap([[[3.0], [2.0], [1.0]]], [[[0], [1], [1]]], [[1, 1, 0]]).tolist()
    [[0.5]]
    """
    s = check_scores(scores)
    y = check_binary(targets, s.shape, "targets")
    w = np.broadcast_to(np.asarray(weights, np.float64)[:, None, :], s.transpose(0, 2, 1).shape)
    return Ranking(s.transpose(0, 2, 1), y.transpose(0, 2, 1)).ap(w)


class Ranking:
    """Rows of elements, sorted once; `ap` gives each row's AP under any weights.

    Parameters
    ----------
    scores: [..., n], finite. targets: bool [..., n].

    Attributes
    ----------
    order: int64 [..., n], the element at each rank, highest score first.
    """

    def __init__(self, scores: FloatArray, targets: Bool) -> None:
        self.order: Int64 = np.argsort(-scores, axis=-1, kind="stable")
        s = np.take_along_axis(scores, self.order, axis=-1)
        self.targets: Float64 = np.take_along_axis(targets, self.order, axis=-1).astype(np.float64)
        self.first, self.last = groups(s)
        n = scores.shape[-1]
        self.tied = bool((self.last != np.arange(n)).any())

    def ap(self, weights: Float64) -> Float64:
        """float64 [...]: the AP of each row under weights [..., n], in the elements' own order."""
        return self.ap_of_sorted(np.take_along_axis(weights, self.order, axis=-1))

    def ap_of_sorted(self, w: Float64) -> Float64:
        """`ap` for weights that are in the order of ranks already."""
        positive = w * self.targets
        t, r = np.cumsum(positive, axis=-1), np.cumsum(w, axis=-1)
        m = t[..., -1]
        if self.tied:
            t, r = (np.take_along_axis(x, self.last, axis=-1) for x in (t, r))
        p = np.divide(t, r, out=np.zeros_like(t), where=r > 0)
        total = np.einsum("...n,...n->...", positive, p)
        ap: Float64 = np.divide(total, m, out=np.full(m.shape, np.nan), where=m > 0)
        return ap


def groups(s: FloatArray) -> tuple[Int64, Int64]:
    """(first, last): int64 [..., n], the ranks where each element's group of equal scores lies.

    `s` is sorted along its last axis; ranks count from 0.
    """
    n = s.shape[-1]
    rank = np.arange(n)
    change = s[..., 1:] != s[..., :-1]
    edge = np.ones((*s.shape[:-1], 1), np.bool_)
    begins = np.concatenate([edge, change], axis=-1)
    ends = np.concatenate([change, edge], axis=-1)
    first = np.maximum.accumulate(np.where(begins, rank, 0), axis=-1)
    last = np.minimum.accumulate(np.where(ends, rank, n)[..., ::-1], axis=-1)[..., ::-1]
    return first, np.ascontiguousarray(last)

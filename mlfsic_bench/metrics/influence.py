"""What each query image does to an episode's metrics: the value with it minus the value without.

Leaving one element of a ranking out moves only the ranks below it, so the AP without each element
in turn follows from sums over the elements above and below it, and all of them together cost as
much as one sort. With t positives and r elements down to the end of a group of equal scores,

    m AP = sum over positives of t / r

and without an element x of group G (x = 1 for a positive, 0 otherwise), positives above G keep
t / r, those that stay in G get (t - x) / (r - 1), and so do those below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mlfsic_bench.metrics import decisions as at
from mlfsic_bench.metrics.average_precision import ap_of_all_pairs
from mlfsic_bench.metrics.episode import episode_metrics
from mlfsic_bench.metrics.inputs import FloatArray, check_binary, check_scores
from mlfsic_bench.metrics.registry import check_names
from mlfsic_bench.metrics.weighted import groups

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


def query_influence(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    decisions: npt.ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Float64]:
    """float64 [E, Q] for each metric: its value in the episode minus that without the query.

    Takes what `episode_metrics` takes. For `micro_ap` the query's L pairs are left out one at a
    time and the differences added up. NaN where the metric is undefined with or without the query.
    """
    wanted = check_names(names)
    s = check_scores(scores)
    y = check_binary(targets, s.shape, "targets")
    d = s > 0 if decisions is None else check_binary(decisions, s.shape, "decisions")
    whole = episode_metrics(s, y, d, wanted)
    without = _Without(s, y, d)
    return {
        name: _micro_ap(s, y) if name == "micro_ap" else whole[name][:, None] - without.value(name)
        for name in wanted
    }


def ap_without(scores: FloatArray, targets: Bool) -> Float64:
    """float64 [..., n]: each row's AP without each of its elements; NaN when no positive is left.

    Parameters
    ----------
    scores: [..., n], finite. targets: bool [..., n].

    >>> ap_without(np.array([3.0, 2.0, 1.0]), np.array([False, True, True])).round(4).tolist()
    [1.0, 0.5, 0.5]
    """
    order = np.argsort(-scores, axis=-1, kind="stable")
    y = np.take_along_axis(targets, order, axis=-1).astype(np.float64)
    first, last = groups(np.take_along_axis(scores, order, axis=-1))

    def through(total: Float64, rank: npt.NDArray[np.int64]) -> Float64:
        """A running sum, up to and including a rank; 0 before the first."""
        padded = np.concatenate([np.zeros((*total.shape[:-1], 1)), total], axis=-1)
        return np.take_along_axis(padded, rank + 1, axis=-1)

    positives = np.cumsum(y, axis=-1)
    t, r = through(positives, last), last + 1.0
    fewer = np.maximum(r - 1, 1)  # a group that ends at rank 1 keeps nothing: its term is 0
    above = through(np.cumsum(y * t / r, axis=-1), first - 1)
    kept = t - through(positives, first - 1) - y
    # below G each term becomes (t - x) / (r - 1)
    shifted, ones = np.cumsum(y * t / fewer, axis=-1), np.cumsum(y / fewer, axis=-1)
    below = shifted[..., -1:] - through(shifted, last)
    below -= y * (ones[..., -1:] - through(ones, last))
    m = positives[..., -1:] - y
    value = np.divide(
        above + kept * (t - y) / fewer + below, m, out=np.full(y.shape, np.nan), where=m > 0
    )
    result: Float64 = np.empty_like(value)
    np.put_along_axis(result, order, value, axis=-1)
    return result


def _micro_ap(scores: FloatArray, targets: Bool) -> Float64:
    E, Q, L = scores.shape
    whole = ap_of_all_pairs(scores, targets)
    left = ap_without(scores.reshape(E, Q * L), targets.reshape(E, Q * L)).reshape(E, Q, L)
    total: Float64 = (whole[:, None, None] - left).sum(axis=2)
    return total


class _Without:
    """Every episode E times Q, each time without one of its queries."""

    def __init__(self, scores: FloatArray, targets: Bool, decisions: Bool) -> None:
        self.scores, self.targets, self.shape = scores, targets, scores.shape
        E, Q, L = scores.shape
        whole = at.count(decisions, targets)
        self.labels = at.Counts(
            *(
                (total[:, None, :] - own).reshape(E * Q, L)
                for total, own in (
                    (whole.hits, decisions & targets),
                    (whole.predicted, decisions),
                    (whole.positive, targets),
                )
            )
        )

    def value(self, name: str) -> Float64:
        """float64 [E, Q]: a metric without each query; all but `micro_ap`."""
        if name == "macro_ap":
            ap = ap_without(self.scores.transpose(0, 2, 1), self.targets.transpose(0, 2, 1))
            tested = ~np.isnan(ap)
            total, count = np.where(tested, ap, 0.0).sum(axis=1), tested.sum(axis=1)
            mean: Float64 = np.divide(
                total, count, out=np.full(total.shape, np.nan), where=count > 0
            )
            return mean
        return _COUNTED[name](self.labels).reshape(self.shape[:2])


def _macro(metric: Callable[[at.Counts], Float64], counts: at.Counts) -> Float64:
    return at.mean_over_tested(metric(counts), counts)


_COUNTED: dict[str, Callable[[at.Counts], Float64]] = {
    "micro_precision": lambda c: at.precision(c.pooled()),
    "micro_recall": lambda c: at.recall(c.pooled()),
    "micro_f1": lambda c: at.f1(c.pooled()),
    "macro_precision": lambda c: _macro(at.precision, c),
    "macro_recall": lambda c: _macro(at.recall, c),
    "macro_f1": lambda c: at.harmonic_mean(_macro(at.precision, c), _macro(at.recall, c)),
    "f1_label_mean": lambda c: _macro(at.f1, c),
}

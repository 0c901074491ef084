"""Every metric of every episode: the convention is per episode, then the mean over episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mlfsic_bench.metrics import decisions as at
from mlfsic_bench.metrics.average_precision import ap_by_label, ap_of_all_pairs
from mlfsic_bench.metrics.inputs import FloatArray, check_binary, check_scores
from mlfsic_bench.metrics.registry import check_names

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


def episode_metrics(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    decisions: npt.ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Float64]:
    """Each metric's value in each episode, float64 [E], by name; definitions in `registry`.

    Parameters
    ----------
    scores: [E, Q, L], finite; raw scores, higher = more likely.
    targets: [E, Q, L] of 0 and 1.
    decisions: [E, Q, L] of 0 and 1; by default scores > 0, strictly (sigmoid(score) > 0.5).
    names: which metrics, all by default.

    A label without positives is left out of its episode's macro means; `undefined_counts` says how
    often. Raises BenchError for an unknown metric, wrong shapes, scores that are not finite.

    >>> scores = [[[2.0, -1.0], [-0.5, 3.0], [1.0, -2.0], [-3.0, 0.5]]]
    >>> targets = [[[1, 0], [0, 1], [0, 0], [1, 0]]]
    >>> values = episode_metrics(scores, targets, names=["macro_ap", "micro_precision"])
    >>> {name: value.round(4).tolist() for name, value in values.items()}
    {'macro_ap': [0.875], 'micro_precision': [0.5]}
    """
    wanted = check_names(names)
    work = _Work(*_checked(scores, targets, decisions))
    return {name: _COMPUTE[name](work) for name in wanted}


def undefined_counts(
    scores: npt.ArrayLike, targets: npt.ArrayLike, decisions: npt.ArrayLike | None = None
) -> dict[str, int]:
    """How often a convention had to step in, over all episodes; for the record.

    Takes what `episode_metrics` takes. Keys: `labels_without_positives` (pairs of episode and label
    left out of macro means), `episodes_without_positives` (NaN), `labels_without_predictions` and
    `episodes_without_predictions` (precision 0).

    >>> undefined_counts([[[-1.0, 2.0]]], [[[1, 0]]])["labels_without_positives"]
    1
    """
    _, y, d = _checked(scores, targets, decisions)
    has = np.logical_or.reduce(y, axis=1)
    says = np.logical_or.reduce(d, axis=1)
    return {
        "labels_without_positives": int((~has).sum()),
        "episodes_without_positives": int((~has.any(axis=1)).sum()),
        "labels_without_predictions": int((~says).sum()),
        "episodes_without_predictions": int((~says.any(axis=1)).sum()),
    }


def _checked(
    scores: npt.ArrayLike, targets: npt.ArrayLike, decisions: npt.ArrayLike | None
) -> tuple[FloatArray, Bool, Bool]:
    s = check_scores(scores)
    y = check_binary(targets, s.shape, "targets")
    d = s > 0 if decisions is None else check_binary(decisions, s.shape, "decisions")
    return s, y, d


class _Work:
    """What several metrics share, computed once."""

    def __init__(self, scores: FloatArray, targets: Bool, decisions: Bool) -> None:
        self.scores = scores
        self.targets = targets
        self._decisions = decisions
        self._labels: at.Counts | None = None

    @property
    def labels(self) -> at.Counts:
        if self._labels is None:
            self._labels = at.count(self._decisions, self.targets)
        return self._labels

    @property
    def pooled(self) -> at.Counts:
        return self.labels.pooled()

    def macro(self, metric: Callable[[at.Counts], Float64]) -> Float64:
        return at.mean_over_tested(metric(self.labels), self.labels)


def _macro_ap(work: _Work) -> Float64:
    ap = ap_by_label(work.scores, work.targets)
    tested = ~np.isnan(ap)
    count = tested.sum(axis=1)
    total = np.where(tested, ap, 0.0).sum(axis=1)
    mean: Float64 = np.divide(total, count, out=np.full(len(ap), np.nan), where=count > 0)
    return mean


_COMPUTE: dict[str, Callable[[_Work], Float64]] = {
    "micro_precision": lambda work: at.precision(work.pooled),
    "micro_recall": lambda work: at.recall(work.pooled),
    "micro_f1": lambda work: at.f1(work.pooled),  # equal to the harmonic mean of pooled P and R
    "micro_ap": lambda work: ap_of_all_pairs(work.scores, work.targets),
    "macro_precision": lambda work: work.macro(at.precision),
    "macro_recall": lambda work: work.macro(at.recall),
    "macro_f1": lambda work: at.harmonic_mean(work.macro(at.precision), work.macro(at.recall)),
    "macro_ap": _macro_ap,
    "f1_label_mean": lambda work: work.macro(at.f1),
}

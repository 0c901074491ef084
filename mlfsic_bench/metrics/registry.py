"""Every metric, one object each: adding one here makes it known to records, tables and the board.

Notation: one episode has scores s[q, l] and targets y[q, l] for Q queries and L labels, and
decisions d[q, l], by default s > 0 (strictly), that is sigmoid(s) > 0.5. A label is *tested* in
the episode when some query has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import unknown_name
from mlfsic_bench.metrics.average_precision import (
    BLOCK,
    ap_by_label,
    ap_of_all_pairs,
    ap_without,
    random_ap,
)
from mlfsic_bench.metrics.metric import (
    Counts,
    Episodes,
    Float64,
    Form,
    Metric,
    f1,
    harmonic_mean,
    mean_over_tested,
    precision,
    recall,
)

METRICS_VERSION = "metrics-v1"
"""Changes when a definition below does, so that figures made before and after do not mix."""


def _counted(value: Callable[[Counts], Float64]) -> tuple[Form, Form]:
    """(compute, leave_one_out) of a metric that is a function of the counts of each label."""

    def leave_one_out(episodes: Episodes) -> Float64:
        without = episodes.counts_without.once(value).reshape(episodes.shape[:2])
        return episodes.counts.once(value)[:, None] - without

    return lambda episodes: episodes.counts.once(value), leave_one_out


def _macro(value: Callable[[Counts], Float64]) -> Callable[[Counts], Float64]:
    return lambda counts: mean_over_tested(value(counts), counts)


_macro_precision, _macro_recall = _macro(precision), _macro(recall)


def mean_of_defined(values: Float64) -> Float64:
    """The mean over axis 1 of the values that are not NaN; NaN where there are none."""
    defined = ~np.isnan(values)
    total, count = np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1)
    mean: Float64 = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _macro_ap(episodes: Episodes) -> Float64:
    return mean_of_defined(ap_by_label(episodes.scores, episodes.targets))


def _macro_ap_influence(episodes: Episodes) -> Float64:
    left = ap_without(episodes.scores.transpose(0, 2, 1), episodes.targets.transpose(0, 2, 1))
    return episodes.once(_macro_ap)[:, None] - mean_of_defined(left)


def _micro_ap(episodes: Episodes) -> Float64:
    return ap_of_all_pairs(episodes.scores, episodes.targets)


def _micro_ap_influence(episodes: Episodes) -> Float64:
    """The query's L pairs are left out one at a time and the differences added up."""
    E, Q, L = episodes.shape
    scores, targets = episodes.scores.reshape(E, Q * L), episodes.targets.reshape(E, Q * L)
    left = ap_without(scores, targets).reshape(E, Q, L)
    total: Float64 = (episodes.once(_micro_ap)[:, None, None] - left).sum(axis=2)
    return total


_LEFT_OUT = (
    "a label without positives is left out of the mean and counted; NaN when no label has one"
)
_NO_POSITIVE = "NaN when the episode has no positive target"
_P = "P = sum(d & y) / sum(d), 0 when nothing is predicted"
_R = "R = sum(d & y) / sum(y)"
_AP = "sum over distinct thresholds n, highest first, of (R_n - R_{n-1}) P_n"
_SK = "scikit-learn"
_AVERAGES = "Sebastiani, ACM Computing Surveys 34(1), 2002"
_RANKING = "Buckley and Voorhees, SIGIR 2000"
_TWO_F1 = "Opitz and Burst, arXiv:1911.03347, 2019"

_METRICS = (
    Metric("micro_precision", "micro", "P",
           "share of the predicted (query, label) pairs that are right",
           f"{_P}, sums over q and l", "never NaN: 0 when nothing is predicted",
           f"{_SK} precision_score(average='micro', zero_division=0)", _AVERAGES,
           *_counted(lambda counts: precision(counts.pooled)), column="always"),
    Metric("micro_recall", "micro", "R",
           "share of the true (query, label) pairs that are predicted",
           f"{_R}, sums over q and l", _NO_POSITIVE,
           f"{_SK} recall_score(average='micro')", _AVERAGES,
           *_counted(lambda counts: recall(counts.pooled)), column="always"),
    Metric("micro_f1", "micro", "F1",
           "harmonic mean of the episode's micro precision and micro recall",
           "2 P R / (P + R), 0 when both are 0", _NO_POSITIVE,
           f"{_SK} f1_score(average='micro')", _AVERAGES,
           # equal to the harmonic mean of pooled P and R
           *_counted(lambda counts: f1(counts.pooled)), column="always"),
    Metric("micro_ap", "micro", "AP",
           "average precision of all (query, label) pairs in one ranking",
           f"{_AP}, over the flattened matrix", _NO_POSITIVE,
           f"{_SK} average_precision_score(average='micro')", _RANKING,
           _micro_ap, _micro_ap_influence, column="always", ranks=True),
    Metric("macro_precision", "macro", "P",
           "mean over the tested labels of each label's precision",
           f"mean over l of {_P}, sums over q", _LEFT_OUT,
           f"mean of {_SK} precision_score(zero_division=0) over tested labels", _AVERAGES,
           *_counted(_macro_precision), column="always"),
    Metric("macro_recall", "macro", "R",
           "mean over the tested labels of each label's recall",
           f"mean over l of {_R}, sums over q", _LEFT_OUT,
           f"mean of {_SK} recall_score over tested labels", _AVERAGES,
           *_counted(_macro_recall), column="always"),
    Metric("macro_f1", "macro", "F1",
           "harmonic mean of the episode's macro precision and macro recall (not f1_label_mean)",
           "2 P R / (P + R) of macro P and macro R, 0 when both are 0", _LEFT_OUT,
           f"harmonic mean of {_SK}'s macro precision and recall", f"{_TWO_F1}: F1 of averages",
           *_counted(lambda counts: harmonic_mean(counts.once(_macro_precision),
                                                  counts.once(_macro_recall))), column="always"),
    Metric("macro_ap", "macro", "AP",
           "mean over the tested labels of each label's average precision",
           f"mean over l of: {_AP}", _LEFT_OUT,
           f"mean of {_SK} average_precision_score over tested labels", _RANKING,
           _macro_ap, _macro_ap_influence, column="always", ranks=True),
    Metric("f1_label_mean", "", "F1, mean over labels",
           "mean over the tested labels of each label's F1 (not macro_f1)",
           "mean over l of 2 sum(d & y) / (sum(d) + sum(y)), sums over q", _LEFT_OUT,
           f"mean of {_SK} f1_score over tested labels", f"{_TWO_F1}: averaged F1",
           *_counted(_macro(f1)), column="never"),
)  # fmt: skip
METRICS: dict[str, Metric] = {metric.name: metric for metric in _METRICS}


def find_metric(name: str) -> Metric:
    """The metric of this name; BenchError naming the nearest one when there is none.

    >>> find_metric("macro_ap").range, find_metric("macro_ap").head, find_metric("macro_ap").text
    ((0.0, 1.0), 'Macro AP', 'macro-AP')
    """
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    return METRICS[name]


def check_names(names: Sequence[str] | None) -> tuple[str, ...]:
    """The names as given, each known to the registry; all names in its order for None.

    >>> check_names(None)[:2]
    ('micro_precision', 'micro_recall')
    """
    if names is None:
        return tuple(METRICS)
    return tuple(find_metric(name).name for name in names)


def columns() -> tuple[str, ...]:
    """The metrics that are columns of a table of runs, in their order there.

    >>> len(columns())
    8
    """
    return tuple(name for name, metric in METRICS.items() if metric.column != "never")


def episode_metrics(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    decisions: npt.ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Float64]:
    """Each metric's value in each episode, float64 [E], by name; definitions in `registry`.

    Parameters
    ----------
    scores, targets, decisions: as for `metric.Episodes`.
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
    episodes = Episodes(scores, targets, decisions)
    return {name: METRICS[name].compute(episodes) for name in wanted}


def values_and_influence(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    decisions: npt.ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> tuple[dict[str, Float64], dict[str, Float64]]:
    """`episode_metrics` and `query_influence` at once, which takes less time than both.

    A few episodes at a time, so that what they need fits into a processor's cache.
    """
    wanted = check_names(names)
    whole = Episodes(scores, targets, decisions)
    E, Q, L = whole.shape
    values: dict[str, Float64] = {name: np.empty(E) for name in wanted}
    influence: dict[str, Float64] = {name: np.empty((E, Q)) for name in wanted}
    step = max(1, BLOCK // (Q * L))
    for i in range(0, E, step):
        some = whole.some(slice(i, i + step))
        for name in wanted:
            values[name][i : i + step] = some.once(METRICS[name].compute)
            influence[name][i : i + step] = METRICS[name].influence(some)
    return values, influence


def query_influence(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    decisions: npt.ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Float64]:
    """float64 [E, Q] for each metric: its value in the episode less that without the query.

    Takes what `episode_metrics` takes. NaN where the metric is undefined with or without the query.
    """
    return values_and_influence(scores, targets, decisions, names)[1]


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
    episodes = Episodes(scores, targets, decisions)
    has = np.logical_or.reduce(episodes.targets, axis=1)
    says = np.logical_or.reduce(episodes.decisions, axis=1)
    return {
        "labels_without_positives": int((~has).sum()),
        "episodes_without_positives": int((~has.any(axis=1)).sum()),
        "labels_without_predictions": int((~says).sum()),
        "episodes_without_predictions": int((~says.any(axis=1)).sum()),
    }


def chance_levels(targets: npt.ArrayLike) -> tuple[float, float]:
    """(micro-AP, macro-AP) to expect of a random ranking, as fractions, mean over episodes.

    `targets` is [E, Q, L] of 0 and 1. Labels and episodes without positives are left out; NaN when
    nothing is left.

    >>> micro, macro = chance_levels(np.eye(2)[None])
    >>> round(micro, 3), round(macro, 3)
    (0.681, 0.75)
    """
    y = np.asarray(targets)
    _, queries, labels = y.shape
    positives = np.count_nonzero(y, axis=1)
    micro = random_ap(positives.sum(axis=1), queries * labels)
    macro = mean_of_defined(random_ap(positives, queries))
    return _mean(micro), _mean(macro)


def _mean(values: Float64) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")

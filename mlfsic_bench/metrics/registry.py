"""Every metric's name with its definition, formula, range, NaN policy and oracle.

Notation: one episode has scores s[q, l] and targets y[q, l] for Q queries and L labels, and
decisions d[q, l], by default s > 0 (strictly), that is sigmoid(s) > 0.5. A label is *tested* in
the episode when some query has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlfsic_bench.errors import unknown_name

METRICS_VERSION = "metrics-v1"
"""Changes when a definition below does, so that figures made before and after do not mix."""


@dataclass(frozen=True)
class Metric:
    """What a metric's name stands for.

    Attributes
    ----------
    name: the name in tables, records and on the command line.
    definition: in words, for one episode.
    formula: in the notation at the top of this file.
    range: smallest and largest value.
    nan_policy: when it is undefined, and what happens then.
    oracle: the independent implementation that tests hold it against, to 1e-12.
    """

    name: str
    definition: str
    formula: str
    range: tuple[float, float]
    nan_policy: str
    oracle: str


_LEFT_OUT = (
    "a label without positives is left out of the mean and counted; NaN when no label has one"
)
_NO_POSITIVE = "NaN when the episode has no positive target"
_P = "P = sum(d & y) / sum(d), 0 when nothing is predicted"
_R = "R = sum(d & y) / sum(y)"
_AP = "sum over distinct thresholds n, highest first, of (R_n - R_{n-1}) P_n"
_SK = "scikit-learn"

_METRICS = (
    Metric(
        "micro_precision",
        "share of the predicted (query, label) pairs that are right",
        f"{_P}, sums over q and l",
        (0.0, 1.0),
        "never NaN: 0 when nothing is predicted",
        f"{_SK} precision_score(average='micro', zero_division=0)",
    ),
    Metric(
        "micro_recall",
        "share of the true (query, label) pairs that are predicted",
        f"{_R}, sums over q and l",
        (0.0, 1.0),
        _NO_POSITIVE,
        f"{_SK} recall_score(average='micro')",
    ),
    Metric(
        "micro_f1",
        "harmonic mean of the episode's micro precision and micro recall",
        "2 P R / (P + R), 0 when both are 0",
        (0.0, 1.0),
        _NO_POSITIVE,
        f"{_SK} f1_score(average='micro')",
    ),
    Metric(
        "micro_ap",
        "average precision of all (query, label) pairs in one ranking",
        f"{_AP}, over the flattened matrix",
        (0.0, 1.0),
        _NO_POSITIVE,
        f"{_SK} average_precision_score(average='micro')",
    ),
    Metric(
        "macro_precision",
        "mean over the tested labels of each label's precision",
        f"mean over l of {_P}, sums over q",
        (0.0, 1.0),
        _LEFT_OUT,
        f"mean of {_SK} precision_score(zero_division=0) over tested labels",
    ),
    Metric(
        "macro_recall",
        "mean over the tested labels of each label's recall",
        f"mean over l of {_R}, sums over q",
        (0.0, 1.0),
        _LEFT_OUT,
        f"mean of {_SK} recall_score over tested labels",
    ),
    Metric(
        "macro_f1",
        "harmonic mean of the episode's macro precision and macro recall (not f1_label_mean)",
        "2 P R / (P + R) of macro P and macro R, 0 when both are 0",
        (0.0, 1.0),
        _LEFT_OUT,
        f"harmonic mean of {_SK}'s macro precision and recall",
    ),
    Metric(
        "macro_ap",
        "mean over the tested labels of each label's average precision",
        f"mean over l of: {_AP}",
        (0.0, 1.0),
        _LEFT_OUT,
        f"mean of {_SK} average_precision_score over tested labels",
    ),
    Metric(
        "f1_label_mean",
        "mean over the tested labels of each label's F1 (not macro_f1)",
        "mean over l of 2 sum(d & y) / (sum(d) + sum(y)), sums over q",
        (0.0, 1.0),
        _LEFT_OUT,
        f"mean of {_SK} f1_score over tested labels",
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _METRICS}


def find_metric(name: str) -> Metric:
    """The metric of this name; BenchError naming the nearest one when there is none.

    >>> find_metric("macro_ap").range
    (0.0, 1.0)
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

"""The same scores under every convention of the literature: what a published number may mean.

The board's convention is the first of each family: per episode, then the mean over episodes. The
others answer another question and are not comparable with it, nor with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import unknown_name
from mlfsic_bench.metrics import metric as at
from mlfsic_bench.metrics.average_precision import (
    all_point_ap,
    ap_by_label,
    ap_of_all_pairs,
    eleven_point_ap,
)
from mlfsic_bench.metrics.decisions import top_k
from mlfsic_bench.metrics.metric import Episodes
from mlfsic_bench.metrics.registry import METRICS, mean_of_defined

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
TOP = 3


Compute = Callable[["_Data"], float]


@dataclass(frozen=True)
class Convention:
    """One way to make one number of all scores.

    Attributes
    ----------
    name: as `score --conventions` prints it.
    definition: in words; `pooled` is over the queries of all episodes, as if they were one.
    used_by: whose convention it is.
    oracle: the independent computation that tests compare it with, to 1e-10.
    compute: its value.
    """

    name: str
    definition: str
    used_by: str
    oracle: str
    compute: Compute


class _Data:
    """The episodes [E, Q, L]; all queries as one [1, E Q, L]; each a row of its own [E Q, L, 1]."""

    def __init__(self, each: Episodes) -> None:
        arrays, labels = (each.scores, each.targets, each.decisions), each.shape[2]
        self.each = each
        self.all = Episodes(*(array.reshape(1, -1, labels) for array in arrays))
        self.rows = Episodes(*(array.reshape(-1, labels, 1) for array in arrays))

    @cached_property
    def values(self) -> dict[str, Float64]:
        """Of each metric in each episode."""
        return {name: metric.compute(self.each) for name, metric in METRICS.items()}

    @cached_property
    def top(self) -> at.Counts:
        return at.count(top_k(self.all.scores, TOP), self.all.targets)

    @cached_property
    def top_from_zero(self) -> at.Counts:
        chosen = top_k(self.all.scores, TOP) & (self.all.scores >= 0)
        return at.count(chosen, self.all.targets)


def _mean(values: Float64) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _row_means(values: Float64) -> float:
    """Mean over labels in each episode, then over episodes; undefined labels left out."""
    return _mean(mean_of_defined(values))


def _of_means(data: _Data, average: str) -> float:
    p, r = (np.array([_mean(data.values[f"{average}_{m}"])]) for m in ("precision", "recall"))
    return float(at.harmonic_mean(p, r)[0])


def _class_f1(counts: at.Counts) -> float:
    p = at.mean_over_tested(at.precision(counts), counts)
    r = at.mean_over_tested(at.recall(counts), counts)
    return float(at.harmonic_mean(p, r)[0])


_PAPER = "this benchmark; Yan et al. (AAAI 2022)"
_EPISODES = f"{_PAPER}; LaSO, whose runs are the episodes of laso_k_shot"
_POOLED = "ML-GCN, DualCoOp, HCP"
_COUNTS = "ML-GCN (a score of 0 is a yes), DualCoOp, HCP"
_KGGR = "KGGR interpolates, in one of the two ways"
_TOP = f"the {TOP} highest-scored labels of each query"
_SK = "scikit-learn average_precision_score"
_LOOP = "a loop over the thresholds of scikit-learn's precision_recall_curve"

_TABLE: tuple[tuple[str, str, str, str, Compute], ...] = (
    ("ap_episode_macro", "step AP per label and episode; mean over labels, then episodes",
     _EPISODES, _SK, lambda x: _mean(x.values["macro_ap"])),
    ("ap_episode_micro", "step AP of all (query, label) pairs of an episode; mean over episodes",
     _PAPER, f"{_SK}(average='micro')", lambda x: _mean(x.values["micro_ap"])),
    ("ap_pooled_macro", "step AP per label over the pooled queries; mean over labels", _POOLED,
     _SK, lambda x: _mean(ap_by_label(x.all.scores, x.all.targets))),
    ("ap_pooled_micro", "step AP of all pooled (query, label) pairs in one ranking",
     "common elsewhere", f"{_SK}(average='micro')",
     lambda x: _mean(ap_of_all_pairs(x.all.scores, x.all.targets))),
    ("ap_voc11_episode_macro", "11-point interpolated AP per label and episode; means as above",
     "VOC 2007", _LOOP, lambda x: _row_means(eleven_point_ap(x.each.scores, x.each.targets))),
    ("ap_voc11_pooled_macro", "11-point interpolated AP per label over the pooled queries; mean",
     f"VOC 2007; {_KGGR}", _LOOP,
     lambda x: _row_means(eleven_point_ap(x.all.scores, x.all.targets))),
    ("ap_voc_all_episode_macro", "all-point interpolated AP per label and episode; means as above",
     "VOC 2010", _LOOP, lambda x: _row_means(all_point_ap(x.each.scores, x.each.targets))),
    ("ap_voc_all_pooled_macro", "all-point interpolated AP per label over the pooled queries; mean",
     f"VOC 2010, SSGRL; {_KGGR}", _LOOP,
     lambda x: _row_means(all_point_ap(x.all.scores, x.all.targets))),
    ("ap_sample", "step AP of an image's labels in one ranking; mean over all queries",
     "Simon et al.", f"{_SK}(average='samples')",
     lambda x: _mean(ap_by_label(x.rows.scores, x.rows.targets)[:, 0])),
    ("f1_episode_macro", "harmonic mean of an episode's macro P and macro R; mean over episodes",
     _PAPER, "scikit-learn precision_score, recall_score", lambda x: _mean(x.values["macro_f1"])),
    ("f1_episode_micro", "harmonic mean of an episode's micro P and micro R; mean over episodes",
     _PAPER, "scikit-learn f1_score(average='micro')", lambda x: _mean(x.values["micro_f1"])),
    ("f1_episode_label_mean", "F1 per label and episode; mean over labels, then episodes",
     "PFA+FPL", "scikit-learn f1_score",
     lambda x: _mean(x.values["f1_label_mean"])),
    ("f1_of_means_macro", "harmonic mean of the averages over episodes of macro P and macro R",
     "recomputed from a table's P and R", "arithmetic on the table's P and R",
     lambda x: _of_means(x, "macro")),
    ("f1_of_means_micro", "harmonic mean of the averages over episodes of micro P and micro R",
     "recomputed from a table's P and R", "arithmetic on the table's P and R",
     lambda x: _of_means(x, "micro")),
    ("op", "overall precision of the pooled pairs at the decisions", _COUNTS,
     "scikit-learn precision_score(average='micro')",
     lambda x: float(at.precision(x.all.counts.pooled)[0])),
    ("or", "overall recall of the pooled pairs at the decisions", _COUNTS,
     "scikit-learn recall_score(average='micro')",
     lambda x: float(at.recall(x.all.counts.pooled)[0])),
    ("of1", "harmonic mean of op and or", f"{_COUNTS}; PLA's micro F1",
     "scikit-learn f1_score(average='micro')", lambda x: float(at.f1(x.all.counts.pooled)[0])),
    ("cp", "mean over labels of the pooled precision of each", _COUNTS,
     "scikit-learn precision_score(average='macro')",
     lambda x: float(at.mean_over_tested(at.precision(x.all.counts), x.all.counts)[0])),
    ("cr", "mean over labels of the pooled recall of each", _COUNTS,
     "scikit-learn recall_score(average='macro')",
     lambda x: float(at.mean_over_tested(at.recall(x.all.counts), x.all.counts)[0])),
    ("cf1", "harmonic mean of cp and cr", f"{_COUNTS}; KGGR; PLA's macro F1",
     "arithmetic on scikit-learn's cp and cr", lambda x: _class_f1(x.all.counts)),
    ("f1_pooled_label_mean", "mean over labels of the pooled F1 of each", "common elsewhere",
     "scikit-learn f1_score(average='macro')",
     lambda x: float(at.mean_over_tested(at.f1(x.all.counts), x.all.counts)[0])),
    ("of1_top3", f"of1 with {_TOP} as decisions", "common elsewhere",
     "scikit-learn f1_score(average='micro')", lambda x: float(at.f1(x.top.pooled)[0])),
    ("cf1_top3", f"cf1 with {_TOP} as decisions", "common elsewhere",
     "arithmetic on scikit-learn's precision and recall", lambda x: _class_f1(x.top)),
    ("of1_top3_from_zero", f"of1 with those of {_TOP} as decisions whose score is at least 0",
     "ML-GCN", "scikit-learn f1_score(average='micro')",
     lambda x: float(at.f1(x.top_from_zero.pooled)[0])),
    ("cf1_top3_from_zero", f"cf1 with those of {_TOP} as decisions whose score is at least 0",
     "ML-GCN", "arithmetic on scikit-learn's precision and recall",
     lambda x: _class_f1(x.top_from_zero)),
    ("f1_sample", "F1 of an image's labels at the decisions; mean over all queries",
     "Simon et al., with their own threshold", "scikit-learn f1_score(average='samples')",
     lambda x: _mean(at.f1(x.rows.counts)[:, 0])),
)  # fmt: skip

CONVENTIONS: dict[str, Convention] = {row[0]: Convention(*row) for row in _TABLE}


def convention_values(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    decisions: npt.ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, float]:
    """The value of each convention, a fraction; NaN where nothing is positive.

    Takes what `episode_metrics` takes; `names` of CONVENTIONS, all by default. A label, query or
    episode without positives is left out of every mean over such.
    """
    for name in names or ():
        if name not in CONVENTIONS:
            raise unknown_name("convention", name, CONVENTIONS)
    data = _Data(Episodes(scores, targets, decisions))
    return {name: CONVENTIONS[name].compute(data) for name in names or CONVENTIONS}

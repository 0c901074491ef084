"""Labels that occur together: does a label's score tell it from its companion?

A method that has seen `cup` only beside `fork` may have learnt either. For labels a and b the AUC
is the share of pairs (query with a, query with b and not a) in which the first has the higher score
for a, ties counting half. Chance is 0.5.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlfsic_bench.analysis.score_report import Figure, Group
from mlfsic_bench.evaluation.scores import Scores
from mlfsic_bench.metrics.intervals import t_interval
from mlfsic_bench.results.targets import Truth

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


def pair_groups(scores: Scores, truth: Truth) -> list[Group]:
    """One group per ordered pair (label, other) that some query or support image shows together."""
    assert truth.support_targets is not None
    y = truth.targets.astype(np.int64)
    together = np.einsum("eqa,eqb->ab", y, y)
    support = [t.astype(np.int64) for t in truth.support_targets]
    shared = np.stack([(t.T @ t) > 0 for t in support])  # [E, L, L]
    labels = scores.meta.labels
    groups = []
    for a, label in enumerate(labels):
        value = auc_against(scores.scores[:, :, a], truth.targets[:, :, a], truth.targets)
        for b, other in enumerate(labels):
            if a == b or not (together[a, b] or shared[:, a, b].any()):
                continue
            beside = shared[:, a, b]
            groups.append(
                Group(
                    name=f"{label} / {other}",
                    counts={
                        "queries_with_both": int(together[a, b]),
                        "episodes_shared": int(beside.sum()),
                    },
                    figures={
                        "auc": _figure(value[:, b]),
                        "auc_shared": _figure(value[beside, b]),
                        "auc_apart": _figure(value[~beside, b]),
                    },
                )
            )
    return groups


def auc_against(scores: npt.NDArray[np.floating], has: Bool, targets: Bool) -> Float64:
    """float64 [E, L]: for each other label b, the AUC of queries with the label against b's.

    Parameters
    ----------
    scores: [E, Q], the scores for the label. has: bool [E, Q], which queries have it.
    targets: bool [E, Q, L].

    NaN where there is no pair of such queries.
    """
    result = np.full((len(scores), targets.shape[2]), np.nan)
    for e in range(len(scores)):
        own = np.sort(scores[e, has[e]])
        rest = ~has[e]
        if not len(own):
            continue
        s = scores[e, rest]
        above = len(own) - np.searchsorted(own, s, side="right")
        tied = np.searchsorted(own, s, side="right") - np.searchsorted(own, s, side="left")
        won = (above + tied / 2) / len(own)  # for each query without the label
        others = targets[e, rest]
        count = others.sum(axis=0)
        np.divide(won @ others, count, out=result[e], where=count > 0)
    return result


def _figure(values: Float64) -> Figure:
    mean, half = t_interval(values)
    return Figure(mean=None if np.isnan(mean) else mean, episodes=None if np.isnan(half) else half)

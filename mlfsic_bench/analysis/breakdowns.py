"""Scores by one property: label, number of labels in the image, support count, pair of labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mlfsic_bench.analysis.estimates import Breakdown, Group, estimate
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.scores import Scores
from mlfsic_bench.metrics import metric as at
from mlfsic_bench.metrics.average_precision import Ranking, ap_without, label_ap
from mlfsic_bench.metrics.intervals import EpisodeImages
from mlfsic_bench.results.result import Targets

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
MOST = 4  # labels in an image, or support images of a label, that make a group of their own

DEFINITIONS = {
    "label": "each label by itself, over the episodes that test it; AP, and precision, recall and "
    "F1 at the decisions",
    "cardinality": "the query images with that many of the novel labels by themselves: micro "
    f"metrics among them ({MOST} stands for {MOST} or more), and the AP of each image's own labels "
    "(ap_sample)",
    "support-count": "the labels that so many support images of the episode show "
    f"({MOST} stands for {MOST} or more): means over those labels, then over episodes",
    "pair": "each label beside each other one: how well queries with the label are ranked above "
    "those with only the other (auc: share of such pairs of images, ties half), over the episodes "
    "in which a support image of the label shows the other as well (auc_shared) and those in which "
    "none does (auc_apart)",
}


def break_down(by: str, scores: Scores, targets: Targets, images: EpisodeImages) -> Breakdown:
    """The scores by one of BREAKDOWNS.

    Raises BenchError where the support images are needed and not known.
    """
    if by in ("support-count", "pair") and targets.support_targets is None:
        raise BenchError(
            f"--by {by} needs the support images of every episode",
            expected="split and episodes, so that the support follows from them",
            found="a run's stored targets, which hold query images only",
            remedy="name where to find them: --data-root ROOT or --split FILE",
        )
    return Breakdown(
        by=by, definition=DEFINITIONS[by], groups=BREAKDOWNS[by](scores, targets, images)
    )


def decisions_of(scores: Scores) -> Bool:
    """bool [E, Q, L]: the method's own decisions, or score > 0."""
    return scores.scores > 0 if scores.decisions is None else scores.decisions


def _counted(counts: at.Counts) -> dict[str, Float64]:
    return {"precision": at.precision(counts), "recall": at.recall(counts), "f1": at.f1(counts)}


def by_label(scores: Scores, targets: Targets, images: EpisodeImages) -> list[Group]:
    """One group per label, in the split's order."""
    s, y = scores.scores, targets.targets
    ap = label_ap(s, y)
    left = ap_without(s.transpose(0, 2, 1), y.transpose(0, 2, 1))
    counts = at.count(decisions_of(scores), y)
    each = {
        name: np.where(counts.positive > 0, value, np.nan)
        for name, value in _counted(counts).items()
    }
    groups = []
    for i, label in enumerate(scores.meta.labels):
        over_both = estimate(ap[:, i], ap[:, i, None] - left[:, i], images)
        groups.append(
            Group(
                name=label,
                counts={
                    "episodes": int((counts.positive[:, i] > 0).sum()),
                    "positives": int(counts.positive[:, i].sum()),
                },
                values={"ap": over_both, **{name: estimate(v[:, i]) for name, v in each.items()}},
            )
        )
    return groups


def by_cardinality(scores: Scores, targets: Targets, images: EpisodeImages) -> list[Group]:
    """One group per number of novel labels in the query image."""
    s, y, d = scores.scores, targets.targets, decisions_of(scores)
    E, Q, L = s.shape
    cardinality = np.minimum(y.sum(axis=2), MOST)
    ranking = Ranking(s.reshape(E, Q * L), y.reshape(E, Q * L))
    own_ap = label_ap(s.reshape(E * Q, L, 1), y.reshape(E * Q, L, 1)).reshape(E, Q)
    groups = []
    for size in np.unique(cardinality).tolist():
        chosen = cardinality == size
        some = chosen.any(axis=1)
        counts = at.count(d & chosen[:, :, None], y & chosen[:, :, None]).pooled
        values = {f"micro_{name}": value for name, value in _counted(counts).items()}
        values["micro_ap"] = ranking.ap(np.repeat(chosen.astype(np.float64), L, axis=1))
        if size:
            total = np.where(chosen, np.nan_to_num(own_ap), 0.0).sum(axis=1)
            values["ap_sample"] = total / np.maximum(chosen.sum(axis=1), 1)
        groups.append(
            Group(
                name=str(size),
                counts={"episodes": int(some.sum()), "queries": int(chosen.sum())},
                values={
                    name: estimate(np.where(some, value, np.nan)) for name, value in values.items()
                },
            )
        )
    return groups


def by_support_count(scores: Scores, targets: Targets, images: EpisodeImages) -> list[Group]:
    """One group per number of support images that show the label."""
    assert targets.support_targets is not None
    shown = np.stack([targets.sum(axis=0) for targets in targets.support_targets])
    shown = np.minimum(shown, MOST)
    counts = at.count(decisions_of(scores), targets.targets)
    values = {"ap": label_ap(scores.scores, targets.targets), **_counted(counts)}
    tested = counts.positive > 0
    groups = []
    for number in np.unique(shown).tolist():
        cells = (shown == number) & tested
        of = cells.sum(axis=1)
        means = {}
        for name, value in values.items():
            total = np.where(cells, np.nan_to_num(value), 0.0).sum(axis=1)
            means[name] = estimate(
                np.divide(total, of, out=np.full(len(total), np.nan), where=of > 0)
            )
        counted = {"episodes": int((of > 0).sum()), "labels": int(of.sum())}
        groups.append(Group(name=str(number), counts=counted, values=means))
    return groups


def by_pair(scores: Scores, targets: Targets, images: EpisodeImages) -> list[Group]:
    """One group per ordered pair of labels that some query or support image shows together.

    A method that has seen `cup` only beside `fork` may have learnt either. For labels a and b the
    AUC is the share of pairs (query with a, query with b and not a) in which the first has the
    higher score for a, ties counting half. Chance is 0.5.
    """
    assert targets.support_targets is not None
    y = targets.targets.astype(np.int64)
    together = np.einsum("eqa,eqb->ab", y, y)
    support = [t.astype(np.int64) for t in targets.support_targets]
    shared = np.stack([(t.T @ t) > 0 for t in support])  # [E, L, L]
    labels = scores.meta.labels
    groups = []
    for a, label in enumerate(labels):
        value = auc_against(scores.scores[:, :, a], targets.targets[:, :, a], targets.targets)
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
                    values={
                        "auc": estimate(value[:, b]),
                        "auc_shared": estimate(value[beside, b]),
                        "auc_apart": estimate(value[~beside, b]),
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


BREAKDOWNS: dict[str, Callable[[Scores, Targets, EpisodeImages], list[Group]]] = {
    "label": by_label,
    "cardinality": by_cardinality,
    "support-count": by_support_count,
    "pair": by_pair,
}

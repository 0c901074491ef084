"""Scores taken apart: per label, per number of labels in the image, per support count, per pair."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mlfsic_bench.analysis.label_pairs import pair_groups
from mlfsic_bench.analysis.score_report import Breakdown, Figure, Group
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.scores import Scores
from mlfsic_bench.metrics import decisions as at
from mlfsic_bench.metrics.average_precision import ap_without, label_ap
from mlfsic_bench.metrics.image_interval import EpisodeImages, image_interval
from mlfsic_bench.metrics.intervals import t_interval
from mlfsic_bench.metrics.weighted import Ranking
from mlfsic_bench.results.targets import Truth

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


def break_down(by: str, scores: Scores, truth: Truth, images: EpisodeImages) -> Breakdown:
    """The scores by one of BREAKDOWNS.

    Raises BenchError where the support images are needed and not known.
    """
    if by in ("support-count", "pair") and truth.support_targets is None:
        raise BenchError(
            f"--by {by} needs the support images of every episode",
            expected="split and episodes, so that the support follows from them",
            found="a run's stored answers, which hold query images only",
            remedy="name where to find them: --data-root ROOT or --split FILE",
        )
    return Breakdown(
        by=by, definition=DEFINITIONS[by], groups=BREAKDOWNS[by](scores, truth, images)
    )


def decisions_of(scores: Scores) -> Bool:
    """bool [E, Q, L]: the method's own decisions, or score > 0."""
    return scores.scores > 0 if scores.decisions is None else scores.decisions


def plain(values: Float64) -> Figure:
    """The mean over episodes [E] and its interval over episodes; NaN values are left out."""
    mean, half = t_interval(values)
    return Figure(mean=_number(mean), episodes=_number(half))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _counted(counts: at.Counts) -> dict[str, Float64]:
    return {"precision": at.precision(counts), "recall": at.recall(counts), "f1": at.f1(counts)}


def by_label(scores: Scores, truth: Truth, images: EpisodeImages) -> list[Group]:
    """One group per label, in the split's order."""
    s, y = scores.scores, truth.targets
    ap = label_ap(s, y)
    left = ap_without(s.transpose(0, 2, 1), y.transpose(0, 2, 1))
    counts = at.count(decisions_of(scores), y)
    each = {
        name: np.where(counts.positive > 0, value, np.nan)
        for name, value in _counted(counts).items()
    }
    groups = []
    for i, label in enumerate(scores.meta.labels):
        over_images = image_interval(ap[:, i], ap[:, i, None] - left[:, i], images)
        figure = plain(ap[:, i]).model_copy(update={"images": _number(over_images.half_width)})
        groups.append(
            Group(
                name=label,
                counts={
                    "episodes": int((counts.positive[:, i] > 0).sum()),
                    "positives": int(counts.positive[:, i].sum()),
                },
                figures={"ap": figure, **{name: plain(v[:, i]) for name, v in each.items()}},
            )
        )
    return groups


def by_cardinality(scores: Scores, truth: Truth, images: EpisodeImages) -> list[Group]:
    """One group per number of novel labels in the query image."""
    s, y, d = scores.scores, truth.targets, decisions_of(scores)
    E, Q, L = s.shape
    cardinality = np.minimum(y.sum(axis=2), MOST)
    ranking = Ranking(s.reshape(E, Q * L), y.reshape(E, Q * L))
    own_ap = label_ap(s.reshape(E * Q, L, 1), y.reshape(E * Q, L, 1)).reshape(E, Q)
    groups = []
    for size in np.unique(cardinality).tolist():
        chosen = cardinality == size
        some = chosen.any(axis=1)
        counts = at.count(d & chosen[:, :, None], y & chosen[:, :, None]).pooled()
        values = {f"micro_{name}": value for name, value in _counted(counts).items()}
        values["micro_ap"] = ranking.ap(np.repeat(chosen.astype(np.float64), L, axis=1))
        if size:
            total = np.where(chosen, np.nan_to_num(own_ap), 0.0).sum(axis=1)
            values["ap_sample"] = total / np.maximum(chosen.sum(axis=1), 1)
        groups.append(
            Group(
                name=str(size),
                counts={"episodes": int(some.sum()), "queries": int(chosen.sum())},
                figures={
                    name: plain(np.where(some, value, np.nan)) for name, value in values.items()
                },
            )
        )
    return groups


def by_support_count(scores: Scores, truth: Truth, images: EpisodeImages) -> list[Group]:
    """One group per number of support images that show the label."""
    assert truth.support_targets is not None
    shown = np.stack([targets.sum(axis=0) for targets in truth.support_targets])
    shown = np.minimum(shown, MOST)
    counts = at.count(decisions_of(scores), truth.targets)
    values = {"ap": label_ap(scores.scores, truth.targets), **_counted(counts)}
    tested = counts.positive > 0
    groups = []
    for number in np.unique(shown).tolist():
        cells = (shown == number) & tested
        of = cells.sum(axis=1)
        figures = {}
        for name, value in values.items():
            total = np.where(cells, np.nan_to_num(value), 0.0).sum(axis=1)
            figures[name] = plain(
                np.divide(total, of, out=np.full(len(total), np.nan), where=of > 0)
            )
        counted = {"episodes": int((of > 0).sum()), "labels": int(of.sum())}
        groups.append(Group(name=str(number), counts=counted, figures=figures))
    return groups


def by_pair(scores: Scores, truth: Truth, images: EpisodeImages) -> list[Group]:
    """One group per ordered pair of labels that some query or support image shows together."""
    return pair_groups(scores, truth)


BREAKDOWNS: dict[str, Callable[[Scores, Truth, EpisodeImages], list[Group]]] = {
    "label": by_label,
    "cardinality": by_cardinality,
    "support-count": by_support_count,
    "pair": by_pair,
}

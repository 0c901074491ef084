"""The figures of an entry, computed from scores and targets: metrics, intervals, AP per label.

Several training seeds are one entry. An episode's value is then its mean over the seeds, and the
interval over training seeds is a Student-t interval of the seeds' means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlfsic_bench.evaluation.scores import Scores
from mlfsic_bench.leaderboard.entry_figures import Chance, Figure, Interval, Intervals, LabelFigure
from mlfsic_bench.leaderboard.kinds import IntervalKind
from mlfsic_bench.metrics.average_precision import label_ap
from mlfsic_bench.metrics.chance import chance_levels
from mlfsic_bench.metrics.episode import episode_metrics, query_influence
from mlfsic_bench.metrics.image_interval import EpisodeImages, episode_images, image_interval
from mlfsic_bench.metrics.intervals import t_interval
from mlfsic_bench.metrics.registry import METRICS

if TYPE_CHECKING:
    from mlfsic_bench.results.targets import Truth

DIGITS = 6  # after the point, in per cent; sums differ between machines in the 13th
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Figures:
    """What can be computed of one entry; all in per cent."""

    figures: dict[str, Figure]
    per_label: list[LabelFigure]
    chance: dict[str, Chance]


def compute_figures(seeds: Sequence[Scores], truth: Truth) -> Figures:
    """The figures of the scores of one or more training seeds, which share episodes and labels.

    The interval over images is left out where the support images are not known, because it would
    cover query images only.
    """
    targets = np.asarray(truth.targets, np.uint8)
    images = None
    if truth.support is not None:
        images = episode_images(truth.query, truth.support, truth.drawn_for)
    metrics = [episode_metrics(one.scores, targets, one.decisions) for one in seeds]
    effects = _effects([(one.scores, one.decisions) for one in seeds], targets, images, None)
    figures = {
        name: Figure(value=value, intervals=intervals)
        for name in METRICS
        for value, intervals in [
            _mean(np.stack([each[name] for each in metrics]), effects.get(name), images)
        ]
        if value is not None
    }
    ap = np.stack([label_ap(one.scores, targets) for one in seeds])  # [S, E, L]
    per_label = []
    for i, label in enumerate(seeds[0].meta.labels):
        columns = [(one.scores[:, :, i : i + 1], None) for one in seeds]
        effect = _effects(columns, targets[:, :, i : i + 1], images, ("macro_ap",))
        value, intervals = _mean(ap[:, :, i], effect.get("macro_ap"), images)
        if value is not None:
            per_label.append(LabelFigure(label=label, ap=value, intervals=intervals))
    return Figures(figures, per_label, chance_of(targets))


def chance_of(targets: npt.NDArray[np.uint8]) -> dict[str, Chance]:
    """Expected micro-AP and macro-AP of a random ranking of these queries, [E, Q, L]."""
    levels = zip(("micro_ap", "macro_ap"), chance_levels(targets), strict=True)
    known = {name: per_cent(level) for name, level in levels if not np.isnan(level)}
    return {name: Chance(low=level, high=level) for name, level in known.items()}


def per_cent(value: float) -> float:
    """A fraction in per cent, rounded to DIGITS."""
    return round(100.0 * float(value), DIGITS) + 0.0  # + 0.0 makes -0.0 positive


def _effects(
    seeds: Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_] | None]],
    targets: npt.NDArray[np.uint8],
    images: EpisodeImages | None,
    names: tuple[str, ...] | None,
) -> Mapping[str, Float64]:
    """Each metric's influence [E, Q], mean over seeds; nothing where images are not known."""
    if images is None:
        return {}
    each = [query_influence(scores, targets, decisions, names) for scores, decisions in seeds]
    return {name: np.mean([one[name] for one in each], axis=0) for name in each[0]}


def _mean(
    values: Float64, influence: Float64 | None, images: EpisodeImages | None
) -> tuple[float | None, Intervals]:
    """Mean and intervals of float64 [S, E] values, NaN where undefined."""
    # Undefined episodes are those without positives, which are the same for every seed.
    over_seeds = values.mean(axis=0)
    mean, half = t_interval(over_seeds)
    if np.isnan(mean):
        return None, {}
    intervals: Intervals = {}
    if images is not None and influence is not None:
        width = image_interval(over_seeds, influence, images).half_width
        _put(intervals, IntervalKind.IMAGES, mean, width)
    _put(intervals, IntervalKind.EPISODES, mean, half)
    if len(values) > 1:
        between, half = t_interval(values[:, ~np.isnan(values[0])].mean(axis=1))
        _put(intervals, IntervalKind.SEEDS, between, half)
    return per_cent(mean), intervals


def _put(intervals: Intervals, kind: IntervalKind, mean: float, half: float) -> None:
    if not np.isnan(half):
        intervals[kind] = Interval(low=per_cent(mean - half), high=per_cent(mean + half))

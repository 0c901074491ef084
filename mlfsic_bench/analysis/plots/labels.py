"""The AP of every label with its intervals, several runs side by side, and chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlfsic_bench.analysis.breakdowns import break_down
from mlfsic_bench.analysis.plots.frame import (
    CHANCE,
    COLOURS,
    MARKERS,
    Plot,
    check_number,
    dress,
    legend_columns,
    legend_name,
    plain,
)
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.metrics.average_precision import expected_random_ap
from mlfsic_bench.results.conditions import ResultGroup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LABELS = 80
HEAD = ("run", "label", "episodes", "ap", "over_episodes", "over_images", "chance")


@dataclass(frozen=True)
class _Bar:
    """One run and label, in per cent; NaN where undefined."""

    run: str
    label: str
    episodes: int
    ap: float
    over_episodes: float
    over_images: float
    chance: float

    @property
    def row(self) -> tuple[object, ...]:
        return (self.run, self.label, self.episodes, self.ap, self.over_episodes, self.over_images,
                self.chance)  # fmt: skip


def labels(group: ResultGroup, only: Sequence[str] = ()) -> Plot:
    """The plot of each label's AP: mean over episodes, sorted by the mean over runs.

    `only` names the labels to draw, all by default. Raises BenchError for too many runs or labels
    and for a label that the split does not have.
    """
    check_number("labels", len(group.methods))
    chosen = chosen_labels(group, only, MOST_LABELS)
    targets = group.targets
    chance = _chance(group)
    bars: dict[str, list[_Bar]] = {label: [] for label in chosen}
    for one in group.methods:
        for part in break_down("label", one.first.scores, targets, group.images).groups:
            if part.name not in bars:
                continue
            ap = part.values["ap"]
            values = (ap.mean, ap.episodes, ap.images)
            mean, episodes, over = (math.nan if x is None else 100 * x for x in values)
            tested = part.counts["episodes"]
            bar = _Bar(one.name, part.name, tested, mean, episodes, over, chance[part.name])
            bars[part.name].append(bar)
    order = sorted(bars, key=lambda name: (-_mean(bars[name]), name))
    ordered = [bars[name] for name in order]
    runs = [one.name for one in group.methods]
    names = [legend_name(one.name, one.changed) for one in group.methods]
    return Plot(
        title=group.title("AP of each novel label, mean over episodes"),
        alt=" ".join([_alt(runs, ordered), *group.off_defaults]),
        head=HEAD,
        rows=tuple(bar.row for group in ordered for bar in group),
        size=(7.6, 1.8 + len(order) * (0.17 + 0.13 * len(runs)) + 0.1 * len(runs)),
        draw=lambda figure: _draw(figure, names, ordered),
    )


def chosen_labels(group: ResultGroup, only: Sequence[str], most: int) -> list[str]:
    """The labels to draw, in the split's order; BenchError for unknown ones and too many."""
    known = group.meta.labels
    for label in only:
        if label not in known:
            raise unknown_name("label", label, known)
    chosen = [label for label in known if not only or label in only]
    if len(chosen) > most:
        raise BenchError(
            f"{len(chosen)} labels are too many for one plot",
            expected=f"at most {most}",
            found=str(len(chosen)),
            remedy="choose some: --label NAME, repeatable",
        )
    return chosen


def _chance(group: ResultGroup) -> dict[str, float]:
    """The AP expected of a random ranking, per cent, mean over the episodes that test a label."""
    y = group.targets.targets
    positives = y.sum(axis=1)
    known = {int(m): expected_random_ap(int(m), y.shape[1]) for m in np.unique(positives) if m}
    result = {}
    for i, label in enumerate(group.meta.labels):
        each = [known[int(m)] for m in positives[:, i] if m]
        result[label] = 100 * float(np.mean(each)) if each else math.nan
    return result


def _mean(bars: Sequence[_Bar]) -> float:
    known = [bar.ap for bar in bars if not math.isnan(bar.ap)]
    return sum(known) / len(known) if known else -math.inf


def _alt(runs: Sequence[str], ordered: Sequence[Sequence[_Bar]]) -> str:
    parts = []
    for i, run in enumerate(runs):
        own = [group[i] for group in ordered if not math.isnan(group[i].ap)]
        if not own:
            continue
        best, worst = (f(own, key=lambda bar: bar.ap) for f in (max, min))
        parts.append(f"{run}: {best.label} {best.ap:.1f} is highest, {worst.label} {worst.ap:.1f} "
                     f"lowest")  # fmt: skip
    return f"AP of {len(ordered)} novel labels in per cent. {'; '.join(parts)}."


def _draw(figure: Figure, names: Sequence[str], ordered: Sequence[Sequence[_Bar]]) -> None:
    from matplotlib.lines import Line2D

    axes = figure.subplots()
    step = 0.8 / len(names)
    for y, group in enumerate(ordered):
        if y % 2:
            axes.axhspan(y - 0.5, y + 0.5, color="0.96", linewidth=0)
        chance = group[0].chance
        axes.plot([chance, chance], [y - 0.42, y + 0.42], color=CHANCE, linewidth=1.6)
        for i, bar in enumerate(group):
            if math.isnan(bar.ap):
                continue
            at, colour = y + (i - (len(names) - 1) / 2) * step, COLOURS[i]
            for half, width in ((bar.over_images, 0.9), (bar.over_episodes, 2.8)):
                if not math.isnan(half):
                    axes.plot([bar.ap - half, bar.ap + half], [at, at], color=colour,
                              linewidth=width, solid_capstyle="butt")  # fmt: skip
            axes.plot([bar.ap], [at], MARKERS[i], color=colour, markersize=5,
                      markeredgecolor="white", markeredgewidth=0.6)  # fmt: skip
    axes.set_yticks(range(len(ordered)), [plain(group[0].label, 32) for group in ordered])
    axes.set_ylim(len(ordered) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("AP (per cent); thick: 95 % over episodes, thin: 95 % over images", fontsize=9)
    dress(axes, "x")
    axes.tick_params(axis="y", length=0)
    handles = [
        Line2D([], [], color=COLOURS[i], marker=MARKERS[i], linewidth=2.8, label=name)
        for i, name in enumerate(names)
    ]
    handles.append(Line2D([], [], color=CHANCE, marker="|", markersize=11, linestyle="",
                          markeredgewidth=1.6, label="chance (random ranking)"))  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns(names),
                  fontsize=8, frameon=False)  # fmt: skip

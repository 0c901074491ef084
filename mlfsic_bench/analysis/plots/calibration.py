"""Calibration: how often a cell is positive where sigmoid(score) says p, and what 0.5 measures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from mlfsic_bench.analysis.breakdowns import decisions_of
from mlfsic_bench.analysis.plots.frame import (
    CHANCE,
    COLOURS,
    Plot,
    check_number,
    dress,
    legend_name,
    wrapped,
)
from mlfsic_bench.metrics.reliability import Reliability, reliability
from mlfsic_bench.results.conditions import MethodResult, ResultGroup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
HEAD = ("run", "bin_low", "bin_high", "cells", "confidence", "positive", "ece", "note")
THRESHOLD = (
    "Dashed: 0.5, that is score 0. Precision, recall and F1 at 0.5 measure where a method puts its "
    "zero; AP does not depend on it."
)


@dataclass(frozen=True, eq=False)
class _Panel:
    run: str
    title: str
    result: Reliability
    note: str


def calibration(group: ResultGroup, bins: int = 10) -> Plot:
    """The reliability diagram of each run over all query x label cells of all episodes.

    Raises BenchError for too many runs and fewer than one bin.
    """
    check_number("calibration", len(group.methods))
    for one in group.methods:
        one.first.require_values("calibration")
    y = group.targets.targets
    panels = [
        _Panel(
            run=one.name,
            title=legend_name(one.name, one.changed, 60),
            result=reliability(one.first.scores.scores, y, bins),
            note=note(one, y),
        )
        for one in group.methods
    ]
    rows = []
    for panel in panels:
        r = panel.result
        for i, cells in enumerate(r.count.tolist()):
            low, high = float(r.edges[i]), float(r.edges[i + 1])
            rows.append((panel.run, low, high, cells, float(r.confidence[i]),
                         float(r.positive[i]), r.ece, panel.note))  # fmt: skip
    told = " ".join(f"{panel.run}: ECE {100 * panel.result.ece:.1f}, {panel.note}"
                    for panel in panels)  # fmt: skip
    told = f"Share of positive cells against sigmoid(score), in {bins} bins. {told} {THRESHOLD}"
    lines = math.ceil(len(panels) / COLUMNS)
    return Plot(
        title=group.title(f"Calibration of sigmoid(score) over {y.size:,} query x label cells"),
        alt=" ".join([told, *group.off_defaults]),
        head=HEAD,
        rows=tuple(rows),
        size=(max(6.4, 3.2 * min(COLUMNS, len(panels))), 1.3 + 5.2 * lines),
        draw=lambda figure: _draw(figure, panels),
    )


def note(one: MethodResult, targets: npt.NDArray[np.bool_]) -> str:
    """What the 0.5 threshold measures for this method's scale of scores, from the scores alone."""
    scores = one.first.scores
    s = scores.scores
    low, high = float(s.min()), float(s.max())
    p = expit(np.array([low, high], np.float64))
    positive = 100 * float(np.mean(targets))
    text = f"scores {low:.3g} to {high:.3g}, sigmoid {p[0]:.2f} to {p[1]:.2f}; "
    text += f"above 0.5: {_share(s > 0)} of cells, positive: {positive:.1f} %. "
    if low > 0 or high <= 0:
        side = "above" if low > 0 else "at or below"
        text += f"All scores lie {side} 0, so 0.5 separates nothing."
    elif scores.decisions is not None:
        text += f"The method decides by a rule of its own: yes to {_share(decisions_of(scores))}."
    else:
        times = float(np.mean(s > 0)) / max(float(np.mean(targets)), 1e-12)
        text += f"At 0.5 it says yes {times:.2g} times as often as there are positives."
    return text


def _share(cells: npt.NDArray[np.bool_]) -> str:
    share = 100 * float(np.mean(cells))
    return f"{share:.1f} %" if share >= 0.1 or share == 0 else f"{share:.1g} %"


def _draw(figure: Figure, panels: Sequence[_Panel]) -> None:
    from matplotlib.lines import Line2D

    columns = min(COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    ratios = [3, 1.3] * lines
    grid = figure.subplots(2 * lines, columns, squeeze=False, height_ratios=ratios)
    for place in range(lines * columns):
        upper = grid[2 * (place // columns), place % columns]
        lower = grid[2 * (place // columns) + 1, place % columns]
        if place >= len(panels):
            upper.set_visible(False)
            lower.set_visible(False)
            continue
        _reliability(upper, panels[place])
        _counts(lower, panels[place], 44 if columns > 1 else 90)
        if place % columns == 0:
            upper.set_ylabel("share that is positive (per cent)", fontsize=8.5)
            lower.set_ylabel("cells (number, log)", fontsize=8.5)
    handles = [
        Line2D([], [], color=COLOURS[0], marker="o", label="bins with cells"),
        Line2D([], [], color=CHANCE, label="perfectly calibrated"),
        Line2D([], [], color="black", linestyle="--", label="0.5: score 0"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False,
                  title=wrapped(THRESHOLD, int(figure.get_figwidth() * 15)),
                  title_fontsize=8)  # fmt: skip


def _reliability(axes: Axes, panel: _Panel) -> None:
    r = panel.result
    some = r.count > 0
    axes.plot([0, 100], [0, 100], color=CHANCE, linewidth=1)
    axes.axvline(50, color="black", linestyle="--", linewidth=1)
    axes.plot(100 * r.confidence[some], 100 * r.positive[some], "o-", color=COLOURS[0],
              linewidth=1.4, markersize=5)  # fmt: skip
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    title = f"{wrapped(panel.title, 34)}\nECE {100 * r.ece:.1f}"
    axes.set_title(title, fontsize=8.5)
    axes.tick_params(labelbottom=False)
    dress(axes, "both")


def _counts(axes: Axes, panel: _Panel, width_of_note: int) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    r = panel.result
    width = 100 / len(r.count)
    axes.bar(100 * r.edges[:-1], r.count, width=width, align="edge", color="0.7",
             edgecolor="white", linewidth=0.5)  # fmt: skip
    axes.axvline(50, color="black", linestyle="--", linewidth=1)
    axes.set_yscale("log")
    axes.set_ylim(0.5, 2.5 * max(int(r.count.max()), 1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(0, 100)
    text = "sigmoid(score) (per cent)\n" + wrapped(panel.note, width_of_note)
    axes.set_xlabel(text, fontsize=8)
    dress(axes, "y")

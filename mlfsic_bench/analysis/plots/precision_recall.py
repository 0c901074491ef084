"""Precision against recall: the mean over labels, then each label, one curve for each run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlfsic_bench.analysis.plots.frame import (
    CHANCE,
    COLOURS,
    DASHES,
    Plot,
    check_number,
    dress,
    legend_columns,
    legend_name,
    plain,
)
from mlfsic_bench.analysis.plots.labels import chosen_labels
from mlfsic_bench.errors import unknown_name
from mlfsic_bench.metrics.average_precision import label_ap, precision_at_recalls
from mlfsic_bench.metrics.intervals import Float64
from mlfsic_bench.results.conditions import MethodResult, ResultGroup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEPS = 200  # recalls 0.5 %, 1 % ... 100 %; four positives an episode divide it
MOST_LABELS = 39
MACRO = "mean over labels"
POOLINGS = {
    "pooled": "the queries of all episodes in one ranking for each label",
    "episodes": "a ranking for each label and episode, mean over episodes",
}
HEAD = ("run", "curve", "label", "recall", "precision", "ap", "prevalence")


@dataclass(frozen=True, eq=False)
class _Curve:
    """One panel's line of one run, in per cent; `label` is empty for the mean over labels."""

    run: str
    label: str
    precision: Float64
    ap: float
    prevalence: float


def precision_recall(group: ResultGroup, pooling: str = "pooled", only: Sequence[str] = ()) -> Plot:
    """The plot of precision at the recalls k / 200.

    Parameters
    ----------
    pooling: one of POOLINGS. With `episodes` the area under the mean curve is the macro-AP of
        tables wherever every episode tests every label; pooled it is `ap_pooled_macro`.
    only: the labels to draw, and to take the mean over; all by default.

    Raises BenchError for an unknown pooling or label, too many runs or labels.
    """
    if pooling not in POOLINGS:
        raise unknown_name("pooling", pooling, POOLINGS)
    check_number("pr", len(group.methods))
    chosen = chosen_labels(group, only, MOST_LABELS)
    places = [group.meta.labels.index(label) for label in chosen]
    panels: list[list[_Curve]] = [[] for _ in range(len(chosen) + 1)]
    for one in group.methods:
        curves = _curves(group, one, pooling, places, chosen)
        for panel, curve in zip(panels, curves, strict=True):
            panel.append(curve)
    of = f"{len(chosen)} novel labels and their mean"
    mean = "Mean over labels of the AP"
    if len(chosen) == 1:  # the mean over one label is that label's curve
        panels, of, mean = panels[1:], f"the label {chosen[0]}", "AP"
    recalls = [100 * k / STEPS for k in range(1, STEPS + 1)]
    rows = [
        (one.run, "label" if one.label else "macro", one.label, recall, float(p), one.ap,
         one.prevalence)
        for panel in panels
        for one in panel
        for recall, p in zip(recalls, one.precision, strict=True)
    ]  # fmt: skip
    lines = math.ceil(len(panels) / _columns(len(panels)))
    aps = "; ".join(f"{one.run} {one.ap:.1f}" for one in panels[0])
    told = f"Precision against recall for {of}; {_named(pooling)}. {mean}, in per cent: {aps}."
    names = [legend_name(one.name, one.changed) for one in group.methods]
    return Plot(
        title=group.title(f"Precision and recall, {_named(pooling)}"),
        alt=" ".join([told, *group.off_defaults]),
        head=HEAD,
        rows=tuple(rows),
        size=(9.0, 1.6 + 1.75 * lines + 0.14 * len(group.methods)),
        draw=lambda figure: _draw(figure, panels, names),
    )


def _named(pooling: str) -> str:
    return f"{pooling}: {POOLINGS[pooling]}"


def _columns(panels: int) -> int:
    return min(panels, 4 if panels <= 12 else 5)


def _curves(
    group: ResultGroup,
    one: MethodResult,
    pooling: str,
    places: Sequence[int],
    chosen: Sequence[str],
) -> list[_Curve]:
    """The mean over labels, then each label."""
    s = one.first.scores.scores[:, :, places]
    y = group.targets.targets[:, :, places]
    if pooling == "pooled":
        one.first.require_values("curves over all episodes together")
        s, y = s.reshape(1, -1, len(places)), y.reshape(1, -1, len(places))
    E, Q, L = s.shape
    rows = precision_at_recalls(
        s.transpose(0, 2, 1).reshape(E * L, Q), y.transpose(0, 2, 1).reshape(E * L, Q), STEPS
    ).reshape(E, L, STEPS)
    curves = 100 * _known_mean(rows)
    aps = 100 * _known_mean(label_ap(s, y))
    share = 100 * y.mean(axis=(0, 1))
    tested = ~np.isnan(aps)
    mean = _known_mean(curves)
    over = float(aps[tested].mean()) if tested.any() else math.nan
    first = _Curve(one.name, "", mean, over, float(share.mean()))
    return [first] + [
        _Curve(one.name, label, curves[i], float(aps[i]), float(share[i]))
        for i, label in enumerate(chosen)
    ]


def _known_mean(values: Float64) -> Float64:
    """The mean along the first axis of what is not NaN; NaN where nothing is known."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    mean: Float64 = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def _draw(figure: Figure, panels: Sequence[Sequence[_Curve]], names: Sequence[str]) -> None:
    columns = _columns(len(panels))
    lines = math.ceil(len(panels) / columns)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for place, (axes, panel) in enumerate(zip(grid.flat, panels, strict=False)):
        _panel(axes, panel, names)
        below = place + columns >= len(panels)
        axes.tick_params(labelbottom=below, labelleft=place % columns == 0)
        if below:
            axes.set_xlabel("recall (per cent)", fontsize=8)
        if place % columns == 0:
            axes.set_ylabel("precision (per cent)", fontsize=8)
    handles, _ = grid.flat[0].get_legend_handles_labels()
    columns = legend_columns(names)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8,
                  frameon=False)  # fmt: skip


def _panel(axes: Axes, panel: Sequence[_Curve], names: Sequence[str]) -> None:
    recalls = np.arange(STEPS + 1) * (100 / STEPS)
    for i, (one, name) in enumerate(zip(panel, names, strict=True)):
        # precision at recall r holds back to the recall before: a step to the left
        values = np.append(one.precision[:1], one.precision)
        axes.plot(recalls, values, drawstyle="steps-pre", color=COLOURS[i], linestyle=DASHES[i],
                  linewidth=1.4, label=f"{name}: AP {one.ap:.1f}")  # fmt: skip
    axes.axhline(panel[0].prevalence, color=CHANCE, linestyle=":", linewidth=1.2,
                 label="prevalence: the AP of equal scores")  # fmt: skip
    label = panel[0].label
    axes.set_title(plain(label, 24) if label else MACRO, fontsize=8.5,
                   fontweight="normal" if label else "bold")  # fmt: skip
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 102)
    axes.set_xticks([0, 50, 100])
    axes.set_yticks([0, 50, 100])
    dress(axes, "both")

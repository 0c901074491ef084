"""The picture of a learning curve: AP against the number of base images on a logarithmic axis."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlfsic_bench.analysis.curve import Curve, Line
from mlfsic_bench.analysis.curve_tables import check_metric, title
from mlfsic_bench.analysis.plots.frame import COLOURS, FORMS, MARKERS, drawing, form_of, plain
from mlfsic_bench.files import write_bytes
from mlfsic_bench.metrics.registry import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import ErrorbarContainer

NOTE = "lines: means over training seeds (faint: each seed); bars, bands: 95 % over episodes"

LEVEL_GREYS = ("0.25", "0.45", "0.6")
LEVEL_DASHES = ("--", "-.", (0, (8, 2)))


def draw(curve: Curve, path: Path, metric: str = "macro_ap") -> None:
    """Write the picture to `path`, as its suffix says: .png, .svg or .pdf.

    The same curve always gives the same bytes. Raises BenchError for another suffix and an unknown
    metric.
    """
    check_metric(curve, metric)
    write_bytes(path, picture(curve, metric, form_of(path)))


def picture(curve: Curve, metric: str, form: str) -> bytes:
    """The bytes of the picture's file.

    Lines are means over training seeds, faint marks the seeds themselves, bars ± over episodes.
    Methods that do not train are level lines with that interval as a band; chance, where
    known, is dotted.
    """
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=(7.6, 4.6), dpi=144, layout="constrained")
        axes = figure.add_subplot()
        handles: list[Any] = [
            _draw_line(axes, line, metric, i) for i, line in enumerate(curve.lines)
        ]
        for i, level in enumerate(curve.levels):
            value, half = level.point.mean(metric), level.point.half_width[metric]
            grey, dash = LEVEL_GREYS[i % 3], LEVEL_DASHES[i % 3]
            name = plain(f"{level.name} (does not train)", 60)
            handles.append(
                axes.axhline(value, color=grey, linestyle=dash, linewidth=1.4, label=name)
            )
            if not math.isnan(half):
                axes.axhspan(value - half, value + half, color=grey, alpha=0.15, linewidth=0)
        if metric in curve.chance:
            chance = curve.chance[metric]
            handles.append(
                axes.axhline(chance, color="black", linestyle=":", linewidth=1.3, label="chance")
            )
        figure.suptitle(plain(title(curve, metric), 100), fontsize=10.5)
        _dress(axes, curve, metric)
        figure.legend(
            handles=handles, loc="outside lower center", ncols=2, fontsize=8.5, frameon=False
        )
        stream = BytesIO()
        figure.savefig(stream, format=form, metadata={FORMS[form]: None})
    return stream.getvalue()


def _draw_line(axes: Axes, line: Line, metric: str, place: int) -> ErrorbarContainer:
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    for point in line.points:
        if len(point.seeds) > 1:
            x = [point.images] * len(point.seeds)
            axes.plot(x, point.values[metric], marker, color=colour, alpha=0.3, markersize=4)
    halves = [0.0 if math.isnan(h) else h for h in (p.half_width[metric] for p in line.points)]
    return axes.errorbar(
        [point.images for point in line.points],
        [point.mean(metric) for point in line.points],
        yerr=halves,
        color=colour,
        marker=marker,
        markersize=6.5,
        markeredgecolor="white",
        linewidth=1.8,
        elinewidth=1,
        capsize=3,
        label=plain(line.name),
    )


def _dress(axes: Axes, curve: Curve, metric: str) -> None:
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

    axes.set_xscale("log")
    ticks = sorted({point.images for line in curve.lines for point in line.points})
    far = [n for i, n in enumerate(ticks) if i == 0 or n >= 1.25 * ticks[i - 1]]
    axes.xaxis.set_major_locator(FixedLocator(far))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticklabels([f"{n:,}" for n in far])
    if len(ticks) == 1:
        axes.set_xlim(ticks[0] / 2, ticks[0] * 2)
    axes.set_xlabel("base images trained on (number, logarithmic)", fontsize=9.5)
    axes.set_ylabel(f"novel {METRICS[metric].text} (per cent)", fontsize=9.5)
    axes.set_title(NOTE, fontsize=8, color="0.3")
    axes.tick_params(labelsize=8.5)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)

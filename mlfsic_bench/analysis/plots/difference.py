"""The difference plot: every pair of a comparison with its two intervals, sorted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mlfsic_bench.analysis.compare import CompareReport, MetricComparison, Pair, sentence
from mlfsic_bench.analysis.estimates import points
from mlfsic_bench.analysis.plots.frame import COLOURS, Plot, dress, legend_name
from mlfsic_bench.errors import BenchError
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.results.captions import off_defaults, picture_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PAIRS = 60
HEAD = ("metric", "a", "b", "difference", "over_episodes", "over_images")


def difference(report: CompareReport) -> Plot:
    """The plot of a comparison: a panel for each metric, in it a line for each pair.

    Raises BenchError for more pairs than can be read.
    """
    pairs = len(report.metrics[0].pairs)
    if pairs > MOST_PAIRS:
        raise BenchError(
            f"{pairs} pairs are too many for one difference plot",
            expected=f"at most {MOST_PAIRS}",
            found=str(pairs),
            remedy="compare all with one of them: --against NAME",
        )
    ordered = [sorted_pairs(metric) for metric in report.metrics]
    rows = [
        (metric.metric, pair.a, pair.b, *(points(x) for x in _figures(pair)))
        for metric, own in zip(report.metrics, ordered, strict=True)
        for pair in own
    ]
    what = f"Paired differences over {report.episodes.count} episodes"
    cuts = [one.base_images for one in report.methods]
    settings = off_defaults((one.method, one.changed) for one in report.methods)
    return Plot(
        title=picture_title(what, report.split, report.labels, cuts, report.episodes),
        alt=" ".join([*map(sentence, report.metrics), *settings]),
        head=HEAD,
        rows=tuple(rows),
        size=(7.6, 1.5 + len(ordered) * (0.75 + _row_height(report) * pairs)),
        draw=lambda figure: _draw(figure, report, ordered),
    )


def _row_height(report: CompareReport) -> float:
    names, pairs = _names(report), report.metrics[0].pairs
    return 0.38 if any("\n" in _beside(p, names, report.against) for p in pairs) else 0.27


def _names(report: CompareReport) -> dict[str, str]:
    """What each method is called on the picture."""
    return {one.name: legend_name(one.name, one.changed) for one in report.methods}


def _beside(pair: Pair, names: Mapping[str, str], against: str | None) -> str:
    """What stands beside a line; the pair in two lines where it is long."""
    a, b = names[pair.a], names[pair.b]
    if against:
        return a
    return f"{a}\n− {b}" if len(a) + len(b) > 44 else f"{a} − {b}"


def sorted_pairs(metric: MetricComparison) -> list[Pair]:
    """The pairs by their mean difference, highest first; those without one last."""
    return sorted(metric.pairs, key=lambda p: (p.mean is None, -(p.mean or 0.0), p.a, p.b))


def _figures(pair: Pair) -> tuple[float | None, ...]:
    return (pair.mean, pair.episodes, pair.images)


def _draw(figure: Figure, report: CompareReport, ordered: Sequence[Sequence[Pair]]) -> None:
    from matplotlib.lines import Line2D

    panels = figure.subplots(len(ordered), 1, squeeze=False)[:, 0]
    for axes, metric, pairs in zip(panels, report.metrics, ordered, strict=True):
        _panel(axes, metric, pairs, report)
    handles = [
        Line2D([], [], color=COLOURS[0], linewidth=3.5, label="95 % over episodes (these images)"),
        Line2D([], [], color=COLOURS[0], linewidth=1, label="95 % over images (other images)"),
        Line2D([], [], color=COLOURS[0], marker="o", linestyle="", markerfacecolor="white",
               label="interval over images contains 0"),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)


def _panel(
    axes: Axes, metric: MetricComparison, pairs: Sequence[Pair], report: CompareReport
) -> None:
    names, against = _names(report), report.against
    axes.axvline(0, color="black", linewidth=1)
    for y, pair in enumerate(pairs):
        mean, episodes, images = (100 * (x or 0.0) for x in _figures(pair))
        if pair.mean is None:
            continue
        colour = COLOURS[0]
        axes.plot([mean - images, mean + images], [y, y], color=colour, linewidth=1)
        axes.plot([mean - episodes, mean + episodes], [y, y], color=colour, linewidth=3.5,
                  solid_capstyle="butt")  # fmt: skip
        inside = abs(mean) <= images or pair.images is None
        axes.plot([mean], [y], "o", color=colour, markersize=6,
                  markerfacecolor="white" if inside else colour)  # fmt: skip
        text = "0.00" if f"{mean:+.2f}" in ("+0.00", "-0.00") else f"{mean:+.2f}"
        axes.annotate(
            text.replace("-", "−"),
            (1.01, y),
            xycoords=axes.get_yaxis_transform(),
            fontsize=8,
            va="center",
        )
    axes.set_yticks(range(len(pairs)), [_beside(pair, names, against) for pair in pairs])
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    second = f" minus that of {names[against]}" if against else ", first minus second"
    axes.set_xlabel(f"{METRICS[metric.metric].text}{second} (points)", fontsize=9)
    dress(axes, "x")

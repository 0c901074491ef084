"""What a learning curve says: its table, and how steep it is.

The slope is in points of AP per doubling of the base images. A straight line in log10 N describes
the measured range; it is not a law (docs/methodology.md, M49). Every sentence made here about an N
outside that range says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlfsic_bench.analysis.curve import Curve, Line, Point
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.metrics.intervals import t_interval
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.results.captions import SUBSET
from mlfsic_bench.results.table import Table, table, to_markdown, to_text
from mlfsic_bench.text import csv_text

UPPER = 3  # the points with the most base images that a line is fitted to
LOG2 = float(np.log10(2))
Floats = npt.NDArray[np.float64]


def title(curve: Curve, metric: str) -> str:
    """What a picture says above itself; a subset and a part of the episodes are marked."""
    marks = ["SUBSET of the split's images"] if curve.subset else []
    if curve.episodes < curve.of_episodes:
        marks.append(f"first {curve.episodes} of {curve.of_episodes} episodes")
    told = "".join(f" ({mark})" for mark in marks)
    return f"Novel {METRICS[metric].text} on {curve.split}{told}"


def caption(curve: Curve) -> list[str]:
    """Sentences that belong under the table and the picture."""
    lines = [
        f"Split {curve.split} ({curve.split_hash[:12]}): {curve.labels}, "
        f"{curve.base_images:,} base images; {curve.episodes} episodes; backbone {curve.backbone}; "
        f"label embeddings {curve.embeddings}.",
        "Every point is scored on the same novel episodes, and what trains selects on the same val "
        "episodes; a smaller number's base images are among those of a larger one.",
        "Mean over training seeds in per cent, the lowest to the highest seed, and ± the half "
        "width of a 95 % Student-t interval over episodes of the mean over seeds.",
        "Chance (random ranking): "
        + ", ".join(f"{METRICS[m].text} {value:.2f}" for m, value in curve.chance.items())
        + ".",
    ]
    if curve.largest:
        lines.append(
            "base_labels=N: only the N base labels with the most images and the images that show "
            "one of them, the same labels at every number of base images."
        )
    trained = [point for line in curve.lines for point in line.points]
    if any(point.labels not in (None, curve.base_labels, *curve.largest) for point in trained):
        lines.append(
            f"Labels: of the {curve.base_labels} base labels, those with images enough for a "
            "training episode; the others are excluded, and with them the images that no "
            "other label is left of. Used: the base images that remain."
        )
    if any(point.used is None for point in trained):
        lines.append("Used is empty where the split's images are not at hand.")
    if curve.levels:
        lines.append("Methods that do not train have one value for every number of base images.")
    if any(p.images < curve.base_images for line in curve.lines for p in line.points):
        lines.append("Points with fewer than all base images are not comparable to full runs.")
    if curve.subset:
        lines.append(SUBSET)
    if curve.episodes < curve.of_episodes:
        lines.append(f"Only the first {curve.episodes} of {curve.of_episodes} episodes were run.")
    return lines + list(curve.notes)


def as_table(curve: Curve, metric: str = "macro_ap", at: int | None = None) -> Table:
    """The table with its caption and a sentence on each slope (`sentences`)."""
    check_metric(curve, metric)
    shown = (metric, *(name for name in curve.metrics if name != metric))
    heads = ["Method", "Base images", "Used", "Labels", "Seeds"]
    for name in shown:
        heads += [METRICS[name].text, "seeds"]
    rows = []
    for name, images, point in _rows(curve):
        cells = [name, f"{images:,}" if images else "any"]
        cells += ["" if point.used is None else f"{point.used:,}"]
        cells += ["" if point.labels is None else str(point.labels), str(len(point.seeds))]
        for each in shown:
            cells += [_value(point, each), _spread(point, each)]
        rows.append(cells)
    return table(heads, rows, caption=caption(curve) + sentences(curve, metric, at))


def as_csv(curve: Curve, metric: str = "macro_ap", at: int | None = None) -> str:
    """A line for each method, number of base images and seed, and `mean` lines; per cent.

    Columns: method, trains, base_images (empty where the method does not train), of_base_images,
    seed (`mean` for the mean over seeds), then each metric and, on `mean` lines, its half width
    over episodes; split, subset and episodes, so that a line says what it is when it is alone;
    base_images_used and labels_used, those that the method trained on, empty where not known.
    """
    columns = [column for m in curve.metrics for column in (m, f"{m}_half_width")]
    head = ["method", "trains", "base_images", "of_base_images", "seed", *columns]
    lines: list[list[object]] = [
        [*head, "split", "subset", "episodes", "base_images_used", "labels_used"]
    ]
    for name, images, point in _rows(curve):
        subset = str(curve.subset).lower()
        tail = [curve.split, subset, curve.episodes, point.used, point.labels]
        start = [name, "true" if images else "false", images or None, curve.base_images]
        for i, seed in enumerate(point.seeds):
            cells = [c for m in curve.metrics for c in (_number(point.values[m][i]), "")]
            lines.append([*start, seed, *cells, *tail])
        means = [x for m in curve.metrics for x in (point.mean(m), point.half_width[m])]
        lines.append([*start, "mean", *map(_number, means), *tail])
    return csv_text(lines)


def _rows(curve: Curve) -> list[tuple[str, int, Point]]:
    rows = [(line.name, point.images, point) for line in curve.lines for point in line.points]
    return rows + [(level.name, 0, level.point) for level in curve.levels]


def _value(point: Point, metric: str) -> str:
    half = point.half_width[metric]
    return f"{point.mean(metric):.2f}" + ("" if math.isnan(half) else f" ± {half:.2f}")


def _spread(point: Point, metric: str) -> str:
    if len(point.seeds) == 1:
        return "-"
    return f"{point.low(metric):.2f} to {point.high(metric):.2f}"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


WRITERS: dict[str, Callable[[Curve, str, int | None], str]] = {
    "text": lambda curve, metric, at: to_text([as_table(curve, metric, at)]),
    "markdown": lambda curve, metric, at: to_markdown([as_table(curve, metric, at)]),
    "csv": as_csv,
}


@dataclass(frozen=True, eq=False)
class Slope:
    """The least-squares line AP = a + b log10 N through the means of a method's upper points.

    Attributes
    ----------
    a, b: in per cent, and per cent per factor of ten.
    images: the N it was fitted to, rising.
    lines: float64 [n, 2]: (a, b) of the line through the points of each training seed that all of
        these points share.
    last: change per doubling between the last two of these points alone.
    """

    a: float
    b: float
    images: tuple[int, ...]
    lines: Floats
    last: float

    @property
    def seeds(self) -> int:
        """How many training seeds all of these points share."""
        return len(self.lines)

    def per_doubling(self) -> tuple[float, tuple[float, float] | None]:
        """Points of AP per doubling of N, and its 95 % interval over training seeds."""
        return self.b * LOG2, _over_seeds(self.lines[:, 1] * LOG2)

    def at(self, images: int) -> tuple[float, tuple[float, float] | None]:
        """The line's AP at `images` base images, and its 95 % interval over training seeds."""
        x = float(np.log10(images))
        return self.a + self.b * x, _over_seeds(self.lines @ np.array([1.0, x]))


def slope(line: Line, metric: str = "macro_ap", upper: int = UPPER) -> Slope | None:
    """The slope of a method's last `upper` points; None where it has fewer than two."""
    points = line.points[-upper:]
    if len(points) < 2:
        return None
    x = np.log10([point.images for point in points])
    means = np.array([point.mean(metric) for point in points])
    a, b = _fit(x, means[None])[0]
    shared = sorted(set.intersection(*(set(point.seeds) for point in points)))
    each = [[_of(point, metric, seed) for point in points] for seed in shared]
    lines = _fit(x, np.array(each, np.float64).reshape(len(shared), len(points)))
    last = (means[-1] - means[-2]) / (x[-1] - x[-2]) * LOG2
    images = tuple(point.images for point in points)
    return Slope(float(a), float(b), images, lines, float(last))


def sentences(curve: Curve, metric: str = "macro_ap", at: int | None = None) -> list[str]:
    """One sentence per trained method on its slope, and one on `at` base images where given.

    Raises BenchError for an unknown metric and for `at` below 1.
    """
    if at is not None and at < 1:
        raise BenchError(
            f"can't say anything at {at} base images",
            expected="a number of at least 1",
            found=str(at),
            remedy="correct --at",
        )
    lines = []
    for line in curve.lines:
        fitted = slope(line, metric)
        if fitted is None:
            lines.append(f"{line.name}: one number of base images, so no slope.")
            continue
        low, high = fitted.images[0], fitted.images[-1]
        value, spread = fitted.per_doubling()
        lines.append(
            f"{line.name}: {_signed(value)} points of {METRICS[metric].text} per doubling of the "
            f"base images from {low:,} to {high:,}{_interval(spread, fitted.seeds, sign=True)}; "
            f"{_signed(fitted.last)} between the last two points"
            f"{_all_points(line, fitted, metric)}."
        )
        if at is not None:
            lines.append(_at(line, fitted, metric, at))
    return lines


def check_metric(curve: Curve, metric: str) -> None:
    """BenchError for a metric that the points of the curve do not have."""
    if metric not in curve.metrics:
        raise unknown_name("metric of this learning curve", metric, curve.metrics)


def _at(line: Line, fitted: Slope, metric: str, images: int) -> str:
    value, spread = fitted.at(images)
    text = (
        f"{line.name} at {images:,} base images: that line reads {value:.1f} {METRICS[metric].text}"
        f"{_interval(spread, fitted.seeds)}."
    )
    low, high = fitted.images[0], fitted.images[-1]
    if low <= images <= high:
        return f"{text} {images:,} lies inside the range the line was fitted to."
    away = images / high if images > high else low / images
    return (
        f"{text} This is an EXTRAPOLATION outside the measured range ({low:,} to {high:,}) by a "
        f"factor of {away:.2g}: nothing measured says that the line goes on there, and the "
        "interval does not cover that."
    )


def _all_points(line: Line, fitted: Slope, metric: str) -> str:
    """What a line through all points would say, where the fitted one leaves some out."""
    whole = slope(line, metric, len(line.points))
    if whole is None or whole.images == fitted.images:
        return ""
    return f", {_signed(whole.per_doubling()[0])} over all points from {whole.images[0]:,}"


def _interval(spread: tuple[float, float] | None, seeds: int, sign: bool = False) -> str:
    if spread is None:
        return " (no interval: fewer than two training seeds)"
    ends = ", ".join(_signed(end) if sign else f"{end:.1f}" for end in spread)
    return f" [{ends}] (95 % Student-t interval over {seeds} training seeds)"


def _signed(value: float) -> str:
    text = f"{value:+.2f}"
    return "+0.00" if text == "-0.00" else text


def _of(point: Point, metric: str, seed: int) -> float:
    return point.values[metric][point.seeds.index(seed)]


def _fit(x: npt.NDArray[np.float64], y: Floats) -> Floats:
    """(a, b) [m, 2] of the least-squares lines through (x [k], y [m, k])."""
    design = np.stack([np.ones_like(x), x], axis=1)
    solved = np.linalg.lstsq(design, y.T, rcond=None)[0]
    return np.asarray(solved.T, np.float64)


def _over_seeds(values: Floats) -> tuple[float, float] | None:
    """The 95 % Student-t interval of the mean of one value a seed; None with fewer than two."""
    if len(values) < 2:
        return None
    mean, half = t_interval(values)
    return mean - half, mean + half

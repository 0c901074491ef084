"""How steep a learning curve is: points of AP per doubling of the base images, and what that says.

A straight line in log10 N is a description of the measured range, not a law (docs/methodology.md,
M49). Every sentence made here about an N outside that range says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlfsic_bench.analysis.curve import Curve, Line, Point
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.metrics.intervals import t_interval
from mlfsic_bench.metrics.registry import METRICS

UPPER = 3  # the points with the most base images that a line is fitted to
LOG2 = float(np.log10(2))
Floats = npt.NDArray[np.float64]


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
    check_metric(curve, metric)
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

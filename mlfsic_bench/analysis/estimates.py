"""A mean over episodes with its intervals, as every report has it.

All values are fractions. A half width belongs to a 95 % interval; null where there is none.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from mlfsic_bench.metrics.intervals import EpisodeImages, image_interval, t_interval

Float64 = npt.NDArray[np.float64]
Covered = Literal["query and support images", "query images only"]


class Report(BaseModel):
    """What is written as JSON: no key that is not known, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Estimate(Report):
    """A mean over episodes and the half widths of its intervals over episodes and images."""

    mean: float | None
    episodes: float | None = None
    images: float | None = None


class Group(Report):
    """One row of a breakdown: its name, how much it is made of, its values."""

    name: str
    counts: dict[str, int]
    values: dict[str, Estimate]


class Breakdown(Report):
    """Scores by one property; `definition` says how."""

    by: str
    definition: str
    groups: list[Group]


def estimate(
    values: Float64, influence: Float64 | None = None, images: EpisodeImages | None = None
) -> Estimate:
    """From a metric's values [E]; with the queries' influence [E, Q], over images too."""
    mean, half = t_interval(values)
    over_images = None
    if influence is not None and images is not None:
        over_images = number(image_interval(values, influence, images).half_width)
    return Estimate(mean=number(mean), episodes=number(half), images=over_images)


def covered(images: EpisodeImages) -> Covered:
    """Which images the intervals over images cover."""
    return "query images only" if images.support is None else "query and support images"


def number(value: float) -> float | None:
    """The number, None for NaN."""
    return None if math.isnan(value) else float(value)


def per_cent(value: float | None) -> str:
    """As a table shows it; `-` where there is none."""
    return "-" if value is None else f"{100 * value:.2f}"


def half_width(value: float | None) -> str:
    """As a table shows it; `-` where there is none."""
    return "-" if value is None else f"±{100 * value:.2f}"


def points(value: float | None) -> float | None:
    """In per cent, unrounded, for CSV."""
    return None if value is None else 100.0 * value

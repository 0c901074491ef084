"""What a learning curve is made of: the points of each method, and what they were measured on.

A trained method is a line, with a point for each number of base images and in it a value for each
training seed. A method that does not train is a level: base images change nothing about it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ALWAYS = ("macro_ap", "micro_ap")  # in every curve, whatever else is asked for


@dataclass(frozen=True)
class Point:
    """A method trained on so many base images, with one or more training seeds.

    Attributes
    ----------
    images: the number of base images, N; 0 for a method that does not train.
    seeds: the training seeds, rising.
    values: metric -> the mean over episodes for each seed, in per cent.
    half_width: metric -> half width of the 95 % Student-t interval over episodes, of the mean over
        seeds in each episode; NaN where there is one episode only.
    labels: base labels trained with; the others had too few of these images. None for a method that
        does not train.
    used: base images trained on, those with one of these labels; None where that is not known.
    """

    images: int
    seeds: tuple[int, ...]
    values: dict[str, tuple[float, ...]]
    half_width: dict[str, float]
    labels: int | None = None
    used: int | None = None

    def mean(self, metric: str) -> float:
        """The mean over seeds."""
        return float(np.mean(self.values[metric]))

    def low(self, metric: str) -> float:
        """The lowest seed's value."""
        return min(self.values[metric])

    def high(self, metric: str) -> float:
        """The highest seed's value."""
        return max(self.values[metric])


@dataclass(frozen=True)
class Line:
    """A trained method: its points, N rising."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Level:
    """A method that does not train: one value, whatever the number of base images."""

    name: str
    point: Point


@dataclass(frozen=True)
class Curve:
    """Everything that a table or a picture of learning curves shows.

    Attributes
    ----------
    split, split_hash, subset: the split; whether it is limited to part of its images.
    episodes, of_episodes: how many novel episodes were run, of how many.
    labels: how many novel labels there are, and which, where some have left.
    backbone, words: names; "none" where there are none.
    base_images, base_labels: base images and base labels of the whole split.
    chance: metric -> what a random ranking is expected to have, in per cent, where known.
    lines, levels: the methods, in the order in which they were first named.
    notes: a sentence for each method with parameters that are not at its defaults.
    """

    split: str
    split_hash: str
    subset: bool
    episodes: int
    of_episodes: int
    labels: str
    backbone: str
    words: str
    base_images: int
    chance: dict[str, float]
    lines: tuple[Line, ...]
    levels: tuple[Level, ...]
    base_labels: int = 0
    notes: tuple[str, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that its points have."""
        points = [point for line in self.lines for point in line.points]
        points += [level.point for level in self.levels]
        return tuple(points[0].values)

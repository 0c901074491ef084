"""What `mlfsic-bench score` finds out, as JSON: figures with their intervals, and what they are of.

All figures are fractions. A half width belongs to a 95 % interval; null where there is none.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from mlfsic_bench.evaluation.meta import EpisodesMeta, MethodMeta, SplitMeta


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Schema):
    """A mean over episodes and the half widths of its intervals over episodes and images."""

    mean: float | None
    episodes: float | None = None
    images: float | None = None


class SeedFigure(_Schema):
    """A mean over training seeds and the half width of its Student t interval over them."""

    mean: float | None
    seeds: float | None


class Group(_Schema):
    """One row of a breakdown: its name, how much it is made of, its figures."""

    name: str
    counts: dict[str, int]
    figures: dict[str, Figure]


class Breakdown(_Schema):
    """Scores taken apart by one property; `definition` says how."""

    by: str
    definition: str
    groups: list[Group]


class FileScore(_Schema):
    """One scores file; `undefined`: how often a convention stepped in."""

    file: str
    sha256: str
    run: str | None
    method: MethodMeta
    metrics: dict[str, Figure]
    undefined: dict[str, int]
    breakdown: Breakdown | None = None
    conventions: dict[str, float | None] | None = None


class SeedsScore(_Schema):
    """One method over its training seeds; parameters, backbone, words and base images are equal."""

    method: str
    files: list[str]
    seeds: list[int]
    metrics: dict[str, SeedFigure]


class ScoreReport(_Schema):
    """All files, on the same split and episodes.

    `targets`: whether the answers were `rebuilt` from split and episodes, or `stored` by the runs.
    `image_intervals`: what these cover.
    """

    schema_version: Literal[1] = 1
    kind: Literal["mlfsic-bench score"] = "mlfsic-bench score"
    metrics_version: str
    split: SplitMeta
    episodes: EpisodesMeta
    labels: list[str]
    queries: int
    targets: Literal["rebuilt", "stored"]
    image_intervals: Literal["query and support images", "query images only"]
    chance: dict[str, float | None]
    files: list[FileScore]
    seeds: list[SeedsScore]
    notes: list[str]

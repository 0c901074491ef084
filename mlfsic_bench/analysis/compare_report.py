"""What `mlfsic-bench compare` finds out, as JSON; figures are fractions, null where undefined."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mlfsic_bench.evaluation.meta import BaseImages, EpisodesMeta, SplitMeta


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Compared(_Schema):
    """One entry: its name, its method, its files and the training seeds averaged over.

    `changed`: the parameters that are not at the method's defaults, with their values.
    `base_images`: on how many it was trained, null for all and where that is not stated.
    """

    name: str
    method: str
    files: list[str]
    seeds: list[int]
    changed: dict[str, Any]
    base_images: BaseImages | None


class Standing(_Schema):
    """One entry under one metric: mean over episodes, half widths, average rank over episodes."""

    name: str
    mean: float | None
    episodes: float | None
    images: float | None
    rank: float | None


class Pair(_Schema):
    """a minus b: mean, half widths of its 95 % intervals, p values raw and after Holm, counts.

    `n` episodes in which both are defined; `wins` are those in which a is above b.
    """

    a: str
    b: str
    n: int
    mean: float | None
    episodes: float | None
    images: float | None
    t_p: float | None
    t_holm: float | None
    wilcoxon_p: float | None
    wilcoxon_holm: float | None
    wins: int
    ties: int
    losses: int


class MetricComparison(_Schema):
    """All entries and all pairs of the family under one metric."""

    metric: str
    undefined: int
    entries: list[Standing]
    pairs: list[Pair]


class CompareReport(_Schema):
    """Everything that was compared, on the same split and episodes.

    `against`: the name of the reference when the family is all others against it, else null.
    `targets`, `image_intervals`: as in the report of `mlfsic-bench score`.
    """

    schema_version: Literal[1] = 1
    kind: Literal["mlfsic-bench compare"] = "mlfsic-bench compare"
    metrics_version: str
    split: SplitMeta
    episodes: EpisodesMeta
    labels: list[str]
    targets: Literal["rebuilt", "stored"]
    image_intervals: Literal["query and support images", "query images only"]
    against: str | None
    entries: list[Compared]
    metrics: list[MetricComparison]
    notes: list[str]

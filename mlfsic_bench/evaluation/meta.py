"""What a scores file says of itself: the keys of its `meta`, which of them a foreign file needs.

docs/scores-format.md describes every key; `meta_schema` is the JSON Schema of it, which ships as
`scores-meta-v1.schema.json` beside this file. `python -m mlfsic_bench.evaluation.meta` prints it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    Field,
    model_validator,
)

from mlfsic_bench.data.official import shortened
from mlfsic_bench.episodes.protocol import EpisodeSet, Protocol, protocol_with_id
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.plan import FeatureMode, Precision
from mlfsic_bench.features.store.manifest import MEAN
from mlfsic_bench.features.training_options import Augmentation, Training
from mlfsic_bench.schema import (
    FileSchema,
    Label,
    Line,
    Name,
    Sha256,
    ShortSchema,
    Text,
    Values,
    Version,
)
from mlfsic_bench.splits.names import NamedSplit
from mlfsic_bench.splits.split import Split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlfsic_bench.features.backbones.base import Backbone

SCHEMA_VERSION = 1
SCHEMA_FILE = "scores-meta-v1.schema.json"
STATED = ("schema_version", "kind")  # have a default in code, but a file must state them

Labels = Annotated[list[Label], Field(min_length=1, max_length=10_000)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Size = Annotated[int, Field(ge=0, le=100_000)]
ImageCount = Annotated[int, Field(ge=1, le=100_000_000)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]


class SplitMeta(NamedSplit):
    """Which split: id, hash, the dataset and rule, and whether only part of its images was used."""

    hash: Sha256
    rule: Name
    subset: bool

    @classmethod
    def of(cls, split: Split) -> SplitMeta:
        """What is written of a split; the first few of its differences."""
        differs = split.differs_from_official
        return cls(
            id=split.id,
            hash=split.hash,
            dataset=split.dataset,
            rule=split.rule,
            subset=split.subset is not None,
            differs_from_official=None if differs is None else shortened(differs),
        )


class EpisodesMeta(ShortSchema):
    """Which episodes: protocol, part, the set's hash and size, how many of it (the first) ran.

    `shots` and `queries` are K and Q of protocols that let one choose them; they are written for
    these alone.
    """

    absent = ("shots", "queries")
    protocol: Name
    part: Annotated[str, Field(pattern=r"^(novel|val)$")]
    hash: Sha256
    total: Count
    count: Count
    shots: Count | None = None
    queries: Count | None = None

    @classmethod
    def of(cls, episodes: EpisodeSet, count: int) -> EpisodesMeta:
        """What is written of the first `count` episodes of a set."""
        return cls(
            protocol=episodes.protocol.id,
            part=episodes.part,
            hash=episodes.hash,
            total=len(episodes.episodes),
            count=count,
            **episodes.protocol.choices,
        )

    @property
    def drawn_by(self) -> Protocol:
        """The protocol; what is written has been checked to name one."""
        return protocol_with_id(self.protocol, shots=self.shots, queries=self.queries)

    @model_validator(mode="after")
    def _consistent(self) -> EpisodesMeta:
        if self.count > self.total:
            raise ValueError(f"at most the {self.total} episodes of the set, not {self.count}")
        try:
            self.drawn_by  # noqa: B018
        except BenchError as error:
            raise ValueError(f"{error.expected} for {self.protocol}, not {error.found}") from error
        return self


class MethodMeta(ShortSchema):
    """Which method: name, preset, parameters, training seed and the tracks it belongs to.

    `changed` names the parameters that are not at the method's defaults; `printed` is the name as
    papers print it, `bibtex` the entries of the work. `transductive` is written where it is true.
    """

    absent = ("transductive",)
    name: Name
    preset: Name | None = None
    parameters: Values = Field(default_factory=dict)
    changed: Annotated[list[Name], Field(max_length=1000)] = Field(default_factory=list)
    seed: Seed
    trains: bool
    uses_words: bool
    adapts_by_gradient: bool
    transductive: bool = False
    citation: Text = ""
    printed: Name | None = None
    bibtex: Text = ""


class BaseImages(ShortSchema):
    """On how many base images a method was trained, of how many the split has.

    `labels` is written where only the base labels with the most images were kept: how many.
    """

    absent = ("labels",)
    used: ImageCount
    of: ImageCount
    labels: Count | None = None

    @model_validator(mode="after")
    def _consistent(self) -> BaseImages:
        if self.used > self.of:
            raise ValueError(f"at most the {self.of} base images of the split, not {self.used}")
        return self

    @property
    def text(self) -> str:
        """How many, in words.

        >>> BaseImages(used=400, of=1358, labels=20).text
        '400 of 1,358 base images, 20 base labels'
        """
        labels = "" if self.labels is None else f", {self.labels:,} base labels"
        return f"{self.used:,} of {self.of:,} base images{labels}"


class ScoresMeta(ShortSchema):
    """The `meta` of a scores file; `run` is the key of the run that wrote it, null for others.

    `base_images` is given where the method was trained on part of the base images; scores of a
    method that saw all of them are written without the key. `order_of` is given in a file that
    holds the order of scores in place of them: SHA-256 of the file with the scores themselves.
    """

    absent = ("base_images", "order_of")
    schema_version: Version = 1
    kind: Literal["mlfsic-bench scores"] = "mlfsic-bench scores"
    run: Sha256 | None = None
    split: SplitMeta
    episodes: EpisodesMeta
    labels: Labels
    method: MethodMeta
    base_images: BaseImages | None = None
    order_of: Sha256 | None = None


class TargetsMeta(FileSchema):
    """The `meta` of a targets file; earlier versions called it answers."""

    schema_version: Version = 1
    kind: Literal["mlfsic-bench targets", "mlfsic-bench answers"] = "mlfsic-bench targets"
    split: SplitMeta
    episodes: EpisodesMeta
    labels: Labels


class TrainingMeta(ShortSchema):
    """How a live network was computed: the options of `Training` that were used.

    On `tf32`, `batch_norm` and `augment` scores depend beyond rounding; these are in the identity.
    """

    absent = ("tf32", "batch_norm", "augment", "micro_batch", "checkpointing", "compile")
    tf32: bool = False
    batch_norm: Literal["frozen"] | None = None
    augment: list[Augmentation] | None = None
    micro_batch: Count | None = None
    checkpointing: bool = False
    compile: bool = False

    @classmethod
    def of(cls, training: Training, backbones: Sequence[Backbone]) -> TrainingMeta | None:
        """What is written of these options; None where all are the default ones.

        Frozen statistics are written where a network has batch norms.
        """
        from mlfsic_bench.features.memory import batch_norms

        frozen = training.frozen_norms and any(batch_norms(one) for one in backbones)
        made = cls(
            tf32=training.tf32,
            batch_norm="frozen" if frozen else None,
            augment=list(training.augment) or None,
            micro_batch=training.micro_batch,
            checkpointing=training.checkpointing,
            compile=training.compile,
        )
        return None if made == cls() else made

    @property
    def changes(self) -> dict[str, Any]:
        """What scores depend on: for the identity."""
        return self.model_dump(include={"tf32", "batch_norm", "augment"})

    @property
    def options(self) -> Training:
        """The options that the run was made with, but for where images are kept."""
        return Training(
            tf32=self.tf32,
            batch_norm=self.batch_norm,
            augment=tuple(self.augment or ()),
            micro_batch=self.micro_batch,
            checkpointing=self.checkpointing,
            compile=self.compile,
        )


class FeaturesMeta(ShortSchema):
    """Where features came from.

    `vector` and `dim` say what the global vector is; a mean of the map is written without them.
    `source` is written where they were not made by the run: they come from a feature pack, or
    another program made them (`imported`, with what `made_by` and `pretraining` were said to be);
    `rounded` says how a pack rounded them. Features without maps have a grid of 0 by 0.
    `training` is written where a live network was computed otherwise than by default.
    """

    absent = ("vector", "dim", "source", "rounded", "made_by", "pretraining", "training")
    mode: FeatureMode
    backbone: Name
    weights: Line
    weights_hash: Name
    transform: Line
    precision: Precision
    channels: Size
    grid: tuple[Size, Size]
    vector: Line | None = None
    dim: Count | None = None
    source: Literal["pack", "imported"] | None = None
    rounded: Name | None = None
    made_by: Text | None = None
    pretraining: Text | None = None
    training: TrainingMeta | None = None

    @property
    def title(self) -> str:
        """The backbone, and what became of its features before the run got them, if anything."""
        if self.source is None:
            return self.backbone
        came = "feature pack" if self.source == "pack" else "imported features"
        rounded = f", rounded to {self.rounded.split()[0]}" if self.rounded else ""
        return f"{self.backbone} ({came}{rounded})"

    @staticmethod
    def vector_of(vector: str, dim: int) -> dict[str, Any]:
        """What is written of this global vector: nothing for a mean."""
        return {} if vector == MEAN else {"vector": vector, "dim": dim}

    @property
    def shape(self) -> dict[str, Any]:
        """The arguments of `features.sources.Shape`."""
        dim = self.channels if self.dim is None else self.dim
        vector = self.vector or MEAN
        return {"channels": self.channels, "grid": self.grid, "dim": dim, "vector": vector}


class EmbeddingsMeta(ShortSchema):
    """Which label embeddings the run had.

    `templates` and `space` are written for those that an encoder made of texts: what labels were
    written into, and the backbone whose global vectors live in the same space.
    """

    absent = ("templates", "space")
    name: Line
    hash: Sha256
    dimensions: Count
    templates: Annotated[list[Line], Field(min_length=1, max_length=1000)] | None = None
    space: Line | None = None

    @property
    def title(self) -> str:
        """Its name, with the template that labels were written into, or the number of several."""
        made = self.templates or []
        said = f'"{made[0]}"' if len(made) == 1 else f"{len(made)} templates"
        return f"{self.name}, {said}" if made else self.name


def meta_schema() -> str:
    """The JSON Schema of a scores file's `meta`, as text; what ships must equal it."""
    schema = ScoresMeta.model_json_schema()
    schema["required"] = sorted({*schema["required"], *STATED})
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "meta of a scores file of mlfsic-bench, version 1"
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(meta_schema(), end="")

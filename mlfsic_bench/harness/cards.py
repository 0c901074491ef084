"""What a scores file says of itself: the keys of its `meta`, which of them a foreign file needs.

docs/scores-format.md describes every key; `meta_schema` is the JSON Schema of it, which ships as
`scores-meta-v1.schema.json` beside this file. `python -m mlfsic_bench.harness.cards` prints it.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

SCHEMA_VERSION = 1
SCHEMA_FILE = "scores-meta-v1.schema.json"
STATED = ("schema_version", "kind")  # have a default in code, but a file must state them

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
Label = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,100}$")]
Labels = Annotated[list[Label], Field(min_length=1, max_length=10_000)]
Count = Annotated[int, Field(ge=1, le=100_000)]
ImageCount = Annotated[int, Field(ge=1, le=100_000_000)]
Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
Text = Annotated[str, Field(max_length=4000)]


class Card(BaseModel):
    """A part of a description: no key but the known ones, no value turned into another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SplitCard(Card):
    """Which split: id, hash, the dataset and rule, and whether only part of its images was used."""

    id: Name
    hash: Sha256
    dataset: Name
    rule: Name
    subset: bool


class EpisodesCard(Card):
    """Which episodes: protocol, part, the set's hash and size, how many of it (the first) ran.

    `shots` is K of the protocol `laso_k_shot`; other protocols are written without the key.
    """

    protocol: Name
    part: Annotated[str, Field(pattern=r"^novel$")]
    hash: Sha256
    total: Count
    count: Count
    shots: Count | None = None

    @model_serializer(mode="wrap")
    def _without_absent_key(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialise(self)
        if self.shots is None:
            del content["shots"]
        return content


class MethodCard(Card):
    """Which method: name, preset, parameters, training seed and the tracks it belongs to.

    `changed` names the parameters that are not at the method's defaults.
    """

    name: Name
    preset: Name | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    changed: list[str] = Field(default_factory=list)
    seed: Seed
    trains: bool
    uses_words: bool
    adapts_by_gradient: bool
    citation: Text = ""


class BaseImages(Card):
    """On how many base images a method was trained, of how many the split has."""

    used: ImageCount
    of: ImageCount


class ScoresMeta(Card):
    """The `meta` of a scores file; `run` is the key of the run that wrote it, null for others.

    `base_images` is given where the method was trained on part of the base images; scores of a
    method that saw all of them are written without the key.
    """

    schema_version: Literal[1] = 1
    kind: Literal["mlfsic-bench scores"] = "mlfsic-bench scores"
    run: Sha256 | None = None
    split: SplitCard
    episodes: EpisodesCard
    labels: Labels
    method: MethodCard
    base_images: BaseImages | None = None

    @model_serializer(mode="wrap")
    def _without_absent_key(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = serialise(self)
        if self.base_images is None:
            del content["base_images"]
        return content


class AnswersMeta(Card):
    """The `meta` of an answers file."""

    schema_version: Literal[1] = 1
    kind: Literal["mlfsic-bench answers"] = "mlfsic-bench answers"
    split: SplitCard
    episodes: EpisodesCard
    labels: Labels


def meta_schema() -> str:
    """The JSON Schema of a scores file's `meta`, as text; what ships must equal it."""
    schema = ScoresMeta.model_json_schema()
    schema["required"] = sorted({*schema["required"], *STATED})
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "meta of a scores file of mlfsic-bench, version 1"
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(meta_schema(), end="")

"""What stands in an experiment file and in a profile; docs/reproduce.md describes every key."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from mlfsic_bench.episodes.protocol import DEFAULT
from mlfsic_bench.evaluation.plan import FeatureMode
from mlfsic_bench.results.fields import MetricName
from mlfsic_bench.schema import FileSchema, InnerPath, Line, Name, Version, Word, plain

Kind = Literal["table", "attention", "curve"]
Value = bool | int | float | Annotated[str, Field(max_length=4000)] | None
Settings = dict[Name, Value]
METHOD_OPTION = "--method NAME=path/to/file.py:Class"


def _registered(method: str) -> str:
    if ":" in method or "/" in method or method.endswith(".py"):
        raise ValueError(
            f"a method's name; what file a name stands for is said by the option {METHOD_OPTION}"
        )
    return method


def _both_aps() -> list[MetricName]:
    return ["macro_ap", "micro_ap"]


# Names go into file names, and --only divides them at commas.
RowName = Annotated[str, StringConstraints(pattern=r"^[^,]{1,60}$"), AfterValidator(plain)]
ProfileName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]
MethodName = Annotated[
    str, Field(max_length=100), AfterValidator(plain), AfterValidator(_registered)
]
Count = Annotated[int, Field(ge=1)]


class RowSpec(FileSchema):
    """One row: what is run, and the published row it is set beside.

    Attributes
    ----------
    name: as printed. published: the row's name in the published table; None: not in the paper.
    method, preset, settings: as in `mlfsic-bench run`; `settings` overrides the profile's.
    backbone: the paper's; the profile says what stands for it.
    embeddings: a name that the profile turns into a file.
    protocol, shots, episodes: as in `mlfsic-bench run`.
    features: overrides the profile's.
    """

    name: RowName
    published: Name | None = None
    method: MethodName
    preset: Name | None = None
    settings: Settings = Field(default_factory=dict)
    backbone: Word = "resnet50"
    embeddings: Word | None = None
    protocol: Word = DEFAULT
    shots: Count | None = None
    episodes: Count | None = None
    features: FeatureMode | None = None


class Experiment(FileSchema):
    """A table, a curve or a picture, as the runs that make it.

    Attributes
    ----------
    published: id of a table of published numbers (`results/published`), or None.
    columns: the metrics of the table.
    reference: the row to which others are compared in pairs; None: no comparison.
    splits: profile -> split, where it is not the profile's own.
    backbones: profile -> the paper's network -> the one that is used, beside the profile's.
    not_on: profile -> why this experiment makes no sense there.
    base_images: kind `curve`: profile -> the numbers of base images; `all` is the whole base part.
    pictures: kind `attention`: the novel episodes that are drawn.
    """

    schema_version: Version
    kind: Kind
    title: Line
    published: Word | None = None
    columns: Annotated[list[MetricName], Field(min_length=1)] = Field(default_factory=_both_aps)
    reference: RowName | None = None
    splits: dict[ProfileName, Word] = Field(default_factory=dict)
    backbones: dict[ProfileName, dict[Word, Word]] = Field(default_factory=dict)
    not_on: dict[ProfileName, Line] = Field(default_factory=dict)
    base_images: dict[ProfileName, Annotated[list[Count | Literal["all"]], Field(min_length=1)]] = (
        Field(default_factory=dict)
    )
    pictures: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    rows: Annotated[list[RowSpec], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        names = [row.name for row in self.rows]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise ValueError(f"two rows are called {double!r}")
        if self.reference is not None and self.reference not in names:
            raise ValueError(f"the reference {self.reference!r} is no row; rows: {names}")
        if bool(self.base_images) != (self.kind == "curve"):
            raise ValueError("base_images belongs to kind: curve, and to no other kind")
        if bool(self.pictures) != (self.kind == "attention"):
            raise ValueError("pictures belongs to kind: attention, and to no other kind")
        return self


class Seeds(FileSchema):
    """How many training seeds: of methods that train, of those that don't, of single methods."""

    trained: Count
    untrained: Count = 1
    methods: dict[MethodName, Count] = Field(default_factory=dict)


class Rate(FileSchema):
    """How many seconds a method takes, on one class of device.

    Attributes
    ----------
    unit: a unit of training: an episode of an episodic training, or else a base image seen once.
    episode: a novel episode. step: beside it, each fine-tuning step in a novel episode.
    """

    unit: Annotated[float, Field(ge=0)] = 0.0
    episode: Annotated[float, Field(ge=0)] = 0.0
    step: Annotated[float, Field(ge=0)] = 0.0


class Rates(FileSchema):
    """Rates of methods, and in words where they were measured."""

    basis: Line
    methods: dict[MethodName, Rate]


class Profile(FileSchema):
    """What stands for what on a dataset, and how long is trained there.

    Attributes
    ----------
    about: one sentence.
    split, available_only, min_pool: as in `mlfsic-bench run`.
    features: of methods that train; the others use stored features.
    backbones: the paper's network -> the one that is used.
    embeddings: name of label embeddings -> file names below the data root; the first that exists
        is used.
    own_embeddings: the dataset brings label embeddings; files are not looked for.
    seeds: how many training seeds.
    settings: method -> parameters, instead of the method's defaults.
    episodes: method -> only the first so many novel episodes, for one that takes too long; its rows
        say so.
    end_to_end: method -> more of them, where the backbone is trained.
    rates: class of device -> how long methods take there with the profile's own networks.
    """

    about: Line
    split: Word
    available_only: bool = False
    min_pool: Count | None = None
    features: FeatureMode = "stored"
    backbones: Annotated[dict[Word, Word], Field(min_length=1)]
    embeddings: dict[Word, Annotated[list[InnerPath], Field(min_length=1)]] = Field(
        default_factory=dict
    )
    own_embeddings: bool = False
    seeds: Seeds
    settings: dict[MethodName, Settings] = Field(default_factory=dict)
    episodes: dict[MethodName, Count] = Field(default_factory=dict)
    end_to_end: dict[MethodName, Settings] = Field(default_factory=dict)
    rates: dict[Literal["cpu", "cuda"], Rates] = Field(default_factory=dict)


class Profiles(FileSchema):
    """The file of profiles."""

    schema_version: Version
    profiles: Annotated[dict[ProfileName, Profile], Field(min_length=1)]


def text_of(value: Value) -> str:
    """A setting as `--set name=value` would have it.

    >>> [text_of(v) for v in (True, None, 3, 1e-4, "simple")]
    ['true', 'none', '3', '0.0001', 'simple']
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value)

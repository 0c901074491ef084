"""Experiment files and profiles: their keys (docs/reproduce.md describes them), and a reader."""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from mlfsic_bench.embeddings.joined import JOIN
from mlfsic_bench.embeddings.label_embeddings import RANDOM
from mlfsic_bench.errors import unknown_name
from mlfsic_bench.evaluation.known_names import known_backbone, known_split
from mlfsic_bench.evaluation.plan import FeatureMode, ScoredPart
from mlfsic_bench.results.fields import MetricName
from mlfsic_bench.results.published import Published, published_names, read_published
from mlfsic_bench.schema import (
    FileSchema,
    InnerPath,
    Line,
    Name,
    Version,
    Word,
    load,
    plain,
    shaped,
)
from mlfsic_bench.yaml_files import parse_yaml, read_yaml

Kind = Literal["table", "attention", "curve"]
Value = bool | int | float | Annotated[str, Field(max_length=4000)] | None
Settings = dict[Name, Value]
Grid = dict[Name, Annotated[list[Value], Field(min_length=1)]]
MOST_TRIALS = 6  # points of a grid
PROFILES = "profiles"
PAGE = "docs/reproduce.md"
M = TypeVar("M", bound=FileSchema)
METHOD_OPTION = "--method NAME=path/to/file.py:Class"


def _registered(method: str) -> str:
    if ":" in method or "/" in method or method.endswith(".py"):
        raise ValueError(
            f"a method's name; what file a name stands for is said by the option {METHOD_OPTION}"
        )
    return method


def _profile(name: str) -> str:
    find_profile(name)
    return name


def _embeddings(name: str) -> str:
    for one in name.split(JOIN):
        if name != RANDOM and one not in embeddings_names():
            raise unknown_name("label embeddings", one, embeddings_names())
    return name


def _small(grid: Grid) -> Grid:
    points = math.prod(len(values) for values in grid.values())
    if points > MOST_TRIALS:
        raise ValueError(f"{points} points; a grid has at most {MOST_TRIALS}")
    return grid


def _both_aps() -> list[MetricName]:
    return ["macro_ap", "micro_ap"]


# Names go into file names, and --only divides them at commas.
RowName = Annotated[
    str, shaped(r"^[^,]{1,60}$", "1 to 60 characters without a comma"), AfterValidator(plain)
]
ProfileName = Annotated[
    str, shaped(r"^[a-z0-9][a-z0-9-]{0,40}$", "lower-case letters, digits and hyphens")
]
MethodName = Annotated[
    str, Field(max_length=100), AfterValidator(plain), AfterValidator(_registered)
]
Count = Annotated[int, Field(ge=1)]
Network = Annotated[str, shaped(r"^[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,99}$", "the name of a network")]
# Names in an experiment must be known on every profile, not only on the one that is asked for.
OfProfile = Annotated[ProfileName, AfterValidator(_profile)]
Backbone = Annotated[Word, AfterValidator(known_backbone)]


class RowSpec(FileSchema):
    """One row: what is run, and the published row it is set beside.

    Attributes
    ----------
    name: as printed. published: the row's name in the published table; None: not in the paper.
    method, preset, settings: as in `mlfsic-bench run`; `settings` overrides the profile's.
    backbone: the paper's; the profile says what stands for it.
    embeddings: a name that the profile turns into a file, or several, `A+B`; `random` for the
        control.
    protocol, shots, queries, episodes: as in `mlfsic-bench run`.
    features: overrides the profile's.
    base_images, base_labels: as in `mlfsic-bench run`; in a curve, which has its own numbers of
        base images, `base_labels` alone.
    literal: not tuned, where the experiment is: the method's own settings, or its paper's.
    """

    name: RowName
    published: Name | None = None
    method: MethodName
    preset: Name | None = None
    settings: Settings = Field(default_factory=dict)
    backbone: Word = "resnet50"
    embeddings: Annotated[Word, AfterValidator(_embeddings)] | None = None
    protocol: Word | None = None
    shots: Count | None = None
    queries: Count | None = None
    episodes: Count | None = None
    features: FeatureMode | None = None
    base_images: Count | None = None
    base_labels: Count | None = None
    literal: bool = False


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
    part: `val` for a study on the val episodes, by which nothing is compared but choices.
    tuned: kind `table`: every row is first tried on val, at each point of its method's grid
        (`Profiles.grids`), and the point with the highest val macro-AP is run on novel.
    """

    schema_version: Version
    kind: Kind
    title: Line
    published: Word | None = None
    columns: Annotated[list[MetricName], Field(min_length=1)] = Field(default_factory=_both_aps)
    reference: RowName | None = None
    splits: dict[OfProfile, Annotated[Word, AfterValidator(known_split)]] = Field(
        default_factory=dict
    )
    backbones: dict[OfProfile, dict[Word, Backbone]] = Field(default_factory=dict)
    not_on: dict[OfProfile, Line] = Field(default_factory=dict)
    base_images: dict[OfProfile, Annotated[list[Count | Literal["all"]], Field(min_length=1)]] = (
        Field(default_factory=dict)
    )
    pictures: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    part: ScoredPart = "novel"
    tuned: bool = False
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
        if self.kind == "curve" and any(row.base_images for row in self.rows):
            raise ValueError("base_images belongs to the whole curve, not to a row of it")
        if bool(self.pictures) != (self.kind == "attention"):
            raise ValueError("pictures belongs to kind: attention, and to no other kind")
        if self.part == "val" and (self.tuned or self.kind == "attention"):
            raise ValueError("part: val goes with kind table or curve, and without tuned")
        if self.tuned and self.kind != "table":
            raise ValueError("tuned belongs to kind: table, and to no other kind")
        drawn = {(row.protocol, row.shots, row.queries) for row in self.rows}
        if self.part == "val" and drawn != {(None, None, None)}:
            raise ValueError("part: val has episodes of its own: no protocol, shots or queries")
        if len(drawn) > 1 and (self.reference is not None or self.tuned):
            raise ValueError(
                "a reference and ranks compare rows episode by episode: protocol, shots and "
                "queries must be the same in every row"
            )
        if self.published is not None and self.published not in published_names():
            raise unknown_name("published table", self.published, published_names())
        known = [row.name for row in self.literature.rows] if self.literature else []
        for name in (row.published for row in self.rows):
            if name is not None and name not in known:
                raise unknown_name("published row", name, known)
        return self

    @property
    def literature(self) -> Published | None:
        """The published table; None where it names none."""
        return read_published(self.published) if self.published else None


class Seeds(FileSchema):
    """How many training seeds: of methods that train, of those that don't, of single methods."""

    trained: Count
    untrained: Count = 1
    methods: dict[MethodName, Count] = Field(default_factory=dict)


class Profile(FileSchema):
    """What stands for what on a dataset, and how long is trained there.

    Attributes
    ----------
    about: one sentence.
    split, available_only, min_pool: as in `mlfsic-bench run`.
    features: of methods that train; the others use stored features.
    backbones: the paper's network -> the one that is used.
    own_embeddings: the dataset brings label embeddings; files are not looked for.
    seeds: how many training seeds.
    settings: method -> parameters, instead of the method's defaults.
    episodes: method -> only the first so many novel episodes, for one that takes too long; its rows
        say so.
    end_to_end: method -> more of them, where the backbone is trained.
    no_val: why nothing can be tried on val here; a tuned experiment then runs `chosen`.
    chosen: method -> parameters that the trials of another profile chose; not of literal rows.
    """

    about: Line
    split: Word
    available_only: bool = False
    min_pool: Count | None = None
    features: FeatureMode = "stored"
    backbones: Annotated[dict[Word, Network], Field(min_length=1)]
    own_embeddings: bool = False
    seeds: Seeds
    settings: dict[MethodName, Settings] = Field(default_factory=dict)
    episodes: dict[MethodName, Count] = Field(default_factory=dict)
    end_to_end: dict[MethodName, Settings] = Field(default_factory=dict)
    no_val: Line | None = None
    chosen: dict[MethodName, Settings] = Field(default_factory=dict)


class Profiles(FileSchema):
    """The file of profiles, and what they share.

    Attributes
    ----------
    embeddings: name of label embeddings -> file names below the data root; the first that exists
        is used.
    grids: method -> parameter -> values: the points that a tuned experiment tries on val, at most
        MOST_TRIALS for each method, so that none is searched harder than another.
    """

    schema_version: Version
    embeddings: dict[Word, Annotated[list[InnerPath], Field(min_length=1)]] = Field(
        default_factory=dict
    )
    grids: dict[MethodName, Annotated[Grid, AfterValidator(_small)]] = Field(default_factory=dict)
    profiles: Annotated[dict[ProfileName, Profile], Field(min_length=1)]


def text_of(value: Value) -> str:
    """A setting as `--set name=value` would have it.

    >>> [text_of(v) for v in (True, None, 3, 1e-4, "simple")]
    ['true', 'none', '3', '0.0001', 'simple']
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value)


def experiment_names() -> tuple[str, ...]:
    """The names of the shipped experiments, sorted."""
    names = (entry.name for entry in files("mlfsic_experiments").iterdir())
    stems = sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))
    return tuple(stem for stem in stems if stem != PROFILES)


def read_experiment(name_or_path: str) -> tuple[str, Experiment]:
    """(name, experiment): a shipped one, or that of a file, which is called as the file.

    Raises BenchError for an unknown name and for a file that does not fit the schema.
    """
    if name_or_path in experiment_names():
        value = _shipped(name_or_path)
        return name_or_path, checked(value, Experiment, f"the experiment {name_or_path}")
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        error = unknown_name("experiment", name_or_path, experiment_names())
        error.remedy += " (a file of your own ends in .yaml)"
        raise error
    remedy = f"correct the file ({PAGE}), or name one of: {', '.join(experiment_names())}"
    return path.stem, checked(read_yaml(path, "experiment file", remedy), Experiment, str(path))


@cache
def read_profiles() -> Profiles:
    """The shipped profiles, read once."""
    return checked(_shipped(PROFILES), Profiles, "the profiles")


def _shipped(name: str) -> Any:
    return parse_yaml((files("mlfsic_experiments") / f"{name}.yaml").read_bytes())


def find_profile(name: str) -> Profile:
    """The profile of that name; BenchError with the nearest one otherwise."""
    profiles = read_profiles().profiles
    if name not in profiles:
        raise unknown_name("dataset of a reproduction", name, profiles)
    return profiles[name]


def grid_of(method: str) -> Grid:
    """What a tuned experiment tries of a method; empty where nothing."""
    return read_profiles().grids.get(method, {})


def embeddings_files(name: str) -> list[str]:
    """The files below the data root that hold these label embeddings, the first that exists."""
    return read_profiles().embeddings[name]


@cache
def embeddings_names() -> tuple[str, ...]:
    """The names of label embeddings that experiments know, sorted."""
    return tuple(sorted(read_profiles().embeddings))


def checked(value: Any, model: type[M], where: str) -> M:
    """`value` as a `model`; BenchError naming the first wrong key and the nearest known one."""
    return load(model, value, where, page=PAGE, remedy="copy the file that the page shows")

"""A leaderboard entry: what it claims, on what, in which tracks, and what proves it.

The schema of `results/leaderboard/<split id>/<entry id>.json`. Entries come from strangers, so
every text has a length, links are https only, and paths stay inside the results folder.
"""

from __future__ import annotations

import re
import unicodedata
from enum import Enum
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mlfsic_bench.metrics.registry import METRICS

SCHEMA_VERSION = 1
KIND = "mlfsic-bench leaderboard entry"
DEEPEST = 10  # levels of parameters
SLUG = r"^[a-z0-9]+(-[a-z0-9]+)*$"
PLAIN_PATH = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"


class State(str, Enum):
    """What stands behind the figures."""

    REPORTED = "reported"
    STORED = "scores stored"
    SCORES = "scores verified"
    RERUN = "rerun verified"


class Pretraining(str, Enum):
    """Which images the backbone had seen before `fit`.

    `BASE`: none but the split's base images. `EXTERNAL`: others, be they of the same data set.
    """

    EXTERNAL = "external images"
    BASE = "base images only"
    UNKNOWN = "not stated"


class WordTrack(str, Enum):
    """Whether the method was given label vectors."""

    VECTORS = "word vectors"
    NONE = "no word vectors"
    UNKNOWN = "not stated"


class Adaptation(str, Enum):
    """Whether parameters take gradient steps on the support set."""

    GRADIENT = "by gradient"
    NONE = "without gradient"
    UNKNOWN = "not stated"


class ImageTrack(str, Enum):
    """Whether all images of the split were used."""

    FULL = "full"
    SUBSET = "subset"


class IntervalKind(str, Enum):
    """What a 95 % interval is over; docs/metrics.md says which question each answers."""

    IMAGES = "images"
    EPISODES = "episodes"
    SEEDS = "training seeds"


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"no metric of this name; known are {', '.join(METRICS)}")
    return name


def _https(url: str) -> str:
    odd = [char for char in url if char.isspace() or unicodedata.category(char)[0] in "CZ"]
    parts = urlsplit(url)
    if odd or parts.scheme != "https" or not parts.hostname or "@" in parts.netloc:
        raise ValueError("an address that begins with https:// and names a host, nothing else")
    return url


def _inside(path: str) -> str:
    if ".." in path.split("/"):
        raise ValueError("a path inside the results folder")
    return path


def _shallow(value: dict[str, Any]) -> dict[str, Any]:
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        nested = [one for one in level if isinstance(one, (dict, list))]
        level = [
            one for each in nested for one in (each.values() if isinstance(each, dict) else each)
        ]
    if any(isinstance(one, (dict, list)) for one in level):
        raise ValueError(f"parameters nested at most {DEEPEST} deep")
    return value


Text = Annotated[str, Field(min_length=1, max_length=300)]
LongText = Annotated[str, Field(min_length=1, max_length=4000)]
Slug = Annotated[str, Field(pattern=SLUG, max_length=100)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Https = Annotated[str, Field(max_length=500), AfterValidator(_https)]
ResultPath = Annotated[str, Field(pattern=PLAIN_PATH, max_length=300), AfterValidator(_inside)]
PerCent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Bound = Annotated[float, Field(ge=-1000, le=1000, allow_inf_nan=False)]
MetricName = Annotated[str, AfterValidator(_known_metric)]
Day = Annotated[str, Field(pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$")]


class EntrySchema(BaseModel):
    """Unknown keys are refused and no value is turned into another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Link(EntrySchema):
    """A link as it is shown: its title and an https address."""

    title: Text
    url: Https


class Interval(EntrySchema):
    """Bounds of a 95 % interval in per cent; a Student-t bound may lie outside 0 to 100."""

    low: Bound
    high: Bound

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


Intervals = dict[IntervalKind, Interval]


class Figure(EntrySchema):
    """A figure in per cent and its 95 % intervals by kind, none for most reported ones."""

    value: PerCent
    intervals: Intervals = Field(default_factory=dict)


class LabelFigure(EntrySchema):
    """The AP of one novel label, mean over the episodes that have it."""

    label: Text
    ap: PerCent
    intervals: Intervals = Field(default_factory=dict)


class Chance(EntrySchema):
    """Expected AP of a random ranking, per cent; low and high differ where targets are unknown."""

    low: PerCent
    high: PerCent


class ScoresFile(EntrySchema):
    """One training seed's evidence: its scores, its answers and, for our runs, its record.

    Paths are relative to the results folder; `run` is the key of the record. A record comes with
    its hash and its key.
    """

    seed: int | None
    scores: ResultPath
    scores_sha256: Sha256
    answers: ResultPath
    answers_sha256: Sha256
    record: ResultPath | None = None
    record_sha256: Sha256 | None = None
    run: Sha256 | None = None

    @model_validator(mode="after")
    def _whole_record(self) -> ScoresFile:
        given = [value is not None for value in (self.record, self.record_sha256, self.run)]
        if any(given) and not all(given):
            raise ValueError("record, record_sha256 and run are given together or not at all")
        return self


class Reported(EntrySchema):
    """Figures copied from a work, with where they stand in it; nobody here has its scores."""

    kind: Literal["reported"]
    work: LongText
    year: int
    table: int | None
    page: int | None
    section: Text
    row: Text
    copy_in: ResultPath | None = None


class ScoresStored(EntrySchema):
    """Scores and targets of our runs lie in the results folder; the targets are not rebuilt."""

    kind: Literal["scores stored"]
    files: Annotated[list[ScoresFile], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _with_records(self) -> ScoresStored:
        if any(file.record is None for file in self.files):
            raise ValueError("stored targets without the record of the run that stored them")
        return self


class ScoresVerified(EntrySchema):
    """The scores lie in the results folder; every figure is recomputed, with rebuilt targets."""

    kind: Literal["scores verified"]
    files: Annotated[list[ScoresFile], Field(min_length=1, max_length=100)]


class RerunVerified(EntrySchema):
    """As `scores verified`, and a second run of every seed, with its key, whose figures agree."""

    kind: Literal["rerun verified"]
    files: Annotated[list[ScoresFile], Field(min_length=1, max_length=100)]
    reruns: Annotated[list[ScoresFile], Field(min_length=1, max_length=100)]


WithScores = ScoresStored | ScoresVerified | RerunVerified


class Tracks(EntrySchema):
    """The tracks an entry is in; tables can be filtered by each."""

    pretraining: Pretraining
    words: WordTrack
    adaptation: Adaptation
    images: ImageTrack


class SplitRef(EntrySchema):
    """The split: its versioned id, its hash (None for reported figures), its dataset."""

    id: Slug
    hash: Sha256 | None
    dataset: Text


class ProtocolRef(EntrySchema):
    """The episodes: protocol version, hash of the set (None for reported), how many were run.

    `shots` is K of `laso_k_shot`, None for other protocols.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9_]+-v[0-9]+$", max_length=60)]
    episodes: Sha256 | None
    count: Annotated[int, Field(ge=1)]
    total: Annotated[int, Field(ge=1)]
    shots: Annotated[int, Field(ge=1)] | None = None


class MethodFacts(EntrySchema):
    """The method: its name, preset, parameters, and whether it learns from the base part."""

    method: Text
    preset: Text | None
    parameters: Annotated[dict[str, Any], AfterValidator(_shallow)]
    trains: bool | None


class Dates(EntrySchema):
    """When the figures were made and when they were handed in; a year, month or day."""

    made: Day
    submitted: Day | None = None


class Entry(EntrySchema):
    """One row of the board, schema version 1; docs/leaderboard.md describes every key."""

    schema_version: Literal[1] = 1
    kind: Literal["mlfsic-bench leaderboard entry"] = "mlfsic-bench leaderboard entry"
    id: Slug
    name: Annotated[str, Field(min_length=1, max_length=120)]
    authors: Annotated[list[Text], Field(max_length=50)] = Field(default_factory=list)
    contact: Text | None = None
    citation: LongText
    state: State
    proof: Annotated[Reported | WithScores, Field(discriminator="kind")]
    tracks: Tracks
    split: SplitRef
    protocol: ProtocolRef
    metrics_version: Annotated[str, Field(pattern=r"^metrics-v[0-9]+$")] | None
    figures: Annotated[dict[MetricName, Figure], Field(min_length=1)]
    per_label: Annotated[list[LabelFigure], Field(max_length=1000)] = Field(default_factory=list)
    chance: dict[Literal["micro_ap", "macro_ap"], Chance] = Field(default_factory=dict)
    training_seeds: Annotated[int, Field(ge=1)] | None
    backbone: Text | None
    card: MethodFacts
    dates: Dates
    notes: Annotated[list[LongText], Field(max_length=50)] = Field(default_factory=list)
    links: Annotated[list[Link], Field(max_length=20)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _consistent(self) -> Entry:
        if self.proof.kind != self.state.value:
            raise ValueError(f"state {self.state.value!r} with a proof of {self.proof.kind!r}")
        if self.protocol.count > self.protocol.total:
            raise ValueError(f"{self.protocol.count} of {self.protocol.total} episodes")
        labels = [figure.label for figure in self.per_label]
        if len(set(labels)) != len(labels):
            raise ValueError("a label stands twice in per_label")
        if not isinstance(self.proof, Reported):
            for name, value in (
                ("split.hash", self.split.hash),
                ("protocol.episodes", self.protocol.episodes),
                ("metrics_version", self.metrics_version),
            ):
                if value is None:
                    raise ValueError(f"{name} is null, which only a reported entry may have")
            if self.training_seeds != len(self.proof.files):
                raise ValueError(
                    f"training_seeds {self.training_seeds} with {len(self.proof.files)} files"
                )
        given = [
            *(figure.intervals for figure in self.figures.values()),
            *(figure.intervals for figure in self.per_label),
        ]
        if isinstance(self.proof, ScoresStored) and any(IntervalKind.IMAGES in x for x in given):
            raise ValueError("an interval over images, which stored targets do not give")
        return self

    @property
    def has_scores(self) -> bool:
        """Whether the figures come from scores in the results folder."""
        return self.state is not State.REPORTED

    @property
    def verified(self) -> bool:
        """Whether the figures are recomputed from scores and rebuilt targets."""
        return self.state in (State.SCORES, State.RERUN)


def slug(text: str) -> str:
    """Lower-case letters and digits of `text`, joined by single hyphens; `entry` when none is left.

    >>> slug("PLA (GloVe), ResNet-50")
    'pla-glove-resnet-50'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:100].strip("-") or "entry"

"""A leaderboard entry: the schema of its file, reading and writing it, and the files it rests on.

An entry lies in `results/leaderboard/<split id>/<entry id>.json` (the id without `-unofficial`).
Entries are untrusted: every text has a length, links are https only, and paths stay inside the
results folder. docs/leaderboard.md describes every key.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular, read_json, write_json
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.paths import files_below, is_folder, resolved
from mlfsic_bench.results.fields import Bound, Https, LongText, MetricName, PerCent, Slug
from mlfsic_bench.schema import (
    Day,
    FileSchema,
    InnerPath,
    Label,
    Line,
    Name,
    Sha256,
    ShortSchema,
    Values,
    Version,
    load,
    plain,
    shaped,
)
from mlfsic_bench.splits.names import NamedSplit, plain_id

FOLDER = "leaderboard"
LIMIT = 4 << 20  # bytes of an entry; one with 100 labels and 10 seeds takes 60 kB
SCORES_LIMIT = 1 << 30
PAGE = "docs/leaderboard.md"

ShownName = Annotated[str, Field(min_length=1, max_length=120), AfterValidator(plain)]
Number = Annotated[int, Field(ge=1, le=100_000)]


class State(str, Enum):
    """What the values of an entry rest on."""

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


class Embeddings(str, Enum):
    """Whether the method was given label embeddings."""

    GIVEN = "word vectors"
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


class Audited(str, Enum):
    """Whether a fresh process gave some of the scores again; only the first two are ranked."""

    YES = "audited"
    FOREIGN = "foreign scores, verified"
    FAILED = "audit failed"
    NO = "not audited"


class IntervalKind(str, Enum):
    """What a 95 % interval is over; docs/metrics.md says which question each answers."""

    IMAGES = "images"
    EPISODES = "episodes"
    SEEDS = "training seeds"


class Interval(FileSchema):
    """Bounds of a 95 % interval in per cent; a Student-t bound may lie outside 0 to 100."""

    low: Bound
    high: Bound

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class Chance(Interval):
    """Expected AP of a random ranking, per cent; low and high differ where targets are unknown."""

    low: PerCent
    high: PerCent


Intervals = dict[IntervalKind, Interval]


class _Valued(FileSchema):
    """A value in per cent, `value` or `ap`, that lies inside its 95 % intervals."""

    intervals: Intervals = Field(default_factory=dict)

    @model_validator(mode="after")
    def _inside(self) -> _Valued:
        value: float = getattr(self, "value" if hasattr(self, "value") else "ap")
        for kind, interval in self.intervals.items():
            if not interval.low <= value <= interval.high:
                raise ValueError(
                    f"{value} lies outside its interval over {kind.value}, "
                    f"{interval.low} to {interval.high}"
                )
        return self


class Value(_Valued):
    """The value of a metric; few reported ones have intervals."""

    value: PerCent


class LabelValue(_Valued):
    """The AP of one novel label, mean over the episodes that have it."""

    label: Label
    ap: PerCent


class ScoresFile(FileSchema):
    """The files of one training seed: its scores and, for runs of this program, their record.

    Paths are relative to the results folder. A record comes with its hash and its key, `run`, and
    `audit` repeats what it says, if anything, of its audit. `answers` are stored targets.
    """

    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None
    scores: InnerPath
    scores_sha256: Sha256
    answers: InnerPath | None = None
    answers_sha256: Sha256 | None = None
    record: InnerPath | None = None
    record_sha256: Sha256 | None = None
    run: Sha256 | None = None
    audit: Literal["passed", "failed", "not made"] | None = None

    @model_validator(mode="after")
    def _whole(self) -> ScoresFile:
        given = {value is not None for value in (self.record, self.record_sha256, self.run)}
        if len(given) > 1:
            raise ValueError("record, record_sha256 and run are given together or not at all")
        if (self.answers is None) != (self.answers_sha256 is None):
            raise ValueError("answers and answers_sha256 are given together or not at all")
        if self.audit is not None and self.record is None:
            raise ValueError("an audit without the record that says so")
        return self

    @property
    def named(self) -> Iterator[tuple[str, str]]:
        """(path, SHA-256) of every file it names."""
        yield self.scores, self.scores_sha256
        if self.answers and self.answers_sha256:
            yield self.answers, self.answers_sha256
        if self.record and self.record_sha256:
            yield self.record, self.record_sha256


class Reported(FileSchema):
    """Values copied from a work, with where they stand in it; nobody here has its scores."""

    kind: Literal["reported"]
    work: LongText
    year: Annotated[int, Field(ge=1900, le=2200)]
    table: Number | None
    page: Number | None
    section: Line
    row: Line
    copy_in: InnerPath | None = None


Files = Annotated[list[ScoresFile], Field(min_length=1, max_length=100)]


class Scored(FileSchema):
    """Scores in the results folder: with targets as stored, rebuilt, or rebuilt and a second run.

    `reruns` are the second runs, one for each training seed; only `rerun verified` has them.
    """

    kind: Literal["scores stored", "scores verified", "rerun verified"]
    files: Files
    reruns: Files | None = None

    @model_validator(mode="after")
    def _fitting(self) -> Scored:
        if (self.kind == "rerun verified") != (self.reruns is not None):
            raise ValueError(f"reruns belong to 'rerun verified' and to nothing else: {self.kind}")
        if self.kind == "scores stored" and any(file.record is None for file in self.files):
            raise ValueError("stored targets without the record of the run that stored them")
        return self

    @property
    def all_files(self) -> list[ScoresFile]:
        """Those of the runs and of their second runs."""
        return [*self.files, *(self.reruns or ())]


class Link(FileSchema):
    """A link as it is shown: its title and an https address."""

    title: Line
    url: Https


class Tracks(ShortSchema):
    """The tracks an entry is in, to filter tables by; `words`: label embeddings."""

    absent = ("transductive",)
    pretraining: Pretraining
    words: Embeddings
    adaptation: Adaptation
    transductive: bool = False
    images: ImageTrack


class SplitRef(NamedSplit):
    """The split: its versioned id, its hash (None for reported values), its data set."""

    id: Slug


class ProtocolRef(FileSchema):
    """Protocol, hash of the set (None for reported), how many were run, K and Q if chosen."""

    id: Annotated[str, shaped(r"^[a-z0-9_]+-v[0-9]+$", "such as one_per_label-v1", longest=60)]
    episodes: Sha256 | None
    count: Annotated[int, Field(ge=1)]
    total: Annotated[int, Field(ge=1)]
    shots: Annotated[int, Field(ge=1)] | None = None
    queries: Annotated[int, Field(ge=1)] | None = None


class MethodFacts(FileSchema):
    """The method: its name, preset, parameters, and whether it learns from the base part."""

    method: Name
    preset: Name | None
    parameters: Values
    trains: bool | None


class Dates(FileSchema):
    """When the values were made and when they were submitted; a year, month or day."""

    made: Day
    submitted: Day | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Dates:
        made, submitted = self.made, self.submitted or self.made
        shared = min(len(made), len(submitted))  # a year is not before a day in it
        if made[:shared] > submitted[:shared]:
            raise ValueError(f"made on {made}, after it was submitted on {submitted}")
        return self


class Entry(FileSchema):
    """One row of the board, schema version 1."""

    schema_version: Version = 1
    kind: Literal["mlfsic-bench leaderboard entry"] = "mlfsic-bench leaderboard entry"
    id: Slug
    name: ShownName
    authors: Annotated[list[Line], Field(max_length=50)] = Field(default_factory=list)
    contact: Line | None = None
    citation: LongText
    state: State
    proof: Annotated[Reported | Scored, Field(discriminator="kind")]
    tracks: Tracks
    split: SplitRef
    protocol: ProtocolRef
    metrics_version: Annotated[str, shaped(r"^metrics-v[0-9]+$", "such as metrics-v1")] | None
    figures: Annotated[dict[MetricName, Value], Field(min_length=1)]
    per_label: Annotated[list[LabelValue], Field(max_length=1000)] = Field(default_factory=list)
    chance: dict[Literal["micro_ap", "macro_ap"], Chance] = Field(default_factory=dict)
    training_seeds: Annotated[int, Field(ge=1)] | None
    backbone: Line | None
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
        labels = [one.label for one in self.per_label]
        if len(set(labels)) != len(labels):
            raise ValueError("a label stands twice in per_label")
        if isinstance(self.proof, Scored):
            self._check_scored(self.proof)
        return self

    def _check_scored(self, proof: Scored) -> None:
        seeds = [file.seed for file in proof.files if file.seed is not None]
        if len(set(seeds)) != len(seeds):
            raise ValueError("a training seed stands twice in the proof's files")
        for name, value in (
            ("split.hash", self.split.hash),
            ("protocol.episodes", self.protocol.episodes),
            ("metrics_version", self.metrics_version),
        ):
            if value is None:
                raise ValueError(f"{name} is null, which only a reported entry may have")
        if self.training_seeds != len(proof.files):
            raise ValueError(f"training_seeds {self.training_seeds} with {len(proof.files)} files")
        given = [one.intervals for one in (*self.figures.values(), *self.per_label)]
        if self.state is State.STORED and any(IntervalKind.IMAGES in one for one in given):
            raise ValueError("an interval over images, which stored targets do not give")

    @property
    def has_scores(self) -> bool:
        """Whether the values come from scores in the results folder."""
        return self.state is not State.REPORTED

    @property
    def verified(self) -> bool:
        """Whether the values are recomputed from scores and rebuilt targets."""
        return self.state in (State.SCORES, State.RERUN)

    @property
    def audited(self) -> Audited | None:
        """What is known of the audits of its runs; None for reported values.

        Scores without a record are foreign ones, which nothing here can make again.
        """
        if isinstance(self.proof, Reported):
            return None
        found = {file.audit for file in self.proof.all_files}
        if found == {"passed"}:
            return Audited.YES
        if "failed" in found:
            return Audited.FAILED
        foreign = self.verified and all(file.record is None for file in self.proof.all_files)
        return Audited.FOREIGN if foreign else Audited.NO

    @property
    def ranked(self) -> bool:
        """Whether it has a rank: verified, and its runs audited or its scores foreign."""
        return self.verified and self.audited in (Audited.YES, Audited.FOREIGN)

    @property
    def path(self) -> str:
        """Where it lies below the results folder."""
        return f"{FOLDER}/{plain_id(self.split.id)}/{self.id}.json"


def slug(text: str) -> str:
    """Lower-case letters and digits of `text`, joined by single hyphens; `entry` when none is left.

    >>> slug("PLA (GloVe), ResNet-50")
    'pla-glove-resnet-50'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:100].strip("-") or "entry"


# Files


def parse_entry(value: Any, where: str) -> Entry:
    """The JSON value as an Entry; a BenchError naming the key in `where` that is wrong."""
    remedy = "make the entry with `mlfsic-bench submit pack`"
    return load(Entry, value, where, page=PAGE, remedy=remedy)


def read_entry(path: Path | str) -> Entry:
    """The entry in a file, by schema alone; BenchError otherwise."""
    return parse_entry(read_json(Path(path), kind="leaderboard entry", limit=LIMIT), str(path))


def read_placed(path: Path) -> Entry:
    """The entry in a file that must lie under its own split and id."""
    entry = read_entry(path)
    found = "/".join(path.parts[-3:])
    if found != entry.path:
        raise BenchError(
            f"{path} does not lie where its entry belongs",
            expected=entry.path,
            found=found,
            remedy="move the file, or correct `id` and `split.id`",
        )
    return entry


def write_entry(entry: Entry, results: Path) -> Path:
    """Write an entry to its place below the results folder, atomically; the path."""
    path = results / entry.path
    write_json(path, entry.model_dump(mode="json"))
    return path


def entry_files(results: Path) -> list[Path]:
    """The files of all entries below a results folder, sorted; BenchError when it has none.

    Files whose names begin with a dot (`.DS_Store`, what a killed writer left) are no entries.
    """
    top = results / FOLDER
    if not is_folder(top):
        raise BenchError(
            f"{results} has no entries",
            expected=f"a folder {FOLDER} in it, with {FOLDER}/<split id>/<entry id>.json",
            found="no such folder",
            remedy="name the results folder: --results DIR",
        )
    found = files_below(top)
    stray = [path for path in found if path.suffix != ".json"]
    if stray:
        raise BenchError(
            f"{stray[0]} is not an entry",
            expected=f"only files <split id>/<entry id>.json in {top}",
            found=stray[0].name,
            remedy="move the file elsewhere",
        )
    return sorted(found, key=lambda path: path.relative_to(top).parts)


def read_entries(results: Path) -> list[Entry]:
    """All entries below a results folder, sorted by split and id, each in its place."""
    return [read_placed(path) for path in entry_files(results)]


def check_files(entry: Entry, results: Path) -> int:
    """How many files an entry rests on; BenchError unless all are there with their hashes."""
    if isinstance(entry.proof, Reported):
        return 0
    named = [pair for file in entry.proof.all_files for pair in file.named]
    for path, sha256 in named:
        _check_file(results, path, sha256)
    return len(named)


def _check_file(results: Path, path: str, sha256: str) -> None:
    place = results / path
    try:
        inside = resolved(place).is_relative_to(resolved(results))
        with open_regular(place) as stream:
            size = os.fstat(stream.fileno()).st_size
        found = hash_file(place) if size <= SCORES_LIMIT else f"more than {SCORES_LIMIT} bytes"
    except OSError as error:
        inside, found = True, error.strerror or str(error)
    if not inside or found != sha256:
        raise BenchError(
            f"{place} is not the file the entry names",
            expected=f"SHA-256 {sha256}",
            found=found if inside else "a link that leads out of the results folder",
            remedy="restore the file, or pack the entry again",
        )


def schema_text() -> str:
    """The JSON Schema of an entry, as `mlfsic-bench leaderboard schema` prints it."""
    schema = Entry.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

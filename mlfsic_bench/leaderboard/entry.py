"""A leaderboard entry: what it claims, on what, in which tracks, and what proves it.

The schema of `results/leaderboard/<split id>/<entry id>.json`. Entries come from strangers, so
every text has a length, links are https only, and paths stay inside the results folder.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mlfsic_bench.leaderboard.entry_figures import Chance, Figure, LabelFigure
from mlfsic_bench.leaderboard.kinds import (
    Adaptation,
    Audited,
    ImageTrack,
    IntervalKind,
    Pretraining,
    State,
    WordTrack,
)
from mlfsic_bench.leaderboard.proof import Reported, RerunVerified, ScoresStored, WithScores
from mlfsic_bench.results.fields import (
    Https,
    LongText,
    MetricName,
    Slug,
)
from mlfsic_bench.schema import Day, FileSchema, Line, Name, Sha256, Values, Version, plain

ShownName = Annotated[str, Field(min_length=1, max_length=120), AfterValidator(plain)]


class Link(FileSchema):
    """A link as it is shown: its title and an https address."""

    title: Line
    url: Https


class Tracks(FileSchema):
    """The tracks an entry is in; tables can be filtered by each."""

    pretraining: Pretraining
    words: WordTrack
    adaptation: Adaptation
    images: ImageTrack


class SplitRef(FileSchema):
    """The split: its versioned id, its hash (None for reported figures), its dataset."""

    id: Slug
    hash: Sha256 | None
    dataset: Name


class ProtocolRef(FileSchema):
    """The episodes: protocol version, hash of the set (None for reported), how many were run.

    `shots` is K of `laso_k_shot`, None for other protocols.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9_]+-v[0-9]+$", max_length=60)]
    episodes: Sha256 | None
    count: Annotated[int, Field(ge=1)]
    total: Annotated[int, Field(ge=1)]
    shots: Annotated[int, Field(ge=1)] | None = None


class MethodFacts(FileSchema):
    """The method: its name, preset, parameters, and whether it learns from the base part."""

    method: Name
    preset: Name | None
    parameters: Values
    trains: bool | None


class Dates(FileSchema):
    """When the figures were made and when they were handed in; a year, month or day."""

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
    """One row of the board, schema version 1; docs/leaderboard.md describes every key."""

    schema_version: Version = 1
    kind: Literal["mlfsic-bench leaderboard entry"] = "mlfsic-bench leaderboard entry"
    id: Slug
    name: ShownName
    authors: Annotated[list[Line], Field(max_length=50)] = Field(default_factory=list)
    contact: Line | None = None
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
        labels = [figure.label for figure in self.per_label]
        if len(set(labels)) != len(labels):
            raise ValueError("a label stands twice in per_label")
        if not isinstance(self.proof, Reported):
            seeds = [file.seed for file in self.proof.files if file.seed is not None]
            if len(set(seeds)) != len(seeds):
                raise ValueError("a training seed stands twice in the proof's files")
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

    @property
    def audited(self) -> Audited | None:
        """What is known of the audits of its runs; None for reported figures.

        Scores without a record are foreign ones, which nothing here can make again.
        """
        if isinstance(self.proof, Reported):
            return None
        again = self.proof.reruns if isinstance(self.proof, RerunVerified) else []
        files = (*self.proof.files, *again)
        found = {file.audit for file in files}
        if found == {"passed"}:
            return Audited.YES
        if "failed" in found:
            return Audited.FAILED
        foreign = self.verified and all(file.record is None for file in files)
        return Audited.FOREIGN if foreign else Audited.NO

    @property
    def ranked(self) -> bool:
        """Whether it has a rank: verified, and its runs audited or its scores foreign."""
        return self.verified and self.audited in (Audited.YES, Audited.FOREIGN)


def slug(text: str) -> str:
    """Lower-case letters and digits of `text`, joined by single hyphens; `entry` when none is left.

    >>> slug("PLA (GloVe), ResNet-50")
    'pla-glove-resnet-50'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:100].strip("-") or "entry"

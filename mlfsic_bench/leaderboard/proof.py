"""What proves an entry: a work it was copied from, or scores in the results folder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mlfsic_bench.results.fields import LongText
from mlfsic_bench.schema import FileSchema, InnerPath, Line, Sha256

Number = Annotated[int, Field(ge=1, le=100_000)]


class ScoresFile(FileSchema):
    """One training seed's evidence: its scores, its answers and, for our runs, its record.

    Paths are relative to the results folder; `run` is the key of the record. A record comes with
    its hash and its key. `audit` is what the record says of the run's audit, None where it says
    nothing.
    """

    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None
    scores: InnerPath
    scores_sha256: Sha256
    answers: InnerPath
    answers_sha256: Sha256
    record: InnerPath | None = None
    record_sha256: Sha256 | None = None
    run: Sha256 | None = None
    audit: Literal["passed", "failed", "not made"] | None = None

    @model_validator(mode="after")
    def _whole_record(self) -> ScoresFile:
        given = [value is not None for value in (self.record, self.record_sha256, self.run)]
        if any(given) and not all(given):
            raise ValueError("record, record_sha256 and run are given together or not at all")
        if self.audit is not None and self.record is None:
            raise ValueError("an audit without the record that says so")
        return self


class Reported(FileSchema):
    """Figures copied from a work, with where they stand in it; nobody here has its scores."""

    kind: Literal["reported"]
    work: LongText
    year: Annotated[int, Field(ge=1900, le=2200)]
    table: Number | None
    page: Number | None
    section: Line
    row: Line
    copy_in: InnerPath | None = None


class ScoresStored(FileSchema):
    """Scores and targets of our runs lie in the results folder; the targets are not rebuilt."""

    kind: Literal["scores stored"]
    files: Annotated[list[ScoresFile], Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _with_records(self) -> ScoresStored:
        if any(file.record is None for file in self.files):
            raise ValueError("stored targets without the record of the run that stored them")
        return self


class ScoresVerified(FileSchema):
    """The scores lie in the results folder; every figure is recomputed, with rebuilt targets."""

    kind: Literal["scores verified"]
    files: Annotated[list[ScoresFile], Field(min_length=1, max_length=100)]


class RerunVerified(FileSchema):
    """As `scores verified`, and a second run of every seed, with its key, whose figures agree."""

    kind: Literal["rerun verified"]
    files: Annotated[list[ScoresFile], Field(min_length=1, max_length=100)]
    reruns: Annotated[list[ScoresFile], Field(min_length=1, max_length=100)]


WithScores = ScoresStored | ScoresVerified | RerunVerified

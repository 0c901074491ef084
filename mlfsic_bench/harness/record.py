"""The record of a run: what it is, what made it, how it went."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlfsic_bench.errors import BenchError, nearest
from mlfsic_bench.files import read_json, write_json
from mlfsic_bench.harness.cards import BaseImages
from mlfsic_bench.harness.provenance import Provenance
from mlfsic_bench.harness.scores import EpisodesCard, MethodCard, SplitCard

RECORD = "record.json"
Status = Literal["started", "success", "error", "cancelled"]
AuditStatus = Literal["passed", "failed", "not made"]
AuditKind = Literal[
    "memory between episodes",
    "pooled supports",
    "batch statistics over the query",
    "order of the query",
    "state that was not saved",
    "unkeyed randomness",
    "the fresh process died",
    "the fresh process hung",
    "the method failed in a fresh process",
]


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Stage(_Schema):
    """One stage of the run and the seconds this process spent in it."""

    name: str
    seconds: float


class Failure(_Schema):
    """Why a run ended with `error`."""

    stage: str
    message: str


class Summary(_Schema):
    """Mean over episodes and half width of its 95 % Student-t interval, as fractions."""

    mean: float | None
    half_width: float | None


class Audit(_Schema):
    """What came of scoring a few episodes again in a fresh process (docs/running.md).

    `largest_difference` and `tolerance` are relative to the range of a label's stored scores in an
    episode; `kind` is what a failed audit looks like, `reason` the evidence, or why none was made.
    """

    status: AuditStatus
    kind: AuditKind | None = None
    reason: str | None = None
    largest_difference: float | None = None
    tolerance: float | None = None
    episodes: list[int] = Field(default_factory=list)
    queries: int = 0
    seconds: float = 0.0


class FeaturesCard(_Schema):
    """Where features came from."""

    mode: str
    backbone: str
    weights: str
    weights_hash: str
    transform: str
    precision: Literal["fp32", "bf16"]
    channels: int
    grid: tuple[int, int]


class WordsCard(_Schema):
    """Which label vectors the run had."""

    name: str
    hash: str
    dimensions: int


class Record(_Schema):
    """Schema version 1 of `record.json`; docs/results-format.md describes every key."""

    schema_version: Literal[1] = 1
    kind: Literal["mlfsic-bench record"] = "mlfsic-bench record"
    key: str
    status: Status
    identity: dict[str, Any]
    split: SplitCard
    subset: dict[str, Any] | None
    episodes: EpisodesCard
    selection_episodes: int
    labels: dict[str, list[str]]
    sitting_out: dict[str, list[str]] = Field(default_factory=dict)
    base_images: BaseImages | None = None
    method: MethodCard
    features: FeaturesCard | None
    words: WordsCard | None
    provenance: Provenance
    started: str
    ended: str | None = None
    stages: list[Stage] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    failure: Failure | None = None
    outputs: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, Summary] = Field(default_factory=dict)
    undefined: dict[str, int] = Field(default_factory=dict)
    audit: Audit | None = None

    @property
    def audit_status(self) -> AuditStatus | None:
        """What came of the run's audit; None in records that know of none."""
        return self.audit.status if self.audit else None


def now() -> str:
    """The present time in UTC, ISO 8601 with seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def write_record(folder: Path, record: Record) -> None:
    """Write `record.json` in a run's folder, atomically."""
    write_json(folder / RECORD, record.model_dump(mode="json"))


def read_record(folder: Path) -> Record:
    """The record in a run's folder; BenchError naming the first key that is wrong."""
    path = folder / RECORD
    value = read_json(path, kind="run record")
    try:
        return Record.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the record"
        found = f"{place}: {first['msg']}"
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            close = nearest(str(first["loc"][0]), Record.model_fields)
            found = f"unknown key {place!r}" + (f" (nearest known: {close!r})" if close else "")
        raise BenchError(
            f"{path} is not a valid run record",
            expected="schema version 1 as in docs/results-format.md",
            found=found,
            remedy="name a folder that mlfsic-bench run wrote with this version",
        ) from error

"""The record of a run and the folder it lies in: what it is, how it went, whether it is done."""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, ConfigDict, Field

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import differences, meaning
from mlfsic_bench.evaluation.meta import BaseImages, EmbeddingsMeta, FeaturesMeta
from mlfsic_bench.evaluation.provenance import Provenance
from mlfsic_bench.evaluation.scores import EpisodesMeta, MethodMeta, SplitMeta
from mlfsic_bench.files import read_json, write_json
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.paths import exists, list_folder
from mlfsic_bench.schema import (
    FileSchema,
    Label,
    Name,
    Sha256,
    Time,
    Values,
    Version,
    Word,
    load,
)
from mlfsic_bench.splits.files import Subset

RECORD = "record.json"
METHOD = "method.pt"
SCORES = "scores.npz"
ANSWERS = "answers.npz"
PARTS = "parts"
CHECKPOINTS = "checkpoints"
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


LONGEST_MESSAGE = 20_000  # characters of a failure that are kept


def _kept(message: Any) -> Any:
    # It may hold what an exception of a method says: any length, and text that is not Unicode.
    if not isinstance(message, str):
        return message
    return message[:LONGEST_MESSAGE].encode("utf-8", "backslashreplace").decode()


def _subset(value: dict[str, Any]) -> dict[str, Any]:
    Subset.model_validate(value)
    return value


Note = Annotated[str, Field(max_length=1 << 20)]  # may name all labels of a part
LabelLists = dict[Word, Annotated[list[Label], Field(max_length=10_000)]]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0)]


class Stage(FileSchema):
    """One stage of the run and the seconds this process spent in it."""

    name: Name
    seconds: Annotated[float, Field(ge=0)]


class Failure(FileSchema):
    """Why a run ended with `error`."""

    stage: Name
    message: Annotated[str, BeforeValidator(_kept)]


class Summary(FileSchema):
    """Mean over episodes and half width of its 95 % Student-t interval, as fractions."""

    mean: float | None
    half_width: Share | None


class Audit(FileSchema):
    """What came of scoring a few episodes again in a fresh process (docs/running.md).

    `largest_difference` and `tolerance` are relative to the range of a label's stored scores in an
    episode; `kind` is what a failed audit looks like, `reason` the evidence, or why none was made.
    """

    model_config = ConfigDict(frozen=False)  # filled in as the audit goes

    status: AuditStatus
    kind: AuditKind | None = None
    reason: Annotated[str, BeforeValidator(_kept)] | None = None
    largest_difference: Share | None = None
    tolerance: Share | None = None
    episodes: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=1000)] = Field(
        default_factory=list
    )
    queries: Annotated[int, Field(ge=0)] = 0
    seconds: Share = 0.0


class Record(FileSchema):
    """Schema version 1 of `record.json`; docs/results-format.md describes every key."""

    model_config = ConfigDict(frozen=False)  # a run fills it in as it goes

    schema_version: Version = 1
    kind: Literal["mlfsic-bench record"] = "mlfsic-bench record"
    key: Sha256
    status: Status
    identity: Values
    split: SplitMeta
    subset: Annotated[dict[str, Any], AfterValidator(_subset)] | None
    episodes: EpisodesMeta
    selection_episodes: Annotated[int, Field(ge=0)]
    labels: LabelLists
    excluded_labels: LabelLists = Field(
        default_factory=dict, validation_alias=AliasChoices("excluded_labels", "sitting_out")
    )
    base_images: BaseImages | None = None
    method: MethodMeta
    features: FeaturesMeta | None
    words: EmbeddingsMeta | None
    provenance: Provenance
    started: Time
    ended: Time | None = None
    stages: Annotated[list[Stage], Field(max_length=100_000)] = Field(default_factory=list)
    notes: Annotated[list[Note], Field(max_length=1000)] = Field(default_factory=list)
    failure: Failure | None = None
    outputs: dict[Word, Sha256] = Field(default_factory=dict)
    metrics: dict[Word, Summary] = Field(default_factory=dict)
    undefined: dict[Word, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
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
    return parse_record(read_json(path, kind="run record"), str(path))


def parse_record(value: Any, where: str) -> Record:
    """The JSON value as a record; BenchError naming the key in `where` that is wrong."""
    return load(
        Record,
        value,
        where,
        page="docs/results-format.md",
        remedy="name a folder that mlfsic-bench run wrote with this version",
    )


def earlier_record(folder: Path, key: str, identity: dict[str, object]) -> Record | None:
    """The record of the same run in this folder, or None when the folder is empty.

    Raises BenchError when the folder holds anything else: another run (the differences are
    named), the begun run of an earlier version, or files of no run at all.
    """
    if not exists(folder / RECORD):
        others = [path.name for path in list_folder(folder)]
        if others:
            raise BenchError(
                f"{folder} holds files that are not a run",
                expected="an empty folder, or the folder of this very run",
                found=", ".join(others[:5]),
                remedy="name another folder with --out",
            )
        return None
    record = read_record(folder)
    if record.key != key:
        changed = differences(meaning(record.identity), identity)
        if not changed and is_done(folder, record):
            return record  # by an earlier version of this package, which made keys otherwise
        raise BenchError(
            f"{folder} holds another run",
            expected=f"the run with key {key[:12]}",
            found=f"key {record.key[:12]}; {'; '.join(changed) or 'begun by another version'}",
            remedy="name another folder with --out, or repeat the options of the run that is there",
        )
    return record


def is_done(folder: Path, record: Record) -> bool:
    """Whether the run succeeded, no audit of it failed, and its files are what the record says.

    Records of earlier versions have no audit. BenchError when a file is a Git LFS pointer.
    """
    sound = record.status == "success" and record.audit_status != "failed"
    return sound and is_scored(folder, record)


def lacks_audit(folder: Path, record: Record, key: str) -> bool:
    """Whether the run could still be audited: what it had learnt is there, under the same key."""
    return record.audit is None and record.key == key and exists(folder / METHOD)


def is_scored(folder: Path, record: Record) -> bool:
    """Whether the run's scores are there, as the record says: all that is left is its audit."""
    if set(record.outputs) != {SCORES, ANSWERS}:
        return False
    with contextlib.suppress(OSError):
        return all(hash_file(folder / name) == value for name, value in record.outputs.items())
    return False

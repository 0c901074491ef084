"""The record of a run and the folder it lies in: what it is, how it went, whether it is done."""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, ConfigDict, Field

from mlfsic_bench.data.dataset import PART_NAMES
from mlfsic_bench.embeddings.label_embeddings import BUILTIN
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import differences, meaning
from mlfsic_bench.evaluation.meta import (
    BaseImages,
    EmbeddingsMeta,
    EpisodesMeta,
    FeaturesMeta,
    MethodMeta,
    SplitMeta,
)
from mlfsic_bench.evaluation.plan import METHOD as METHOD
from mlfsic_bench.evaluation.plan import RECORD as RECORD
from mlfsic_bench.evaluation.provenance import Provenance
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
    one_error,
)
from mlfsic_bench.splits.files import Subset
from mlfsic_bench.splits.names import unofficial
from mlfsic_bench.testing.process import is_shipped, note_on_checks

if TYPE_CHECKING:
    from mlfsic_bench.evaluation.inputs import Inputs
    from mlfsic_bench.methods.contract import Method
    from mlfsic_bench.splits.split import Split

SCORES = "scores.npz"
ORDER = "order.npz"  # in an archive in place of the scores
TARGETS = "targets.npz"
OLD_TARGETS = "answers.npz"  # of earlier versions, which are read
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
    "rounding",
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

    @property
    def targets_file(self) -> str:
        """The name of the file with the targets, as the run that wrote it called it."""
        return OLD_TARGETS if OLD_TARGETS in self.outputs else TARGETS


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
    if set(record.outputs) != {SCORES, record.targets_file}:
        return False
    with contextlib.suppress(OSError):
        return all(hash_file(folder / name) == value for name, value in record.outputs.items())
    return False


# -- the record of a run that begins ------------------------------------------------------------


@one_error(
    "the record of this run",
    page="docs/results-format.md",
    remedy="rename the file that the value comes from",
)
def new_record(
    inputs: Inputs,
    key: str,
    run_identity: dict[str, object],
    made_by: Provenance,
    earlier: Record | None,
) -> Record:
    """A record with status `started`; start and stages of an `earlier` process are kept.

    Raises BenchError for what a record can't hold, such as a file's name with a line end in it.
    """
    split, episodes, method = inputs.split, inputs.episodes, inputs.method
    embeddings = inputs.embeddings
    selection = inputs.selection
    return Record(
        key=key,
        status="started",
        identity=run_identity,
        split=SplitMeta.of(split),
        subset=split.subset,
        episodes=EpisodesMeta.of(episodes, inputs.count),
        selection_episodes=len(selection.episodes) if selection else 0,
        labels={name: list(part.labels) for name, part in split.parts.items()},
        excluded_labels=selection.excluded_labels if selection else {},
        base_images=selection.base_images if selection else None,
        method=MethodMeta(
            name=method.name,
            preset=inputs.preset,
            parameters=method.params.model_dump(mode="json"),
            changed=_changed(method),
            seed=inputs.seed,
            trains=method.trains,
            uses_words=method.needs_embeddings or inputs.embeddings_given is not None,
            adapts_by_gradient=method.adapts_by_gradient,
            transductive=method.transductive,
            citation=method.citation,
            printed=method.printed or None,
            bibtex=method.bibtex,
        ),
        features=inputs.features,
        words=EmbeddingsMeta(
            name=embeddings.name,
            hash=embeddings.hash,
            dimensions=embeddings.dimension,
            templates=list(embeddings.templates) or None,
            space=embeddings.space or None,
        )
        if embeddings
        else None,
        provenance=made_by,
        started=earlier.started if earlier else now(),
        stages=earlier.stages if earlier else [],
        notes=notes_of(inputs),
    )


def _changed(method: Method) -> list[str]:
    now = method.params.model_dump(mode="json")
    default = type(method.params)().model_dump(mode="json")
    return sorted(name for name, value in now.items() if value != default[name])


def notes_of(inputs: Inputs) -> list[str]:
    """One sentence for everything that sets this run apart from a whole one."""
    notes = []
    split, total = inputs.split, len(inputs.episodes.episodes)
    if split.subset is not None:
        notes.append("the split is limited to a subset of its images; not comparable to full runs")
        notes += _labels_left(split)
        excluded: Any = split.subset.get("excluded")
        if excluded:
            numbers = ", ".join(f"{name} {n:,}" for name, n in excluded["images"].items())
            notes.append(f"images left out by an exclusion list: {numbers}")
    notes += unofficial(split.id, split.differs_from_official)
    if inputs.damaged:
        from mlfsic_bench.data.images import in_kinds

        notes.append(
            f"files under an image's name that hold no image, left out: {len(inputs.damaged):,} "
            f"({in_kinds(list(inputs.damaged.values()))}), such as {next(iter(inputs.damaged))}"
        )
    notes += note_on_source(inputs.features)
    if inputs.episodes.part == "val":
        notes.append("a trial on the val episodes, to choose by; not a result")
    if not inputs.own_episodes:
        notes.append("the episodes are not the split's own, but those of --episodes-file")
    if (
        inputs.embeddings is not None
        and inputs.embeddings_given is None
        and inputs.embeddings.name not in (BUILTIN, inputs.split.dataset)
    ):
        notes.append(
            f"the label embeddings {inputs.embeddings.name} are not given to the method, which "
            "does not declare that it uses them"
        )
    plan, method = inputs.plan, type(inputs.method)
    if plan is not None and not is_shipped(plan.spec, method):
        notes.append(note_on_checks(plan.spec, method))
    if inputs.count < total:
        notes.append(f"only the first {inputs.count} of {total} episodes are run")
    if inputs.selection is not None:
        cut = inputs.selection.base_images
        if cut is not None and cut.labels is not None:
            notes.append(
                f"trained on the {cut.labels:,} of {len(split.base.labels):,} base labels with the "
                f"most images and on {cut.used:,} of {cut.of:,} base images, a point of a learning "
                "curve; not comparable to full runs"
            )
        elif cut is not None:
            notes.append(
                f"trained on the first {cut.used:,} of {cut.of:,} base images, a point of a "
                "learning curve; not comparable to full runs"
            )
        for part, labels in inputs.selection.excluded_labels.items():
            notes.append(f"excluded {part} labels, with too few images: {', '.join(labels)}")
        if inputs.selection.val is None:
            left = len(split.val.labels) - len(inputs.selection.excluded_labels.get("val", ()))
            why = (
                "the split has no val label"
                if not split.val.labels
                else "no val label has enough images"
                if left == 0
                else "only one val label has enough images, whose macro-AP is always 100 %"
            )
            notes.append(f"{why}, so nothing is selected on val: the last weights are kept")
    return notes


def note_on_source(features: FeaturesMeta) -> list[str]:
    """One sentence where the run did not make its features itself."""
    if features.source is None:
        return []
    made = "of a pack"
    if features.source == "imported":
        made = f"imported, made by: {features.made_by}; pre-training: {features.pretraining}"
    rounded = f", rounded to {features.rounded.split()[0]}" if features.rounded else ""
    return [
        f"the features are {made}{rounded}; nothing here checks that with the images "
        "(docs/features.md)"
    ]


def _labels_left(split: Split) -> list[str]:
    """For each part that labels have left: which are still in it, and which are not."""
    subset: dict[str, Any] = split.subset or {}
    return [
        f"{name}: {len(split.parts[name].labels)} of {len(split.parts[name].labels) + len(left)} "
        f"labels stay: {', '.join(split.parts[name].labels)}; with fewer than "
        f"{subset['min_pool']} images left: {', '.join(f'{k} {n}' for k, n in left.items())}"
        for name in PART_NAMES
        if (left := subset.get("labels_left", {}).get(name))
    ]

"""One run, from plan to record: open, fit, save, score, write, audit; or on where it stopped."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlfsic_bench import distributed
from mlfsic_bench.episodes.protocol import Episode
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.assist import EVALUATE, assist
from mlfsic_bench.evaluation.audit.audit import audit_run
from mlfsic_bench.evaluation.audit.compare import ROUNDED, TOLERANCE, Stored
from mlfsic_bench.evaluation.finished import done_line, keep_finished
from mlfsic_bench.evaluation.fit import fitted_method
from mlfsic_bench.evaluation.identity import identity, run_key
from mlfsic_bench.evaluation.inputs import Inputs, Log, open_inputs
from mlfsic_bench.evaluation.meta import ScoresMeta, TargetsMeta
from mlfsic_bench.evaluation.plan import RunPlan, default_folder
from mlfsic_bench.evaluation.predict import evaluate, refuse_large_query
from mlfsic_bench.evaluation.provenance import provenance
from mlfsic_bench.evaluation.recall import remember_run, remember_split
from mlfsic_bench.evaluation.record import (
    CHECKPOINTS,
    METHOD,
    PARTS,
    SCORES,
    TARGETS,
    Failure,
    Record,
    Stage,
    Status,
    Summary,
    earlier_record,
    is_done,
    is_scored,
    lacks_audit,
    new_record,
    now,
    write_record,
)
from mlfsic_bench.evaluation.resources import ResourceCache
from mlfsic_bench.evaluation.scores import (
    Scores,
    StoredTargets,
    read_scores,
    write_scores,
    write_targets,
)
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.locks import only_writer
from mlfsic_bench.paths import exists, is_folder
from mlfsic_bench.signals import undisturbed
from mlfsic_bench.testing.check import refuse_faulty
from mlfsic_bench.text import exception_text

if TYPE_CHECKING:
    from mlfsic_bench.features.sources import FeatureSource


def run_method(
    plan: RunPlan,
    log: Log = lambda line: None,
    opened: ResourceCache | None = None,
    fitted: Path | None = None,
) -> Path:
    """Do what `plan` asks, or go on where an earlier process stopped; the run's folder.

    A run that is done already is left as it is. `log` gets lines of progress text. Raises
    BenchError for bad input, for a folder that holds another run, and for a method that fails;
    the record then says `error`. Ctrl-C leaves `cancelled`; so do, within `signals.stoppable`,
    SIGTERM and SIGHUP.

    `opened` holds what earlier runs opened; `fitted` as for `execute`.
    """
    opened = opened or ResourceCache()
    inputs = open_inputs(plan, opened)
    folder = execute(inputs, plan.out, log, fitted)
    if distributed.number() == 0:
        keep_finished(plan, inputs, folder, opened.places, opened.since)
    return folder


def execute(
    inputs: Inputs,
    out: Path | None,
    log: Log = lambda line: None,
    fitted: Path | None = None,
) -> Path:
    """`run_method` with inputs that are open already; `out` None for the default folder.

    All processes that work together call it; the first makes the run, the others assist.

    `fitted`: the folder of a run whose fit is taken over, where it is the very same fit.
    """
    refuse_large_query(inputs.method, inputs.episodes.episodes[: inputs.count])
    run_identity = identity(inputs)
    key = run_key(run_identity)
    folder = out or folder_of(inputs)
    distributed.agree("the run", key)
    try:
        if distributed.number() > 0:
            assist(inputs, folder, key)
            return folder
        _finish(inputs, folder, key, run_identity, log, fitted)
    except Exception as error:
        if not distributed.given_up(error):
            distributed.end_all(error)
        raise
    distributed.lead(distributed.END)
    if inputs.plan is not None:
        remember_run(key, inputs.plan)
    if inputs.split_file is not None:
        remember_split(inputs.split_file)
    return folder


def folder_of(inputs: Inputs) -> Path:
    """The folder of a run where none is named: `runs/...`."""
    split = inputs.split
    key = run_key(identity(inputs))
    return default_folder(inputs.method.name, split.id, split.subset is not None, key)


def _finish(
    inputs: Inputs,
    folder: Path,
    key: str,
    run_identity: dict[str, object],
    log: Log,
    fitted: Path | None,
) -> None:
    """Run, or go on, unless the run in the folder is done."""
    if is_folder(folder):  # looked at first: not even a lock in a folder of others
        earlier = earlier_record(folder, key, run_identity)
        if _done(folder, earlier, key, log):  # perhaps in a read-only folder
            return
    if inputs.plan is not None and not exists(folder / METHOD):
        refuse_faulty(inputs.plan.spec, inputs.plan.texts, inputs.plan.preset)
    with only_writer(folder, (PARTS, CHECKPOINTS), log):
        earlier = earlier_record(folder, key, run_identity)
        if _done(folder, earlier, key, log):  # by whoever held the lock
            return
        record = new_record(inputs, key, run_identity, provenance(str(inputs.device)), earlier)
        if earlier is not None and is_scored(folder, earlier) and exists(folder / METHOD):
            log(f"{folder} has its scores; they are audited")
            record.outputs, record.metrics = earlier.outputs, earlier.metrics
            record.undefined, record.provenance = earlier.undefined, earlier.provenance
        _Runner(inputs, folder, record, log, fitted).run()


def _done(folder: Path, earlier: Record | None, key: str, log: Log) -> bool:
    """Whether nothing is left to do; a run of this key that nobody has audited is audited now."""
    if earlier is None or not is_done(folder, earlier):
        return False
    if lacks_audit(folder, earlier, key):
        return False
    log(done_line(folder, earlier.key, earlier.ended))
    return True


TIED = 0.05  # share of tied scores from which on it is said


class _Runner:
    """The stages of one run, each noted in the record as soon as it ends."""

    def __init__(
        self, inputs: Inputs, folder: Path, record: Record, log: Log, fitted: Path | None
    ) -> None:
        self.inputs = inputs
        self.fitted = fitted
        self.folder = folder.absolute()  # a method may change the working folder
        self.record = record
        self.log = log
        self.stage_name = "start"
        self.ended = False

    def run(self) -> None:
        """All stages; whatever happens, the record says so."""
        try:
            write_record(self.folder, self.record)
            for note in self.record.notes:
                self.log(f"note: {note}")
            self._stages()
        except BenchError as error:
            self._end("error", Failure(stage=self.stage_name, message=str(error)))
            raise
        except KeyboardInterrupt:
            self._end("cancelled", None)
            raise
        except Exception as error:
            failure = Failure(stage=self.stage_name, message=exception_text(error))
            self._end("error", failure)
            raise
        finally:
            self._end("cancelled", None)  # a second Ctrl-C came before the record said so

    def _stages(self) -> None:
        """All stages, on a GPU with the products that the record says."""
        from mlfsic_bench.features.compute import float32_products

        if self.inputs.features.mode == "stored":
            self._each_stage()
            return
        training = self.inputs.features.training
        with float32_products(tf32=training is not None and training.tf32):
            self._each_stage()

    def _each_stage(self) -> None:
        inputs, key = self.inputs, self.record.key
        episodes = inputs.episodes.episodes[: inputs.count]
        wanted = sorted({i for e in episodes for i in (*e.support, *e.query)})
        if self.record.outputs:
            self._audit(inputs.open_source(wanted, (), self.log), episodes)
            return
        with self._stage("fit"):
            method, source = fitted_method(inputs, wanted, self.folder, key, self.log, self.fitted)
        with self._stage("evaluate"):
            view = inputs.scored(source)
            parts = self.folder / PARTS
            distributed.lead(EVALUATE)
            raw, decisions = evaluate(method, view, episodes, parts, key, self.log)
        with self._stage("write"):
            for note in notes_on_scores(raw, decisions):
                self.record.notes.append(note)
                self.log(f"note: {note}")
            scores = scores_of(inputs, self.record, raw, decisions)
            targets = query_targets(inputs, self.record, episodes)
            write_scores(self.folder / SCORES, scores)
            write_targets(self.folder / TARGETS, targets)
            self.record.metrics, self.record.undefined = summary(scores, targets)
            self.record.outputs = {
                name: hash_file(self.folder / name) for name in (SCORES, TARGETS)
            }
        self._audit(source, episodes)

    def _audit(self, source: FeatureSource, episodes: tuple[Episode, ...]) -> None:
        """Score some episodes again and end the run; a failed audit is no error of the run."""
        with self._stage("audit"):
            scores = read_scores(self.folder / SCORES)
            features = self.inputs.features
            rounded = features.mode != "stored" and (
                features.precision == "bf16"
                or (features.training is not None and features.training.tf32)
            )
            tolerance = ROUNDED if rounded else TOLERANCE
            stored = Stored(episodes, scores.scores, scores.decisions, tolerance)
            self.record.audit = audit_run(
                self.inputs, source, self.record, self.folder / METHOD, stored
            )
        self._end("success", None)
        audit = self.record.audit
        kind = f": {audit.kind}" if audit.kind else ""
        self.log(f"audit {audit.status}{kind} ({audit.seconds:.1f} s)")
        if audit.status == "passed" and audit.reason:
            self.log(f"note: {audit.reason}")
        shutil.rmtree(self.folder / PARTS, ignore_errors=True)  # the scores hold them

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self.stage_name = name
        start = time.monotonic()
        try:
            yield
        finally:
            seconds = round(time.monotonic() - start, 3)
            self.record.stages.append(Stage(name=name, seconds=seconds))
        write_record(self.folder, self.record)

    def _end(self, status: Status, failure: Failure | None) -> None:
        """Write down how the run ended; only the first call does."""
        with undisturbed():
            if self.ended:
                return
            self.ended = True
            self.record.status = status
            self.record.failure = failure
            self.record.ended = now()
            write_record(self.folder, self.record)


# -- what is written at the end -----------------------------------------------------------------


def notes_on_scores(
    scores: npt.NDArray[np.float32], decisions: npt.NDArray[np.bool_] | None
) -> list[str]:
    """One sentence for each thing that looks wrong in scores float32 [E, Q, L]."""
    notes = []
    tied = share_tied(scores)
    if tied >= TIED:
        notes.append(
            f"{100 * tied:.0f} % of scores are tied: another query image of the episode has the "
            "same score for the same label"
        )
    if decisions is None:
        notes += [note for note in (not_logits(scores),) if note]
    return notes


def share_tied(scores: npt.NDArray[np.float32]) -> float:
    """The share of scores [E, Q, L] that another image of their episode has for the same label."""
    ordered = np.sort(scores, axis=1)
    equal = ordered[:, 1:] == ordered[:, :-1]
    edge = np.zeros_like(equal[:, :1])
    return float((np.concatenate([equal, edge], 1) | np.concatenate([edge, equal], 1)).mean())


def not_logits(scores: npt.NDArray[np.float32]) -> str:
    """What is said of scores that are never below 0, where 0 is the threshold; or ''."""
    low, high = float(scores.min()), float(scores.max())
    if low < 0 or high == 0:
        return ""
    if high <= 1:
        return (
            "all scores lie in [0, 1]: they look like probabilities; a label is predicted where "
            "the score is above 0, so give logits, or a `decide`"
        )
    if low > 0:
        return "all scores are above 0: every label is predicted for every image; recall is 100 %"
    return ""


def scores_of(
    inputs: Inputs,
    record: Record,
    raw: npt.NDArray[np.float32],
    decisions: npt.NDArray[np.bool_] | None,
) -> Scores:
    """The Scores of a run, with what its record says of them."""
    meta = ScoresMeta(
        run=record.key,
        split=record.split,
        episodes=record.episodes,
        labels=list(inputs.part.labels),
        method=record.method,
        base_images=record.base_images,
    )
    return Scores(raw, decisions, meta)


def query_targets(inputs: Inputs, record: Record, episodes: tuple[Episode, ...]) -> StoredTargets:
    """The targets of the query images, from the split."""
    part = inputs.part
    targets = np.stack([part.targets_of(episode.query) for episode in episodes])
    meta = TargetsMeta(split=record.split, episodes=record.episodes, labels=list(part.labels))
    return StoredTargets(
        targets.astype(np.uint8), np.array([episode.query for episode in episodes]), meta
    )


def summary(scores: Scores, stored: StoredTargets) -> tuple[dict[str, Summary], dict[str, int]]:
    """(every metric's mean and interval, how often a convention stepped in).

    For convenience only: reports compute them again from scores and targets.
    """
    from mlfsic_bench.metrics.intervals import t_interval
    from mlfsic_bench.metrics.registry import episode_metrics, undefined_counts

    values = episode_metrics(scores.scores, stored.targets, scores.decisions)
    rows = {}
    for name, per_episode in values.items():
        mean, half = t_interval(per_episode)
        rows[name] = Summary(mean=_or_none(mean), half_width=_or_none(half))
    return rows, undefined_counts(scores.scores, stored.targets, scores.decisions)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)

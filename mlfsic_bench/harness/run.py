"""One run, from plan to record: open, fit, save, score, write; or go on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.harness import resume
from mlfsic_bench.harness.evaluate import discard, evaluate
from mlfsic_bench.harness.finish import answers_of, scores_of, summary
from mlfsic_bench.harness.fit import fitted_method
from mlfsic_bench.harness.inputs import Inputs, Log, open_inputs
from mlfsic_bench.harness.lock import only_writer
from mlfsic_bench.harness.looks import notes_on_scores
from mlfsic_bench.harness.plan import RunPlan, default_folder, identity, run_key
from mlfsic_bench.harness.provenance import provenance
from mlfsic_bench.harness.record import Failure, Record, Stage, Status, now, write_record
from mlfsic_bench.harness.scores import write_answers, write_scores
from mlfsic_bench.harness.start import new_record
from mlfsic_bench.hashing import hash_file


def run_method(plan: RunPlan, log: Log = lambda line: None) -> Path:
    """Do what `plan` asks, or go on where an earlier process stopped; the run's folder.

    A run that is done already is left as it is. `log` gets lines of progress text. Raises
    BenchError for bad input, for a folder that holds another run, and for a method that fails;
    the record then says `error`. Ctrl-C leaves `cancelled`.
    """
    return execute(open_inputs(plan), plan.out, log)


def execute(inputs: Inputs, out: Path | None, log: Log = lambda line: None) -> Path:
    """`run_method` with inputs that are open already; `out` None for the default folder."""
    run_identity = identity(inputs)
    key = run_key(run_identity)
    split = inputs.split
    folder = out or default_folder(inputs.method.name, split.id, split.subset is not None, key)
    if folder.is_dir():
        resume.earlier_record(folder, key, run_identity)  # not even a lock in a foreign folder
    if not (folder / resume.METHOD).exists():
        inputs.refuse_faulty()
    with only_writer(folder):
        earlier = resume.earlier_record(folder, key, run_identity)
        if earlier is not None and resume.is_done(folder, earlier):
            log(f"{folder} is done already: key {key[:12]}, ended {earlier.ended}")
            return folder
        record = new_record(inputs, key, run_identity, provenance(str(inputs.device)), earlier)
        _Runner(inputs, folder, record, log).run()
    return folder


class _Runner:
    """The stages of one run, each noted in the record as soon as it ends."""

    def __init__(self, inputs: Inputs, folder: Path, record: Record, log: Log) -> None:
        self.inputs = inputs
        self.folder = folder.absolute()  # a method may change the working folder
        self.record = record
        self.log = log
        self.stage_name = "start"

    def run(self) -> None:
        """All stages; whatever happens, the record says so."""
        write_record(self.folder, self.record)
        for note in self.record.notes:
            self.log(f"note: {note}")
        try:
            self._stages()
        except BenchError as error:
            self._end("error", Failure(stage=self.stage_name, message=str(error)))
            raise
        except KeyboardInterrupt:
            self._end("cancelled", None)
            raise
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            self._end("error", Failure(stage=self.stage_name, message=message))
            raise

    def _stages(self) -> None:
        inputs, key = self.inputs, self.record.key
        episodes = inputs.episodes.episodes[: inputs.count]
        novel = sorted({i for e in episodes for i in (*e.support, *e.query)})
        with self._stage("fit"):
            method, source = fitted_method(inputs, novel, self.folder, key, self.log)
        with self._stage("evaluate"):
            view = inputs.view(inputs.split.novel, "novel", source)
            parts = self.folder / resume.PARTS
            raw, decisions = evaluate(method, view, episodes, parts, key, self.log)
        with self._stage("write"):
            for note in notes_on_scores(raw, decisions):
                self.record.notes.append(note)
                self.log(f"note: {note}")
            scores = scores_of(inputs, self.record, raw, decisions)
            answers = answers_of(inputs, self.record, episodes)
            write_scores(self.folder / resume.SCORES, scores)
            write_answers(self.folder / resume.ANSWERS, answers)
            self.record.metrics, self.record.undefined = summary(scores, answers)
        self.record.outputs = {
            name: hash_file(self.folder / name) for name in (resume.SCORES, resume.ANSWERS)
        }
        self._end("success", None)
        discard(self.folder / resume.PARTS)

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
        self.record.status = status
        self.record.failure = failure
        self.record.ended = now()
        write_record(self.folder, self.record)

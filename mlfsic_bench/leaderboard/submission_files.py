"""The files of a submission: runs and scores files as they are handed in, and where they go."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlfsic_bench.evaluation.record import ANSWERS, RECORD, SCORES, Record
from mlfsic_bench.evaluation.scores import (
    Answers,
    AnswersMeta,
    Scores,
    ScoresMeta,
    read_scores,
    write_answers,
)
from mlfsic_bench.files import copy_file
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.leaderboard.files import PAGE
from mlfsic_bench.leaderboard.proof import ScoresFile
from mlfsic_bench.paths import is_folder, resolved
from mlfsic_bench.results.runs import FinishedRun, read_run
from mlfsic_bench.results.targets import Truth
from mlfsic_bench.schema import one_error


@dataclass(frozen=True, eq=False)
class Source:
    """A run folder or a foreign scores file, read."""

    path: Path
    scores: Scores
    run: FinishedRun | None

    @property
    def meta(self) -> ScoresMeta:
        """What the scores say of themselves."""
        return self.scores.meta

    @property
    def record(self) -> Record | None:
        """The run's record, None for a foreign file."""
        return self.run.record if self.run else None


def open_source(path: Path) -> Source:
    """A run folder or a scores file; BenchError for what is neither."""
    if is_folder(path):
        run = read_run(path)
        return Source(path, run.scores, run)
    return Source(path, read_scores(path), None)


@dataclass(frozen=True, eq=False)
class Copy:
    """A source's files on their way to where its entry says; nothing when they lie there."""

    source: Source
    file: ScoresFile
    answers: Answers | None
    moves: bool

    def write(self, out: Path) -> None:
        """Write scores, answers and record below `out`."""
        if not self.moves:
            return
        folder = self.source.path if self.source.run else self.source.path.parent
        scores = folder / SCORES if self.source.run else self.source.path
        copy_file(scores, out / self.file.scores)
        if self.answers is not None:
            write_answers(out / self.file.answers, self.answers)
        else:
            copy_file(folder / ANSWERS, out / self.file.answers)
        if self.file.record is not None:
            copy_file(folder / RECORD, out / self.file.record)


@one_error("the evidence of an entry", page=PAGE, remedy="rename the run's folder or its split")
def copy_of(source: Source, truth: Truth, out: Path, folder: str) -> Copy:
    """The source's files in `folder` below `out`; where they are if a run lies in `out` already."""
    own = source.path if source.run else source.path.parent
    inside = source.run is not None and resolved(own).is_relative_to(resolved(out))
    if inside:
        folder = resolved(own).relative_to(resolved(out)).as_posix()
    answers = None if source.run else _answers(source, truth)
    scores = own / SCORES if source.run else source.path
    file = ScoresFile(
        seed=source.meta.method.seed,
        scores=f"{folder}/{SCORES}",
        scores_sha256=hash_file(scores),
        answers=f"{folder}/{ANSWERS}",
        answers_sha256=_hash_of(answers) if answers else hash_file(own / ANSWERS),
        record=f"{folder}/{RECORD}" if source.run else None,
        record_sha256=hash_file(own / RECORD) if source.run else None,
        run=source.record.key if source.record else None,
        audit=source.record.audit_status if source.record else None,
    )
    return Copy(source, file, answers, not inside)


def _answers(source: Source, truth: Truth) -> Answers:
    meta = source.meta
    card = AnswersMeta(split=meta.split, episodes=meta.episodes, labels=meta.labels)
    return Answers(truth.targets.astype(np.uint8), truth.query, card)


def _hash_of(answers: Answers) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ANSWERS
        write_answers(path, answers)
        return hash_file(path)

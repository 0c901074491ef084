"""A finished run as a report sees it: per-episode values computed from its stored scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.record import ANSWERS, RECORD, SCORES, Record, read_record
from mlfsic_bench.evaluation.scores import Answers, Scores, read_answers, read_scores
from mlfsic_bench.files import is_stored
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.paths import exists, folders_with


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run's folder, read and checked.

    Attributes
    ----------
    folder: where it lies.
    record, scores, answers: its files.
    """

    folder: Path
    record: Record
    scores: Scores
    answers: Answers

    def values(self, names: tuple[str, ...]) -> dict[str, npt.NDArray[np.float64]]:
        """float64 [E] for each metric: its value in every episode, as a fraction."""
        from mlfsic_bench.metrics.episode import episode_metrics

        return episode_metrics(
            self.scores.scores, self.answers.targets, self.scores.decisions, names
        )


def read_run(folder: Path) -> FinishedRun:
    """The finished run in `folder`.

    Raises BenchError for a run that has not succeeded, for files that are not the ones its record
    names, and for scores and answers that belong to different splits or episodes.
    """
    _refuse_folder_of_runs(folder)
    record = read_record(folder)
    if record.status != "success":
        raise BenchError(
            f"the run in {folder} has not ended well",
            expected="status success",
            found=f"status {record.status}",
            remedy="run the same command again to finish it",
        )
    for name in (SCORES, ANSWERS):
        path = folder / name
        found = hash_file(path) if is_stored(path) else "no such file"
        if found != record.outputs.get(name):
            raise BenchError(
                f"{path} is not the file this run wrote",
                expected=f"SHA-256 {record.outputs.get(name, '(none)')[:16]}...",
                found=found[:16],
                remedy="restore the file, or run the same command again",
            )
    scores, answers = read_scores(folder / SCORES), read_answers(folder / ANSWERS)
    a, b = scores.meta, answers.meta
    same = a.split == b.split == record.split and a.episodes == b.episodes == record.episodes
    same = same and a.labels == b.labels and a.run == record.key and a.method == record.method
    # files written before the key existed do not have it
    same = same and a.base_images in (None, record.base_images)
    if not same or scores.scores.shape != answers.targets.shape:
        raise BenchError(
            f"the files in {folder} do not belong together",
            expected="scores, answers and record of one run",
            found=f"scores of split {a.split.hash[:12]}, episodes {a.episodes.hash[:12]}; "
            f"answers of {b.split.hash[:12]}, {b.episodes.hash[:12]}; key {str(a.run)[:12]}",
            remedy="leave each run's files in its own folder",
        )
    return FinishedRun(folder, record, scores, answers)


def _refuse_folder_of_runs(folder: Path) -> None:
    if exists(folder / RECORD):
        return
    runs = [path.name for path in folders_with(folder, RECORD)]
    if runs:
        raise BenchError(
            f"{folder} is not a run but holds {len(runs)} of them",
            expected="the folders of runs",
            found=", ".join(runs[:3]) + (", ..." if len(runs) > 3 else ""),
            remedy=f"name the runs in it: {folder}/*",
        )

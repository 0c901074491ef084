"""What of a reproduction is worth keeping for others: tables, records and per-episode figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlfsic_bench.evaluation.record import ANSWERS, CHECKPOINTS, RECORD, SCORES
from mlfsic_bench.files import copy_file, write_text
from mlfsic_bench.metrics.registry import columns
from mlfsic_bench.paths import is_file
from mlfsic_bench.results.runs import FinishedRun, read_run
from mlfsic_bench.text import csv_text
from mlfsic_bench.training.history import HISTORY_FILE

EPISODES = "episodes.csv"


def archive(
    files: Sequence[Path], folders: Sequence[Path], to: Path, *, scores: bool
) -> list[Path]:
    """Copy these files to the folder `to`, and what the runs they rest on are to `to`/runs.

    Of each run: its record, the history of its training, and `episodes.csv`, every metric of the
    tables in each episode, from which each mean and interval can be computed again. With `scores`
    also the raw scores and answers (0.8 MB a run on COCO), from which those follow. Checkpoints and
    weights are not kept. Returns the folders of the archived runs.
    """
    for path in files:
        copy_file(path, to / path.name)
    kept = []
    for folder in dict.fromkeys(folders):
        target = to / "runs" / folder.name
        run = read_run(folder)
        write_text(target / EPISODES, episodes_csv(run))
        names = [RECORD, *([SCORES, ANSWERS] if scores else [])]
        for name in names:
            copy_file(folder / name, target / name)
        history = folder / CHECKPOINTS / HISTORY_FILE
        if is_file(history):
            copy_file(history, target / HISTORY_FILE)
        kept.append(target)
    return kept


def episodes_csv(run: FinishedRun) -> str:
    """A line for each episode, a column for each metric, as fractions in full precision."""
    values = run.values(columns())
    lines: list[list[object]] = [["episode", *values]]
    for episode, row in enumerate(zip(*values.values(), strict=True)):
        lines.append([episode, *map(float, row)])
    return csv_text(lines)

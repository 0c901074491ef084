"""What of a reproduction is worth keeping for others: tables, records and per-episode figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlfsic_bench.files import write_bytes, write_text
from mlfsic_bench.harness.record import RECORD
from mlfsic_bench.harness.resume import ANSWERS, CHECKPOINTS, SCORES
from mlfsic_bench.report.runs import FinishedRun, read_run
from mlfsic_bench.report.table import COLUMNS
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
        write_bytes(to / path.name, path.read_bytes())
    kept = []
    for folder in dict.fromkeys(folders):
        target = to / "runs" / folder.name
        run = read_run(folder)
        write_text(target / EPISODES, episodes_csv(run))
        names = [RECORD, *([SCORES, ANSWERS] if scores else [])]
        for name in names:
            write_bytes(target / name, (folder / name).read_bytes())
        history = folder / CHECKPOINTS / HISTORY_FILE
        if history.is_file():
            write_bytes(target / HISTORY_FILE, history.read_bytes())
        kept.append(target)
    return kept


def episodes_csv(run: FinishedRun) -> str:
    """A line for each episode, a column for each metric, as fractions in full precision."""
    values = run.values(COLUMNS)
    lines: list[list[object]] = [["episode", *COLUMNS]]
    count = len(next(iter(values.values())))
    for episode in range(count):
        lines.append([episode, *(float(values[name][episode]) for name in COLUMNS)])
    return csv_text(lines)

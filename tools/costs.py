"""How long the rows of the reality check took, from the records of their trials and runs.

A record says how many seconds each stage of its run took, by the clock, on a machine that may have
done other work too. Trials on val and runs on novel count; a run that takes over the fit of its
trial has no fit of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mlfsic_bench.evaluation.record import Record, parse_record, read_record
from mlfsic_bench.experiments.archive import TRIALS, archived_folder, has_order, kept_runs
from mlfsic_bench.experiments.render import read_table
from mlfsic_bench.experiments.table import TableRow
from mlfsic_bench.text import for_markdown

MEASURED = "results/measured"
TABLES = {
    "COCO, lite2": "coco-subset/reality-check.json",
    "COCO, lite1": "coco-subset/reality-check-efficientnet_lite1.json",
    "COCO, lite0": "coco-subset/reality-check-efficientnet_lite0.json",
    "VOC": "voc-subset/reality-check.json",
    "scenes": "scenes/reality-check.json",
}


def costs(root: Path) -> str:
    """A Markdown table: minutes of each row in each table, and of all rows."""
    minutes: dict[str, dict[str, float]] = {}
    for title, name in TABLES.items():
        path = root / MEASURED / name
        table = read_table(path)
        for row in table.rows if table else ():
            minutes.setdefault(row.name, {})
            if row.runs:
                minutes[row.name][title] = sum(map(_seconds, _records(path, row))) / 60
    whole = {title: sum(row.get(title, 0.0) for row in minutes.values()) for title in TABLES}
    rows = [(for_markdown(name), _shown(own.get)) for name, own in minutes.items() if own]
    lines = [["Row", *TABLES], [":--", *["--:"] * len(TABLES)]]
    lines += [[name, *cells] for name, cells in [*rows, ("all rows", _shown(whole.get))]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _records(path: Path, row: TableRow) -> Iterator[Record]:
    trials = kept_runs(path, TRIALS)
    for trial in row.trials:
        if trial.folder in trials:
            yield parse_record(trials[trial.folder].record, trial.folder)
    for run in row.runs:
        folder = archived_folder(path, run.folder)
        if has_order(folder):
            yield read_record(folder)


def _seconds(record: Record) -> float:
    return sum(stage.seconds for stage in record.stages)


def _shown(minutes: Callable[[str], float | None]) -> list[str]:
    found = (minutes(title) for title in TABLES)
    return ["-" if value is None else f"{value:.1f}" for value in found]

"""The runs of an experiment: what is there of each, and doing those that are missing."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mlfsic_bench.evaluation.record import Record, read_record
from mlfsic_bench.evaluation.resources import ResourceCache
from mlfsic_bench.experiments.plan import Options, PlannedRow, PlannedTrial
from mlfsic_bench.launchers.runs import (
    EXPLAINED,
    Done,
    Kept,
    Launch,
    Log,
    PlannedRun,
    Status,
    in_process,
    status_of,
    unique,
    why_failed,
)
from mlfsic_bench.text import for_terminal

CHOSEN_BY = "macro_ap"  # of the val episodes


class Archive(Protocol):
    """What is asked of an archived table (`carried.ArchivedTable`)."""

    def __call__(self, run: PlannedRun, /) -> Kept | None:
        """A planned run as the archive has it; None where it has none, or of another version."""

    @property
    def failed_trials(self) -> Container[str]:
        """The folders of the trials that had failed when the table was made."""


def run_rows(
    rows: Sequence[PlannedRow],
    log: Log,
    launch: Launch = in_process,
    archived: Archive | None = None,
) -> tuple[list[PlannedRow], Done]:
    """Run what is missing of these rows, each run once, in the order of the rows.

    `launch` does them: first the trials on val, of rows that are tuned, then the runs of what was
    chosen, which the rows that come back have. Rows left out by --only are not run; of them, what
    is done already counts, and what `archived` finds.
    Raises BenchError before the first run when the split can't be opened, because then no run can.
    """
    done = Done()
    open_splits(rows, done.opened)
    wanted = [row for row in rows if not row.left_out]
    trials = unique(one.run for row in wanted for one in row.trials)
    if trials:
        launch(trials, done, log)
    _find((one.run for row in rows if row.left_out for one in row.trials), done, archived)
    rows = [_chosen(row, done, log) for row in rows]
    launch(unique(run for row in rows if not row.left_out for run in _finals(row)), done, log)
    _find((run for row in rows if row.left_out for run in row.runs), done, archived)
    if archived is not None:
        _as_archived([run for row in rows for run in row.runs], done, archived, log)
    return [_of_those_there(row, done) if row.left_out else row for row in rows], done


def _of_those_there(row: PlannedRow, done: Done) -> PlannedRow:
    """A row that nobody ran now, with the training seeds that are there; as it is without any."""
    there = [run for run in row.runs if done.place(run.folder) or run.folder in done.failed]
    return replace(row, runs=tuple(there) or row.runs)


def _find(runs: Iterable[PlannedRun], done: Done, archived: Archive | None) -> None:
    """Note which of these runs, which nobody does now, are done or failed, here or in an archive.

    A trial that failed when it was tried must not hinder the choice among the others.
    """
    for run in runs:
        if run.folder in done.failed:
            continue
        if status_of(run) == "done":
            done.finished.add(run.folder)
        elif archived is not None and (kept := archived(run)) is not None:
            done.kept[run.folder] = kept
        elif why := why_failed(run):
            done.failed[run.folder] = why
        elif archived is not None and run.folder.name in archived.failed_trials:
            done.failed[run.folder] = "it failed when the archived table was made"


def _as_archived(runs: Sequence[PlannedRun], done: Done, archived: Archive, log: Log) -> None:
    """Note which finished runs the archive has already, with another rounding perhaps."""
    for run in runs:
        if run.folder not in done.finished or (kept := archived(run)) is None:
            continue
        if kept.place is not None and kept.record.key == read_record(run.folder).key:
            done.kept[run.folder] = kept
            log(f"{run.folder.name}: as it is archived")


def _all_runs(row: PlannedRow) -> list[PlannedRun]:
    return [one.run for one in row.trials] + list(row.runs)


def _finals(row: PlannedRow) -> list[PlannedRun]:
    """The runs of a row; the one that fits what its chosen trial fitted takes that over."""
    if row.chosen is None:
        return list(row.runs)
    trial = row.trials[row.chosen].run
    return [
        replace(run, fitted=trial.folder) if run.plan.seed == trial.plan.seed else run
        for run in row.runs
    ]


def _chosen(row: PlannedRow, done: Done, log: Log) -> PlannedRow:
    """A tuned row with the runs of its best trial, the first of equals; as it is without one.

    A trial that failed is left out of the choice. One whose folder is in the way did not fail: what
    it would give is not known, so nothing is chosen.
    """
    if any(status_of(one.run) in ("other version", "unreadable") for one in row.trials):
        return row
    values = [trial_value(one, done) for one in row.trials]
    sound = [value for value in values if value is not None]
    failed = sum(one.run.folder in done.failed for one in row.trials)
    if not sound or len(sound) + failed < len(values):
        return row
    best = values.index(max(sound))
    if len(values) > 1:
        told = ", ".join(f"{name}={value}" for name, value in row.trials[best].settings.items())
        log(f"-- {row.spec.name}: {told} of {len(values)} trials, val {100 * max(sound):.2f}")
    return row.choose(best)


def trial_value(trial: PlannedTrial, done: Done) -> float | None:
    """The val macro-AP of a trial that is done, a fraction; None of one that failed or is not."""
    record = trial_record(trial, done)
    return record.metrics[CHOSEN_BY].mean if record else None


def trial_record(trial: PlannedTrial, done: Done) -> Record | None:
    """The record of a trial that is done, here or in an archive."""
    folder = trial.run.folder
    if folder in done.kept:
        return done.kept[folder].record
    if folder in done.failed or status_of(trial.run) != "done":
        return None
    return read_record(folder)


def wanted_runs(rows: Sequence[PlannedRow]) -> list[PlannedRun]:
    """The trials and runs of the rows that are not left out."""
    return [run for row in rows if not row.left_out for run in _all_runs(row)]


def open_splits(rows: Sequence[PlannedRow], opened: ResourceCache) -> None:
    """Open the splits of the runs that are wanted; BenchError where one can't be."""
    for plan in {run.plan.split: run.plan for run in wanted_runs(rows)}.values():
        opened.split(plan)


def describe_plan(rows: Sequence[PlannedRow], options: Options) -> str:
    """A line for each run, each once, and their number; writes nothing and opens no images.

    Raises BenchError when a split or the device can't be had, as the runs would.
    """
    from mlfsic_bench.features.compute import parse_device

    parse_device(options.device)
    open_splits(rows, ResourceCache())
    lines: list[str] = []
    seen: dict[Path, str] = {}
    statuses: dict[Status, int] = {}
    for row in rows:
        if row.not_run or row.left_out:
            lines.append(f"{row.spec.name}: not run: {row.not_run or 'left out by --only'}")
            continue
        lines.append(f"{row.spec.name}:")
        for run in _all_runs(row):
            if run.folder in seen:
                lines.append(f"  shared      {run.folder.name} (with {seen[run.folder]})")
                continue
            seen[run.folder] = row.spec.name
            status = status_of(run)
            statuses[status] = statuses.get(status, 0) + 1
            lines.append(f"  {status:11} {run.folder.name}")
    counts = ", ".join(f"{n} {status}" for status, n in statuses.items())
    number = counted(sum(statuses.values()), "run")
    lines += ["", f"{number} in {options.folder / 'runs'}: {counts or 'none'}"]
    lines += [f"  {status}: {EXPLAINED[status]}" for status in statuses]
    return "\n".join(map(for_terminal, lines)) + "\n"


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "run"), counted(2, "run")
    ('1 run', '2 runs')
    """
    return f"{number} {noun}" + ("" if number == 1 else "s")

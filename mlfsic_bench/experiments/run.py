"""The runs of an experiment: what is there of each, and doing those that are missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.finished import done_line, finished
from mlfsic_bench.evaluation.identity import method_version
from mlfsic_bench.evaluation.record import RECORD, is_done, read_record
from mlfsic_bench.evaluation.resources import ResourceCache
from mlfsic_bench.experiments.plan import Options, PlannedRow, PlannedRun, PlannedTrial
from mlfsic_bench.paths import exists
from mlfsic_bench.plugins.files import source_hash
from mlfsic_bench.text import exception_text, for_terminal

Log = Callable[[str], None]
Status = Literal["missing", "part", "done", "other version", "unreadable"]
CHOSEN_BY = "macro_ap"  # of the val episodes
EXPLAINED: dict[Status, str] = {
    "missing": "not begun",
    "part": "begun, will be resumed",
    "done": "done, will be left as it is",
    "other version": "made by another version of the method: use another --out, or delete the "
    "folder",
    "unreadable": "no record that can be read: use another --out, or delete the folder",
}


@dataclass
class Done:
    """What became of an experiment's runs.

    Attributes
    ----------
    finished: folders of the runs that are done.
    failed: folder -> why.
    opened: the splits and networks that the runs were opened with.
    """

    finished: set[Path] = field(default_factory=set)
    failed: dict[Path, str] = field(default_factory=dict)
    opened: ResourceCache = field(default_factory=ResourceCache)


def run_rows(rows: Sequence[PlannedRow], log: Log) -> tuple[list[PlannedRow], Done]:
    """Run what is missing of these rows, each run once, in the order of the rows.

    Of rows that are tuned the trials on val come first; the rows that come back have the runs of
    what was chosen. Rows left out by --only are not run; of them, what is done already counts.
    Raises BenchError before the first run when the split can't be opened, because then no run can.
    """
    done = Done()
    open_splits(rows, done.opened)
    _run_all([one.run for row in rows if not row.left_out for one in row.trials], done, log)
    rows = [_chosen(row, done, log) for row in rows]
    _run_all([run for row in rows if not row.left_out for run in row.runs], done, log, rows)
    for run in (run for row in rows if row.left_out for run in _all_runs(row)):
        if run.folder not in done.failed and status_of(run) == "done":
            done.finished.add(run.folder)
    return rows, done


def _all_runs(row: PlannedRow) -> list[PlannedRun]:
    return [one.run for one in row.trials] + list(row.runs)


def _run_all(
    wanted: Sequence[PlannedRun], done: Done, log: Log, rows: Sequence[PlannedRow] = ()
) -> None:
    """Do these runs, each once; one that fits what a trial of `rows` fitted takes that over."""
    fits = {
        run.folder: row.trials[row.chosen].run.folder
        for row in rows
        if row.chosen is not None
        for run in row.runs
        if run.plan.seed == row.trials[row.chosen].run.plan.seed
    }
    unique = list({run.folder: run for run in wanted}.values())
    for i, run in enumerate(unique, start=1):
        log(f"-- run {i} of {len(unique)}: {run.folder.name}")
        _run(run, done, log, fits.get(run.folder))


def _chosen(row: PlannedRow, done: Done, log: Log) -> PlannedRow:
    """A tuned row with the runs of its best trial, the first of equals; as it is without one."""
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
    folder = trial.run.folder
    if folder in done.failed or status_of(trial.run) != "done":
        return None
    return read_record(folder).metrics[CHOSEN_BY].mean


def open_splits(rows: Sequence[PlannedRow], opened: ResourceCache) -> list[PlannedRun]:
    """The runs that are wanted, once their splits are open; BenchError where one can't be."""
    wanted = [run for row in rows if not row.left_out for run in _all_runs(row)]
    for plan in {run.plan.split: run.plan for run in wanted}.values():
        opened.split(plan)
    return wanted


def _run(run: PlannedRun, done: Done, log: Log, fitted: Path | None = None) -> None:
    plan = replace(run.plan, out=run.folder)
    found = finished(plan)
    if found is not None:
        log(done_line(found.folder, found.record["key"], found.record["ended"]))
        done.finished.add(run.folder)
        return
    from mlfsic_bench.evaluation.audit.audit import failure_of
    from mlfsic_bench.evaluation.runner import run_method

    try:
        run_method(plan, log, done.opened, fitted)
        failure = failure_of(read_record(run.folder), run.folder)
        if failure is not None:
            raise failure
    except Exception as error:
        # A failing method must not take the other rows with it; its record keeps the message.
        ours = isinstance(error, BenchError)
        what = error.what if isinstance(error, BenchError) else exception_text(error)
        log(f"FAILED: {error if ours else what}")
        done.failed[run.folder] = what
    else:
        done.finished.add(run.folder)


def status_of(run: PlannedRun) -> Status:
    """What is there of the run, as far as can be told without opening data.

    A folder whose data have changed since still counts as done here; running it says so.
    """
    if not exists(run.folder / RECORD):
        return "missing"
    try:
        record = read_record(run.folder)
    except BenchError:
        return "unreadable"
    if method_version(record.identity) != _version(run.plan.spec):
        return "other version"
    return "done" if is_done(run.folder, record) else "part"


def _version(method: str) -> str:
    from mlfsic_bench.methods.registry import find_method

    return source_hash(method) or str(find_method(method).version)


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

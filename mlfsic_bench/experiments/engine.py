"""Do the runs of an experiment that are missing; a run that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.resources import ResourceCache
from mlfsic_bench.experiments.plan import PlannedRow, PlannedRun
from mlfsic_bench.experiments.status import status_of
from mlfsic_bench.text import exception_text

Log = Callable[[str], None]


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


def run_rows(rows: Sequence[PlannedRow], log: Log) -> Done:
    """Run what is missing of these rows, each run once, in the order of the rows.

    Rows left out by --only are not run; of them, what is done already counts. Raises BenchError
    before the first run when the split can't be opened, because then no run can.
    """
    done = Done()
    wanted = open_splits(rows, done.opened)
    unique = list({run.folder: run for run in wanted}.values())
    for i, run in enumerate(unique, start=1):
        log(f"-- run {i} of {len(unique)}: {run.folder.name}")
        _run(run, done, log)
    for run in (run for row in rows if row.left_out for run in row.runs):
        if run.folder not in done.failed and status_of(run) == "done":
            done.finished.add(run.folder)
    return done


def open_splits(rows: Sequence[PlannedRow], opened: ResourceCache) -> list[PlannedRun]:
    """The runs that are wanted, once their splits are open; BenchError where one can't be."""
    wanted = [run for row in rows if not row.left_out for run in row.runs]
    for plan in {run.plan.split: run.plan for run in wanted}.values():
        opened.split(plan)
    return wanted


def _run(run: PlannedRun, done: Done, log: Log) -> None:
    from mlfsic_bench.evaluation.audit.audit import failure_of
    from mlfsic_bench.evaluation.inputs import open_inputs
    from mlfsic_bench.evaluation.record import read_record
    from mlfsic_bench.evaluation.runner import execute

    try:
        execute(open_inputs(run.plan, done.opened), run.folder, log)
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

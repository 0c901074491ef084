"""Do the runs of an experiment that are missing; a run that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.experiments.plan import PlannedRow, PlannedRun
from mlfsic_bench.experiments.status import differs_in_code_only, status_of
from mlfsic_bench.harness.opened import Opened
from mlfsic_bench.harness.plan import identity
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
    opened: Opened = field(default_factory=Opened)


def run_rows(rows: Sequence[PlannedRow], log: Log, accept_other_code: bool = False) -> Done:
    """Run what is missing of these rows, each run once, in the order of the rows.

    With `accept_other_code` a finished run whose inputs are the same but for the code that made it
    is used as it is; otherwise such a folder makes the run fail.

    Rows left out by --only are not run; of them, what is done already counts. Raises BenchError
    before the first run when the split can't be opened, because then no run can.
    """
    done = Done()
    wanted = open_splits(rows, done.opened)
    unique = list({run.folder: run for run in wanted}.values())
    for i, run in enumerate(unique, start=1):
        log(f"-- run {i} of {len(unique)}: {run.folder.name}")
        _run(run, done, log, accept_other_code)
    for run in (run for row in rows if row.left_out for run in row.runs):
        if run.folder not in done.failed and _counts(run, done.opened, accept_other_code):
            done.finished.add(run.folder)
    return done


def _counts(run: PlannedRun, opened: Opened, accept_other_code: bool) -> bool:
    """Whether a run that is not wanted is done already."""
    from mlfsic_bench.harness.inputs import open_inputs

    status = status_of(run)
    if status != "other code" or not accept_other_code:
        return status == "done"
    try:
        return differs_in_code_only(run.folder, identity(open_inputs(run.plan, opened)))
    except BenchError:  # what it was run on is not at hand
        return False


def open_splits(rows: Sequence[PlannedRow], opened: Opened) -> list[PlannedRun]:
    """The runs that are wanted, once their splits are open; BenchError where one can't be."""
    wanted = [run for row in rows if not row.left_out for run in row.runs]
    for plan in {run.plan.split: run.plan for run in wanted}.values():
        opened.split(plan)
    return wanted


def _run(run: PlannedRun, done: Done, log: Log, accept_other_code: bool) -> None:
    from mlfsic_bench.harness.inputs import open_inputs
    from mlfsic_bench.harness.run import execute

    try:
        inputs = open_inputs(run.plan, done.opened)
        if accept_other_code and differs_in_code_only(run.folder, identity(inputs)):
            log(f"{run.folder} is done already, by another state of the code")
        else:
            execute(inputs, run.folder, log)
    except Exception as error:
        # A failing method must not take the other rows with it; its record keeps the message.
        ours = isinstance(error, BenchError)
        what = error.what if isinstance(error, BenchError) else exception_text(error)
        log(f"FAILED: {error if ours else what}")
        done.failed[run.folder] = what
    else:
        done.finished.add(run.folder)

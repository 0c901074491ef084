"""Planned runs: what is there of each, and doing several in one process.

A launcher is a function `launch(runs, done, log)` that does runs and notes in `done` what became
of them. `in_process` is the simplest; `local` and `slurm` hold the others, whose workers do their
share as `in_process` does. The state of a run is in its folder and nowhere else, so a worker may
be killed at any time: the same command goes on. Why a run failed is kept beside the runs, in
`failed/NAME.txt`, because a run that can't be opened has no record that could say it.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.finished import done_line, finished
from mlfsic_bench.evaluation.identity import method_version
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.record import RECORD, Record, is_done, read_record
from mlfsic_bench.evaluation.resources import ResourceCache
from mlfsic_bench.files import make_folder, read_limited, write_text
from mlfsic_bench.locks import BusyError, is_held
from mlfsic_bench.paths import exists
from mlfsic_bench.plugins.files import source_hash
from mlfsic_bench.text import exception_text

Log = Callable[[str], None]
Status = Literal["missing", "part", "done", "other version", "unreadable"]
EXPLAINED: dict[Status, str] = {
    "missing": "not begun",
    "part": "begun, will be resumed",
    "done": "done, will be left as it is",
    "other version": "made by another version of the method: use another --out, or delete the "
    "folder",
    "unreadable": "no record that can be read: use another --out, or delete the folder",
}
LONGEST_REASON = 20_000  # bytes of a failure that are read
POLL = 1.0  # seconds between two looks at a run that another process is doing


@dataclass(frozen=True)
class PlannedRun:
    """One run: what is asked for, where it lies, and whose fit it takes over, if anyone's.

    `fitted` is the folder of another run, which is done; its fit is used where it is the same fit.
    """

    plan: RunPlan
    folder: Path
    fitted: Path | None = None


@dataclass(frozen=True)
class Kept:
    """A run that is in an archive: its record, and where its scores or their order are, if kept."""

    record: Record
    place: Path | None


@dataclass
class Done:
    """What became of runs.

    Attributes
    ----------
    finished: folders of the runs that are done.
    failed: folder -> why.
    kept: folder -> the run in an archive, of those that are not here, and of those that are there
        too: a run has one value, also where another processor rounds otherwise.
    opened: what the runs of this process were opened with: splits, data sets, networks.
    """

    finished: set[Path] = field(default_factory=set)
    failed: dict[Path, str] = field(default_factory=dict)
    kept: dict[Path, Kept] = field(default_factory=dict)
    opened: ResourceCache = field(default_factory=ResourceCache)

    def __contains__(self, folder: Path) -> bool:
        """Whether a planned run is done, here or in an archive."""
        return folder in self.finished or folder in self.kept

    def place(self, folder: Path) -> Path | None:
        """Where the result of a planned run is: its folder, or an archive's; None for nowhere."""
        if folder in self.kept:
            return self.kept[folder].place
        return folder if folder in self.finished else None


Launch = Callable[[Sequence[PlannedRun], Done, Log], None]


def in_process(
    runs: Sequence[PlannedRun], done: Done, log: Log, patience: float = math.inf
) -> None:
    """Do these runs one after the other; those that another process is doing come last.

    patience: seconds to wait for each of those; one that takes longer counts as failed.
    """
    later: list[PlannedRun] = []
    for i, run in enumerate(runs, start=1):
        log(f"-- run {i} of {len(runs)}: {run.folder.name}")
        try:
            attempt(run, done, log)
        except BusyError:
            log("another process is doing it; it is looked at again at the end")
            later.append(run)
    for run in later:
        log(f"-- waiting for another process: {run.folder.name}")
        try:
            attempt(run, done, log, patience)
        except BusyError as error:
            done.failed[run.folder] = error.what


def attempt(run: PlannedRun, done: Done, log: Log, patience: float = 0.0) -> None:
    """Do a run, or find it done, and note that; a failure is noted too and stops nothing else.

    Raises BusyError when another process is still doing it after `patience` seconds.
    """
    found = finished(run.plan)
    if found is not None:
        log(done_line(found.folder, found.record["key"], found.record["ended"]))
        done.finished.add(run.folder)
        return
    from mlfsic_bench.evaluation.audit.audit import failure_of
    from mlfsic_bench.evaluation.runner import run_method

    end = time.monotonic() + patience
    free = False
    try:
        while True:
            try:
                run_method(run.plan, log, done.opened, run.fitted)
                break
            except BusyError:
                # the other may have ended in between; twice, and what is busy is something else
                was_free, free = free, not is_held(run.folder)
                if (free and was_free) or time.monotonic() >= end:
                    raise
                while is_held(run.folder) and time.monotonic() < end:
                    time.sleep(POLL)
        failure = failure_of(read_record(run.folder), run.folder)
        if failure is not None:
            raise failure
    except BusyError:
        raise
    except Exception as error:
        # A failing method must not take the other runs with it; its record keeps the message.
        what = error.what if isinstance(error, BenchError) else exception_text(error)
        log(f"FAILED: {error if isinstance(error, BenchError) else what}")
        done.failed[run.folder] = what
        note_failure(run, what)
    else:
        done.finished.add(run.folder)
        note_failure(run, "")


def unique(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """The runs, each folder once, in the order of the first."""
    return list({run.folder: run for run in runs}.values())


def absolute(run: PlannedRun) -> PlannedRun:
    """The run with a folder that means the same to a process with another working folder."""
    folder = run.folder.absolute()
    return replace(run, folder=folder, plan=replace(run.plan, out=folder))


# -- what is there of a run ---------------------------------------------------------------------


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
    if not is_current(run, record):
        return "other version"
    return "done" if is_done(run.folder, record) else "part"


def is_current(run: PlannedRun, record: Record) -> bool:
    """Whether the record is of the version that the run's method has now."""
    from mlfsic_bench.methods.registry import find_method

    method = run.plan.spec
    now = source_hash(method) or str(find_method(method).version)
    return method_version(record.identity) == now


def note_failure(run: PlannedRun, why: str) -> None:
    """Keep why the run failed, for `why_failed`; with an empty `why` forget it."""
    path = _note(run)
    with contextlib.suppress(BenchError, OSError):  # a note that can't be kept stops no run
        if why:
            make_folder(path.parent)
            write_text(path, why.encode("utf-8", "replace").decode() + "\n")
        else:
            path.unlink(missing_ok=True)


def why_failed(run: PlannedRun) -> str:
    """Why the last attempt at the run failed; empty when it did not fail."""
    with contextlib.suppress(BenchError, OSError):
        return read_limited(_note(run), LONGEST_REASON).decode("utf-8", "replace").strip()
    return ""


def _note(run: PlannedRun) -> Path:
    return run.folder.parent.parent / "failed" / f"{run.folder.name}.txt"

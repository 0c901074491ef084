"""What lies in a run's folder already: nothing, a part, the whole run, or something else."""

from __future__ import annotations

from typing import Literal

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import method_version
from mlfsic_bench.evaluation.record import RECORD, is_done, read_record
from mlfsic_bench.experiments.plan import PlannedRun
from mlfsic_bench.methods.files import method_source
from mlfsic_bench.paths import exists

Status = Literal["missing", "part", "done", "other version", "unreadable"]
EXPLAINED: dict[Status, str] = {
    "missing": "not begun",
    "part": "begun, will be resumed",
    "done": "done, will be left as it is",
    "other version": "made by another version of the method: use another --out, or delete the "
    "folder",
    "unreadable": "no record that can be read: use another --out, or delete the folder",
}


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
    if method_version(record.identity) != _version(run.plan.method):
        return "other version"
    return "done" if is_done(run.folder, record) else "part"


def _version(method: str) -> str:
    from mlfsic_bench.methods.registry import find_method

    return method_source(method) or str(find_method(method).version)

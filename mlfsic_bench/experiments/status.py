"""What lies in a run's folder already: nothing, a part, the whole run, or something else."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from mlfsic_bench.errors import BenchError
from mlfsic_bench.experiments.plan import PlannedRun
from mlfsic_bench.harness.code import method_source, package_code
from mlfsic_bench.harness.plan import differences
from mlfsic_bench.harness.record import RECORD, Record, read_record
from mlfsic_bench.harness.resume import is_done
from mlfsic_bench.paths import exists

Status = Literal["missing", "part", "done", "other code", "unreadable"]
EXPLAINED: dict[Status, str] = {
    "missing": "not begun",
    "part": "begun, will be resumed",
    "done": "done, will be left as it is",
    "other code": "made by another state of the code: use another --out, delete the folder, or say "
    "--accept-other-code",
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
    if not same_code(record, run.plan.method):
        return "other code"
    return "done" if is_done(run.folder, record) else "part"


def same_code(record: Record, method: str) -> bool:
    """Whether the package and the method are what they were when the run was made."""
    package, of_method = record.identity.get("package"), record.identity.get("method")
    if not isinstance(package, dict) or not isinstance(of_method, dict):
        return False
    return package.get("code") == package_code() and of_method.get("source") == _source(method)


def differs_in_code_only(folder: Path, wanted: dict[str, object]) -> bool:
    """Whether a finished run lies there whose identity is `wanted` but for the code's hashes."""
    if not exists(folder / RECORD):
        return False
    record = read_record(folder)
    changed = [line.partition(":")[0] for line in differences(record.identity, wanted)]
    code = {"package.code", "package.version", "method.source"}
    return bool(changed) and set(changed) <= code and is_done(folder, record)


@cache
def _source(method: str) -> str:
    from mlfsic_bench.methods.discovery import find_method

    return method_source(method, find_method(method))

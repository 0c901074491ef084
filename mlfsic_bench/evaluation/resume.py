"""What an output folder holds already, and whether a run may go on in it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import differences, meaning
from mlfsic_bench.evaluation.record import RECORD, Record, read_record
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.paths import exists, list_folder

METHOD = "method.pt"
SCORES = "scores.npz"
ANSWERS = "answers.npz"
PARTS = "parts"
CHECKPOINTS = "checkpoints"


def earlier_record(folder: Path, key: str, identity: dict[str, object]) -> Record | None:
    """The record of the same run in this folder, or None when the folder is empty.

    Raises BenchError when the folder holds anything else: another run (the differences are
    named), the begun run of an earlier version, or files of no run at all.
    """
    if not exists(folder / RECORD):
        others = [path.name for path in list_folder(folder)]
        if others:
            raise BenchError(
                f"{folder} holds files that are not a run",
                expected="an empty folder, or the folder of this very run",
                found=", ".join(others[:5]),
                remedy="name another folder with --out",
            )
        return None
    record = read_record(folder)
    if record.key != key:
        changed = differences(meaning(record.identity), identity)
        if not changed and is_done(folder, record):
            return record  # by an earlier version of this package, which made keys otherwise
        raise BenchError(
            f"{folder} holds another run",
            expected=f"the run with key {key[:12]}",
            found=f"key {record.key[:12]}; {'; '.join(changed) or 'begun by another version'}",
            remedy="name another folder with --out, or repeat the options of the run that is there",
        )
    return record


def is_done(folder: Path, record: Record) -> bool:
    """Whether the run succeeded, no audit of it failed, and its files are what the record says.

    Records of earlier versions have no audit. BenchError when a file is a Git LFS pointer.
    """
    sound = record.status == "success" and record.audit_status != "failed"
    return sound and is_scored(folder, record)


def lacks_audit(folder: Path, record: Record, key: str) -> bool:
    """Whether the run could still be audited: what it had learnt is there, under the same key."""
    return record.audit is None and record.key == key and exists(folder / METHOD)


def is_scored(folder: Path, record: Record) -> bool:
    """Whether the run's scores are there, as the record says: all that is left is its audit."""
    if set(record.outputs) != {SCORES, ANSWERS}:
        return False
    with contextlib.suppress(OSError):
        return all(hash_file(folder / name) == value for name, value in record.outputs.items())
    return False

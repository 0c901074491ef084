"""What an output folder holds already, and whether a run may go on in it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from mlfsic_bench.errors import BenchError
from mlfsic_bench.harness.identity import differences, meaning
from mlfsic_bench.harness.record import RECORD, Record, read_record
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
    """Whether the run succeeded and its files still are what the record says.

    BenchError when one of them is a Git LFS pointer.
    """
    if record.status != "success" or set(record.outputs) != {SCORES, ANSWERS}:
        return False
    with contextlib.suppress(OSError):
        return all(hash_file(folder / name) == value for name, value in record.outputs.items())
    return False

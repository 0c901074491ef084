"""The table of bad input: each case prepares a folder and returns the command to run in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from mlfsic_bench.cli.main import main

Prepare = Callable[[Path, pytest.MonkeyPatch], "list[str]"]
SCENES = ["--split", "scenes-12-6-6-v1", "--backbone", "scenes-small", "--episodes", "1"]
# what a run that failed half-way leaves, so that the same command resumes it (docs/running.md)
RUN_LEAVES = ("out", "out/.lock", "out/record.json", "out/method.pt", "out/parts")
# rows extracted before the error stay (docs/features.md)
STORE_LEAVES = ("cache", "cache/*")


@dataclass(frozen=True)
class Case:
    """One kind of bad input.

    Attributes
    ----------
    prepare: makes the input in a folder; returns the command line.
    says: each of these stands in the error.
    leaves: patterns of the paths that may be new afterwards.
    around: what the command runs in, such as a full disk.
    """

    prepare: Prepare
    says: tuple[str, ...]
    leaves: tuple[str, ...]
    around: Callable[[], AbstractContextManager[object]] | None


CASES: dict[str, Case] = {}


def case(
    name: str,
    *says: str,
    leaves: tuple[str, ...] = (),
    around: Callable[[], AbstractContextManager[object]] | None = None,
) -> Callable[[Prepare], Prepare]:
    """Register a case under its name."""

    def register(prepare: Prepare) -> Prepare:
        # pytest's search for doctests imports each file of cases once more
        assert name not in CASES or CASES[name].prepare.__code__ == prepare.__code__, name
        CASES[name] = Case(prepare, says, leaves, around)
        return prepare

    return register


def main_ok(*args: str | Path) -> None:
    """Run a command that must succeed."""
    try:
        main([str(arg) for arg in args])
    except SystemExit as end:
        assert end.code in (0, None), args  # noqa: PT017


def as_file(path: Path, value: object) -> str:
    """Write text as it is, or another value as JSON; the path as text."""
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return str(path)


def shipped(name: str) -> dict[str, Any]:
    """The JSON value of a file that ships with the package."""
    value: dict[str, Any] = json.loads((files("mlfsic_splits") / name).read_text("utf-8"))
    return value


def tree(folder: Path) -> dict[str, str]:
    """Every path below the folder and the hash of what it holds."""
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }

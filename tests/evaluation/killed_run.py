"""A fake run that ends at a line of its log, or before one of its files is in place."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from mlfsic_bench import progress
from mlfsic_bench.evaluation.runner import execute
from tests.fakes.processes import die_at
from tests.fakes.world import Trained, fake_inputs


def log_of(folder: Path) -> Path:
    return folder.with_suffix(".log")


def run_until(folder: Path, end: str | int | None = None, number: int = signal.SIGKILL) -> None:
    """Run, with the log beside the folder; signal `number` at a line, a kill at that many files."""
    progress.SECONDS = 0.0  # a line for every piece of work
    if isinstance(end, int):
        die_at(Path, "replace", end)
    with log_of(folder).open("w", encoding="utf-8") as stream:

        def log(line: str) -> None:
            print(line, file=stream, flush=True)
            if isinstance(end, str) and line.startswith(end):
                os.kill(os.getpid(), number)

        execute(fake_inputs(Trained, episodes=90), folder, log)

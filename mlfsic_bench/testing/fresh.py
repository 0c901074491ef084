"""A fresh process that loads a method's state, adapts and scores: nothing else reaches it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mlfsic_bench.paths import is_file

SECONDS = 120.0


class FreshProcess:
    """A process that makes a method by its name, and runs `state_tests.main`.

    It is started at once, since importing takes time.
    """

    def __init__(self) -> None:
        self._job: dict[str, object] = {}
        self._child = subprocess.Popen(
            command("mlfsic_bench.testing.state_tests"),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def names(self, spec: str, settings: Mapping[str, str], preset: str | None) -> None:
        """Say which method, as `make_method` takes it."""
        self._job = {"spec": spec, "settings": dict(settings), "preset": preset}

    def score(self, state: Path, answers: Path) -> str:
        """What went wrong, or ''; then `answers` holds the scores of the first episode."""
        job = {**self._job, "state": str(state), "answers": str(answers)}
        try:
            self._child.communicate(json.dumps(job).encode() + b"\n", timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self.end()
            return f"no end within {SECONDS:g} s"
        failed = answers.with_suffix(".txt")
        if is_file(failed):
            return failed.read_text(encoding="utf-8", errors="replace")
        code = self._child.returncode
        return "" if is_file(answers) else f"the process ended with {ending(code)} and no scores"

    def end(self) -> None:
        """Let go of the process."""
        self._child.kill()
        self._child.wait()
        if self._child.stdin is not None:
            self._child.stdin.close()


def command(module: str) -> list[str]:
    """The command line of a child that runs `main()` of a module, with this process's path."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; main()"
    return [sys.executable, "-c", code]


def ending(code: int) -> str:
    """How a process ended, in words."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"

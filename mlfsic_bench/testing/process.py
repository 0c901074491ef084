"""`methods check` in a process of its own: whatever ends it early is a failed test.

The command line needs no torch to start it, to show its results, and to keep that all tests passed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.store.manifest import default_cache
from mlfsic_bench.files import read_json
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.paths import is_file
from mlfsic_bench.version import __version__

if TYPE_CHECKING:
    from mlfsic_bench.methods.contract import Method

FOLDER = "checked"
KIND = "mark of passed contract tests"
SHIPPED = ("mlfsic_bench", "mlfsic_baselines")
CHILD = "mlfsic_bench.testing.check"
SECONDS = 120.0  # that loading a state in a fresh process may take
Status = Literal["pass", "fail", "warn", "skip"]


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one contract test.

    Attributes
    ----------
    name, shows: the test, and what it shows.
    status: `pass`, `fail`, `warn` (allowed, and probably not meant), or `skip` (could not be made,
        because of what another test reports).
    explanation: pairs (heading, text); empty when passed.
    """

    name: str
    shows: str
    status: Status
    explanation: tuple[tuple[str, str], ...] = ()


# -- what is known of a method before a run -----------------------------------------------------


def is_shipped(spec: str, method: type[Method]) -> bool:
    """Whether a method is the package's own, which the package's tests check.

    What `spec` takes from a file is not, whatever module its class says it is of.
    """
    from mlfsic_bench.plugins.files import names_a_file

    return not names_a_file(spec) and str(method.__module__).partition(".")[0] in SHIPPED


def note_on_checks(spec: str, method: type[Method]) -> str:
    """A sentence for the record: whether `methods check` passed for this version of the method."""
    try:
        passed = read_json(mark_of(spec, method), kind=KIND)["method"] == method.name
    except (BenchError, KeyError, TypeError):
        passed = False
    found = "has passed" if passed else "has not passed, or was not run,"
    return f"`methods check` {found} for this version of the method"


def mark_of(spec: str, method: type[Method]) -> Path:
    """The file in the user's cache that stands for passed tests of this version of a method."""
    from mlfsic_bench.plugins.files import source_hash

    version = f"{method.__module__}.{method.__qualname__} {method.version}"
    what = [source_hash(spec) or version, __version__]
    return default_cache() / FOLDER / f"{hash_json(what)[:32]}.json"


# -- all tests, in a process of their own -------------------------------------------------------


@dataclass(frozen=True)
class CheckJob:
    """What is checked: as `make_method` takes it; and the seconds of a test."""

    spec: str
    settings: dict[str, str]
    preset: str | None
    timeout_s: float


@dataclass(frozen=True)
class Checked:
    """The name of the method, and the settings it is checked with."""

    name: str
    settings: dict[str, str]


def check_in_process(job: CheckJob) -> Iterator[Checked | CheckResult]:
    """What is checked, then the result of each test as it comes.

    Raises BenchError when the method can't be loaded. Should the process end before all tests
    were made (`os._exit`, a crash), that is the last result, a failure.
    """
    child = subprocess.Popen(_command("main"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    last = "the method was loaded"
    try:
        child.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        child.stdin.close()
        for line in child.stdout:
            message = json.loads(line)
            if "error" in message:
                raise BenchError(**message["error"])
            if "end" in message:
                return
            if "result" not in message:
                yield Checked(**message)
                continue
            result = message["result"]
            last = f"the test `{result['name']}`"
            pairs = tuple((heading, text) for heading, text in result.pop("explanation"))
            yield CheckResult(**result, explanation=pairs)
        yield CheckResult(
            "end",
            "the process lives until all tests are made",
            "fail",
            (
                ("done", f"All tests were run in a process of their own; it ended after {last}."),
                ("expected", "a result for each test"),
                ("came", f"the process ended with {_ending(child.wait())}"),
                ("likely cause", "a call that ends the program, or a crash in a library"),
                ("remedy", "raise an exception instead; look at what the method printed last"),
            ),
        )
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


# -- a method's state, loaded where nothing else of it is ---------------------------------------


class FreshProcess:
    """A process that makes a method by its name, loads a state, adapts and scores.

    It is started at once, since importing takes time.
    """

    def __init__(self) -> None:
        self._job: dict[str, object] = {}
        nothing = subprocess.DEVNULL
        self._child = subprocess.Popen(
            _command("load_and_score"), stdin=subprocess.PIPE, stdout=nothing, stderr=nothing
        )

    def names(self, spec: str, settings: Mapping[str, str], preset: str | None) -> None:
        """Say which method, as `make_method` takes it."""
        self._job = {"spec": spec, "settings": dict(settings), "preset": preset}

    def score(self, state: Path, scores: Path) -> str:
        """What went wrong, or ''; then the file `scores` holds those of the first episode."""
        job = {**self._job, "state": str(state), "scores": str(scores)}
        try:
            self._child.communicate(json.dumps(job).encode() + b"\n", timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self.end()
            return f"no end within {SECONDS:g} s"
        failed = scores.with_suffix(".txt")
        if is_file(failed):
            return failed.read_text(encoding="utf-8", errors="replace")
        how = _ending(self._child.returncode)
        return "" if is_file(scores) else f"the process ended with {how} and no scores"

    def end(self) -> None:
        """Let go of the process."""
        self._child.kill()
        self._child.wait()
        if self._child.stdin is not None:
            self._child.stdin.close()


def _command(function: str) -> list[str]:
    """The command line of a child that runs a function of `check`, with our search path."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from {CHILD} import {function} as f; f()"
    return [sys.executable, "-c", code]


def _ending(code: int) -> str:
    """How a process ended, in words."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"

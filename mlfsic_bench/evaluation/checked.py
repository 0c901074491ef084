"""The contract tests around a run: a few before it starts, and whether all of them have passed.

`methods check` makes them all in a process of its own: whatever ends it early is a failed test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mlfsic_bench import __version__
from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.store.manifest import default_cache
from mlfsic_bench.files import make_folder, read_json, write_json
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.methods.files import method_source
from mlfsic_bench.testing.fresh import FreshProcess, command, ending
from mlfsic_bench.testing.result import CheckResult

if TYPE_CHECKING:
    from mlfsic_bench.evaluation.plan import RunPlan
    from mlfsic_bench.methods.contract import Method

FOLDER = "checked"
KIND = "mark of passed contract tests"
SHIPPED = ("mlfsic_bench", "mlfsic_baselines")


def is_shipped(spec: str, method: type[Method]) -> bool:
    """Whether a method is the package's own, which the package's tests check.

    What `spec` takes from a file is not, whatever module its class says it is of.
    """
    from mlfsic_bench.methods.registry import names_a_file

    return not names_a_file(spec) and str(method.__module__).partition(".")[0] in SHIPPED


def refuse_faulty(plan: RunPlan) -> None:
    """BenchError for a method that fails a contract test which is cheap and decides about its run.

    The settings that it names for the contract tests (`check_settings`) go before the plan's. A
    method that trains and names none is not tested: its training may take hours. Nor is one of the
    package's own.
    """
    from mlfsic_bench.methods.params import small_settings
    from mlfsic_bench.methods.registry import make_method
    from mlfsic_bench.testing.check import first_failure

    method = make_method(plan.method, plan.settings, plan.preset)
    if is_shipped(plan.method, type(method)) or (method.trains and not method.check_settings):
        return
    small = small_settings(type(method), plan.settings, plan.preset, first=True)
    failed = first_failure(lambda: make_method(plan.method, small, plan.preset))
    if failed is None:
        return
    told = dict(failed.explanation)
    raise BenchError(
        f"the method {method.name!r} fails the contract test `{failed.name}`, so it is not run: "
        f"{told['done']}",
        expected=told["expected"],
        found=f"{told['came']}\n{told['traceback']}" if "traceback" in told else told["came"],
        remedy=f"{told['remedy']}; then `mlfsic-bench methods check`",
    )


def mark_passed(spec: str, method: type[Method], settings: Mapping[str, str]) -> None:
    """Remember in the user's cache that this version of a method passed all contract tests."""
    path = _mark(spec, method)
    make_folder(path.parent)
    write_json(path, {"method": method.name, "settings": dict(settings)})


def note_on_checks(spec: str, method: type[Method]) -> str:
    """A sentence for the record: whether `methods check` passed for this version of the method."""
    try:
        passed = read_json(_mark(spec, method), kind=KIND)["method"] == method.name
    except (BenchError, KeyError, TypeError):
        passed = False
    if passed:
        return "`methods check` has passed for this version of the method"
    return "`methods check` has not passed, or was not run, for this version of the method"


def _mark(spec: str, method: type[Method]) -> Path:
    what = [
        method_source(spec) or f"{method.__module__}.{method.__qualname__} {method.version}",
        __version__,
    ]
    return default_cache() / FOLDER / f"{hash_json(what)[:32]}.json"


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
    child = subprocess.Popen(
        command("mlfsic_bench.evaluation.checked"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
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
            if "name" in message:
                yield Checked(**message)
                continue
            result = message["result"]
            last = f"the test `{result['name']}`"
            pairs = tuple((heading, text) for heading, text in result.pop("explanation"))
            yield CheckResult(**result, explanation=pairs)
        how = ending(child.wait())
        yield CheckResult(
            "end",
            "the process lives until all tests are made",
            "fail",
            (
                ("done", f"All tests were run in a process of their own; it ended after {last}."),
                ("expected", "a result for each test"),
                ("came", f"the process ended with {how}"),
                ("likely cause", "a call that ends the program, or a crash in a library"),
                ("remedy", "raise an exception instead; look at what the method printed last"),
            ),
        )
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def main() -> None:
    """Read one job, and write a line of JSON for each message of `check_in_process`."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    job = CheckJob(**json.loads(sys.stdin.readline()))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a method prints is not a message
    # started first, for it imports while this process does
    fresh = FreshProcess()
    try:
        _check(job, fresh, out)
    except BenchError as error:
        kept = {name: getattr(error, name) for name in ("what", "expected", "found", "remedy")}
        _send(out, {"error": kept})
    finally:
        fresh.end()


def _check(job: CheckJob, fresh: FreshProcess, out: IO[str]) -> None:
    from mlfsic_bench.methods.params import small_settings
    from mlfsic_bench.methods.registry import find_method, make_method
    from mlfsic_bench.testing.check import check_method

    method = find_method(job.spec)
    chosen = small_settings(method, job.settings, job.preset)
    make_method(job.spec, chosen, job.preset)
    _send(out, {"name": method.name, "settings": chosen})
    passed = True
    fresh.names(job.spec, chosen, job.preset)
    results = check_method(
        lambda: make_method(job.spec, chosen, job.preset), timeout_s=job.timeout_s, fresh=fresh
    )
    for result in results:
        passed = passed and result.status in ("pass", "warn")
        _send(out, {"result": asdict(result)})
    if passed:
        mark_passed(job.spec, method, chosen)
    _send(out, {"end": True})


def _send(out: IO[str], message: Mapping[str, object]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()

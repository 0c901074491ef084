"""Running the contract tests on a method: `check_method(make)` returns one result a test."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import make_folder, write_json
from mlfsic_bench.methods.contract import Method
from mlfsic_bench.methods.params import small_settings
from mlfsic_bench.methods.registry import find_method, make_method
from mlfsic_bench.plugins.foreign import last_frames
from mlfsic_bench.testing import score_tests, state_tests
from mlfsic_bench.testing.contract import Check, result_of, run_check
from mlfsic_bench.testing.core import Bench
from mlfsic_bench.testing.process import (
    CheckJob,
    CheckResult,
    FreshProcess,
    is_shipped,
    mark_of,
)
from mlfsic_bench.text import exception_text

ALL_CHECKS: tuple[Check, ...] = (*score_tests.CHECKS, *state_tests.CHECKS)
# What an audit of a run would find too, or the run itself; a run makes these before it starts.
BEFORE_A_RUN = tuple(check.name for check in ALL_CHECKS if check.before_a_run)


def check_method(
    make: Callable[[], Method], *, timeout_s: float = 300.0, fresh: FreshProcess | None = None
) -> Iterator[CheckResult]:
    """Run all contract tests on what `make` makes, a fresh instance at each call.

    Each test runs by itself: one that raises is a failure with the last lines of its traceback,
    and the next one runs. A test that takes longer than `timeout_s` seconds is a failure; it
    can't be stopped from outside and would disturb the others, so those are skipped. `fresh` is a
    process that makes the same method; with one the test `fresh-process` is made, too.
    """
    bench: Bench | None = None
    hung = ""
    for check in (*ALL_CHECKS, *(() if fresh is None else (state_tests.FRESH,))):
        if hung:
            yield result_of(check, "skip", because=f"{hung} is still running")
            continue
        bench = bench or Bench(make, fresh)
        results: list[CheckResult] = []
        thread = threading.Thread(
            target=lambda check, bench, into: into.append(run_check(check, bench)),
            args=(check, bench, results),
            name=f"contract test {check.name}",
            daemon=True,  # so that one that hangs does not keep the program from ending
        )
        thread.start()
        thread.join(timeout_s)
        if results:
            yield results[0]
            continue
        hung = check.name
        yield result_of(
            check,
            "fail",
            done="The test was run in a thread of its own.",
            expected=f"an end within {timeout_s:g} s",
            came="none",
            likely_cause="an endless loop, or a fit with many epochs",
            remedy="shorten the fit with --set (e.g. --set epochs=1), or --timeout",
        )


def refuse_faulty(spec: str, settings: Mapping[str, str], preset: str | None) -> None:
    """BenchError for a method that fails a contract test which is cheap and decides about its run.

    The settings that it names for the contract tests (`check_settings`) go before the run's. A
    method that trains and names none is not tested: its training may take hours. Nor is one of the
    package's own.
    """
    method = make_method(spec, settings, preset)
    if is_shipped(spec, type(method)) or (method.trains and not method.check_settings):
        return
    small = small_settings(type(method), settings, preset, first=True)
    bench = Bench(lambda: make_method(spec, small, preset))
    for check in ALL_CHECKS:
        if not check.before_a_run:
            continue
        result = run_check(check, bench)
        if result.status != "fail":
            continue
        told = dict(result.explanation)
        raise BenchError(
            f"the method {method.name!r} fails the contract test `{check.name}`, so it is not "
            f"run: {told['done']}",
            expected=told["expected"],
            found="\n".join(told[name] for name in ("came", "traceback") if name in told),
            remedy=f"{told['remedy']}; then `mlfsic-bench methods check`",
        )


# -- the processes that `process` starts --------------------------------------------------------


def main() -> None:
    """Read one job, and write a line of JSON for each message of `check_in_process`."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    job = CheckJob(**json.loads(sys.stdin.readline()))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a method prints is not a message
    fresh = FreshProcess()  # it imports while the first tests are made
    try:
        for message in _messages(job, fresh):
            out.write(json.dumps(message) + "\n")
            out.flush()
    finally:
        fresh.end()


def _messages(job: CheckJob, fresh: FreshProcess) -> Iterator[Mapping[str, object]]:
    try:
        method = find_method(job.spec)
        chosen = small_settings(method, job.settings, job.preset)
        make_method(job.spec, chosen, job.preset)
        yield {"name": method.name, "settings": chosen}
        fresh.names(job.spec, chosen, job.preset)
        passed = True
        for result in check_method(
            lambda: make_method(job.spec, chosen, job.preset), timeout_s=job.timeout_s, fresh=fresh
        ):
            passed = passed and result.status in ("pass", "warn")
            yield {"result": asdict(result)}
        if passed:
            mark = mark_of(job.spec, method)
            make_folder(mark.parent)
            write_json(mark, {"method": method.name, "settings": dict(chosen)})
        yield {"end": True}
    except BenchError as error:
        names = ("what", "expected", "found", "remedy")
        yield {"error": {name: getattr(error, name) for name in names}}


def load_and_score() -> None:
    """What a `FreshProcess` runs: read one job, write the scores, or what went wrong."""
    line = sys.stdin.readline()
    if not line:
        return
    job = json.loads(line)
    scores = Path(job["scores"])
    try:
        bench = Bench(lambda: make_method(job["spec"], job["settings"], job["preset"]))
        method = bench.make()
        method.load_state(torch.load(job["state"], weights_only=True))
        torch.save(bench.ask(method, bench.support(), bench.query()), scores)
    except BaseException as error:  # `exit` too: the process ends in any case
        ours = isinstance(error, BenchError)
        text = str(error) if ours else f"{exception_text(error)}\n{last_frames(error)}"
        scores.with_suffix(".txt").write_text(text, encoding="utf-8")

"""Running the contract tests on a method: `check_method(make)` returns one result a test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.calls import hint, last_frames
from mlfsic_bench.methods.contract import Method
from mlfsic_bench.methods.surroundings import preserved
from mlfsic_bench.testing import random_tests as check_random
from mlfsic_bench.testing import score_tests as check_scores
from mlfsic_bench.testing import state_tests as check_state
from mlfsic_bench.testing.core import (
    Bench,
    Check,
    CheckFailedError,
    CheckNotMadeError,
    CheckWarningError,
)
from mlfsic_bench.testing.fresh import FreshProcess
from mlfsic_bench.testing.result import CheckResult
from mlfsic_bench.text import exception_text

ALL_CHECKS: tuple[Check, ...] = (
    *check_scores.CHECKS[:2],
    *check_random.CHECKS,
    *check_scores.CHECKS[2:],
    *check_state.CHECKS,
)
# What an audit of a run would find too, or the run itself; a run makes these before it starts.
BEFORE_A_RUN = (
    "scores",
    "decisions",
    "float32",
    "determinism",
    "global-rng",
    "query-order",
    "query-independence",
    "state",
    "save-load",
    "predictors-independent",
    "adapt-order",
    "adapt-all",
)


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
    for check in (*ALL_CHECKS, *(() if fresh is None else (check_state.FRESH,))):
        if hung:
            yield CheckResult(
                check.name, check.shows, "skip", (("because", f"{hung} is still running"),)
            )
            continue
        bench = bench or Bench(make, fresh)
        result = _run_within(check, bench, timeout_s)
        if result is None:
            hung = check.name
            result = CheckResult(
                check.name,
                check.shows,
                "fail",
                (
                    ("done", "The test was run in a thread of its own."),
                    ("expected", f"an end within {timeout_s:g} s"),
                    ("came", "none"),
                    ("likely cause", "an endless loop, or a fit with many epochs"),
                    ("remedy", "shorten the fit with --set (e.g. --set epochs=1), or --timeout"),
                ),
            )
        yield result


def first_failure(make: Callable[[], Method]) -> CheckResult | None:
    """The first of the tests BEFORE_A_RUN that fails; None when all pass. Here, without a limit."""
    bench = Bench(make)
    for check in ALL_CHECKS:
        if check.name in BEFORE_A_RUN:
            result = run_check(check, bench)
            if result.status == "fail":
                return result
    return None


def _run_within(check: Check, bench: Bench, timeout_s: float) -> CheckResult | None:
    """The result, or None when there is none after `timeout_s` seconds."""
    results: list[CheckResult] = []
    thread = threading.Thread(
        target=lambda: results.append(run_check(check, bench)),
        name=f"contract test {check.name}",
        daemon=True,  # so that one that hangs does not keep the program from ending
    )
    thread.start()
    thread.join(timeout_s)
    return results[0] if results else None


def run_check(check: Check, bench: Bench) -> CheckResult:
    """The result of one test, whatever it raises."""
    explanation: tuple[tuple[str, str], ...]
    try:
        with preserved():
            check.run(bench)
    except CheckNotMadeError as reason:
        return CheckResult(check.name, check.shows, "skip", (("because", str(reason)),))
    except CheckFailedError as failed:
        explanation = (
            ("done", failed.done),
            ("expected", failed.expected),
            ("came", failed.came),
            ("likely cause", failed.cause),
            ("remedy", failed.remedy),
        )
        status = "warn" if isinstance(failed, CheckWarningError) else "fail"
        return CheckResult(check.name, check.shows, status, explanation)  # type: ignore[arg-type]
    except BenchError as error:
        explanation = (
            ("done", f"The test `{check.name}` called the method: {error.what}."),
            ("expected", error.expected),
            ("came", error.found),
            ("remedy", error.remedy),
        )
        return CheckResult(check.name, check.shows, "fail", explanation)
    except BaseException as error:  # a thread of its own: Ctrl-C is not raised in here
        explanation = (
            ("done", f"The test `{check.name}` called the method."),
            ("expected", "no exception"),
            ("came", exception_text(error)),
            ("traceback", last_frames(error)),
            ("remedy", hint(error) or f"the line above raised; the test shows that {check.shows}"),
        )
        return CheckResult(check.name, check.shows, "fail", explanation)
    return CheckResult(check.name, check.shows, "pass")

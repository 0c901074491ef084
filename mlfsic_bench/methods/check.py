"""Running the contract tests on a method: `check_method(make)` returns one result a test."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from mlfsic_bench.methods import check_random, check_scores, check_state
from mlfsic_bench.methods.check_core import Bench, Check, CheckFailedError, CheckNotMadeError
from mlfsic_bench.methods.contract import Method

ALL_CHECKS: tuple[Check, ...] = (
    *check_scores.CHECKS[:2],
    *check_random.CHECKS,
    *check_scores.CHECKS[2:],
    *check_state.CHECKS,
)
TRACEBACK_LINES = 6
Status = Literal["pass", "fail", "skip"]


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one contract test.

    Attributes
    ----------
    name, shows: the test, and what it shows.
    status: `pass`, `fail`, or `skip` (could not be made, because of what another test reports).
    explanation: pairs (heading, text); empty when passed.
    """

    name: str
    shows: str
    status: Status
    explanation: tuple[tuple[str, str], ...] = ()


def check_method(make: Callable[[], Method], *, timeout_s: float = 300.0) -> Iterator[CheckResult]:
    """Run all contract tests on what `make` makes, a fresh instance at each call.

    Each test runs by itself: one that raises is a failure with the last lines of its traceback,
    and the next one runs. A test that takes longer than `timeout_s` seconds is a failure; it
    can't be stopped from outside and would disturb the others, so those are skipped.
    """
    bench: Bench | None = None
    hung = ""
    for check in ALL_CHECKS:
        if hung:
            yield CheckResult(
                check.name, check.shows, "skip", (("because", f"{hung} is still running"),)
            )
            continue
        bench = bench or Bench(make)
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


def _run_within(check: Check, bench: Bench, timeout_s: float) -> CheckResult | None:
    """The result, or None when there is none after `timeout_s` seconds."""
    results: list[CheckResult] = []
    thread = threading.Thread(
        target=lambda: results.append(_run(check, bench)),
        name=f"contract test {check.name}",
        daemon=True,  # so that one that hangs does not keep the program from ending
    )
    thread.start()
    thread.join(timeout_s)
    return results[0] if results else None


def _run(check: Check, bench: Bench) -> CheckResult:
    try:
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
        return CheckResult(check.name, check.shows, "fail", explanation)
    except BaseException as error:  # a thread of its own: Ctrl-C is not raised in here
        lines = "".join(traceback.format_exception(error)).strip().splitlines()
        explanation = (
            ("done", f"The test `{check.name}` called the method."),
            ("expected", "no exception"),
            ("came", f"{type(error).__name__}: {error}"),
            ("traceback", "\n".join(lines[-TRACEBACK_LINES:])),
            ("remedy", f"the line above raised; the test shows that {check.shows}"),
        )
        return CheckResult(check.name, check.shows, "fail", explanation)
    return CheckResult(check.name, check.shows, "pass")

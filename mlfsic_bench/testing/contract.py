"""A contract test of a plug-in of any kind: what it is, how it is run, and what comes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mlfsic_bench.errors import BenchError
from mlfsic_bench.plugins.foreign import last_frames
from mlfsic_bench.plugins.surroundings import preserved
from mlfsic_bench.testing.process import CheckResult, Status
from mlfsic_bench.text import exception_text

Test = TypeVar("Test", bound="Callable[[Any], None]")


class CheckFailedError(Exception):
    """A contract test that a plug-in failed, with all that its author needs.

    `explanation` has pairs (heading, text): what the test did, what should have come, what came,
    the likely cause, and what to change.
    """

    status: Status = "fail"

    def __init__(self, done: str, *, expected: str, came: str, cause: str, remedy: str) -> None:
        super().__init__(f"{done} Expected {expected}; {came} came.")
        self.explanation = (
            ("done", done),
            ("expected", expected),
            ("came", came),
            ("likely cause", cause),
            ("remedy", remedy),
        )


class CheckWarningError(CheckFailedError):
    """Something that the contract allows and that is probably not meant."""

    status: Status = "warn"


class CheckNotMadeError(Exception):
    """A contract test that can't be made because of what another test reports."""


@dataclass(frozen=True)
class Check:
    """A contract test: its name, what it shows, the test, whether a run makes it, too.

    The test is given the bench that a plug-in of its kind is tested on.
    """

    name: str
    shows: str
    run: Callable[[Any], None]
    before_a_run: bool = False


class Checks(list[Check]):
    """The contract tests of a module, in their order."""

    def add(self, name: str, shows: str, before_a_run: bool = False) -> Callable[[Test], Test]:
        """Marks a function as a test."""

        def added(run: Test) -> Test:
            self.append(Check(name, shows, run, before_a_run))
            return run

        return added


def run_check(check: Check, bench: object, kind: str = "method") -> CheckResult:
    """The result of one test, whatever it raises; `kind` is what is tested."""
    called = f"The test `{check.name}` called the {kind}"
    try:
        with preserved():
            check.run(bench)
    except CheckNotMadeError as reason:
        return result_of(check, "skip", because=str(reason))
    except CheckFailedError as failed:
        return CheckResult(check.name, check.shows, failed.status, failed.explanation)
    except BenchError as error:
        return result_of(
            check,
            "fail",
            done=f"{called}: {error.what}.",
            expected=error.expected,
            came=error.found,
            remedy=error.remedy,
        )
    except BaseException as error:
        from mlfsic_bench.methods.calls import hint  # imports torch

        in_main = threading.current_thread() is threading.main_thread()
        if isinstance(error, KeyboardInterrupt) and in_main:  # Ctrl-C is not raised elsewhere
            raise
        return result_of(
            check,
            "fail",
            done=f"{called}.",
            expected="no exception",
            came=exception_text(error),
            traceback=last_frames(error),
            remedy=hint(error) or f"the line above raised; the test shows that {check.shows}",
        )
    return result_of(check, "pass")


def result_of(check: Check, status: Status, **explanation: str) -> CheckResult:
    """The result of a test, with what is to be said of it."""
    told = tuple((heading.replace("_", " "), text) for heading, text in explanation.items())
    return CheckResult(check.name, check.shows, status, told)

"""The contract tests around a run: a few before it starts, and whether all of them have passed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlfsic_bench import __version__
from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.manifest import default_cache
from mlfsic_bench.files import read_json, write_json
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.methods.check_result import CheckResult

if TYPE_CHECKING:
    from mlfsic_bench.methods.contract import Method

OWN = ("mlfsic_bench", "mlfsic_baselines")
FOLDER = "checked"
KIND = "mark of passed contract tests"


def is_shipped(method: Method, source: str) -> bool:
    """Whether a method is the package's own, whose tests check it.

    `source` is the hash of its file, empty for a registered method (`identity.method_source`).
    """
    return not source and type(method).__module__.partition(".")[0] in OWN


def refuse_faulty(
    make: Callable[[Mapping[str, str]], Method],
    settings: Mapping[str, str],
    preset: str | None = None,
) -> CheckResult | None:
    """BenchError for a method that fails a contract test which is cheap and decides about its run.

    `make` makes the method under settings and the preset; those it names for the contract tests
    (`check_settings`) go before `settings`. A method that trains and names none is not tested: its
    training may take hours. Returns the failure's result, None in all other cases.
    """
    from mlfsic_bench.methods.check import first_failure
    from mlfsic_bench.methods.params import small_settings

    method = make(settings)
    if method.trains and not method.check_settings:
        return None
    small = small_settings(type(method), settings, preset, first=True)
    failed = first_failure(lambda: make(small))
    if failed is None:
        return None
    told = dict(failed.explanation)
    raise BenchError(
        f"the method {method.name!r} fails the contract test `{failed.name}`, so it is not run: "
        f"{told['done']}",
        expected=told["expected"],
        found=f"{told['came']}\n{told['traceback']}" if "traceback" in told else told["came"],
        remedy=f"{told['remedy']}; then `mlfsic-bench methods check`",
    )


def mark_passed(method: Method, source: str, settings: Mapping[str, str]) -> None:
    """Remember in the user's cache that this version of a method passed all contract tests."""
    code = _code(method, source)
    write_json(_mark(code), {"code": code, "settings": dict(settings)})


def note_on_checks(method: Method, source: str) -> str:
    """A sentence for the record: whether `methods check` passed for this version of the method."""
    passed = False
    try:
        code = _code(method, source)
        passed = read_json(_mark(code), kind=KIND).get("code") == code
    except (BenchError, OSError, AttributeError):
        passed = False
    if passed:
        return "`methods check` has passed for this version of the method"
    return "`methods check` has not passed, or was not run, for this version of the method"


def _code(method: Method, source: str) -> str:
    return source or f"{method.name} version {type(method).version} of {type(method).__module__}"


def _mark(code: str) -> Path:
    key = hash_json({"code": code, "package": __version__})
    return default_cache() / FOLDER / f"{key[:32]}.json"

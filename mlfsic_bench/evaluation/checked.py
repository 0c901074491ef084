"""The contract tests around a run: a few before it starts, and whether all of them have passed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlfsic_bench import __version__
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import method_source
from mlfsic_bench.features.store.manifest import default_cache
from mlfsic_bench.files import make_folder, read_json, write_json
from mlfsic_bench.hashing import hash_json

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

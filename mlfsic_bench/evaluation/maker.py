"""From what a plan says of its method to what makes one: a name, a class, or an object.

What has a name becomes that name, so that a class given from Python and the same class named on the
command line are one run: a registered class by its entry point, a class in a file of its own as
`path/to/file.py:Class`. Any other class, such as one defined in a notebook, is *unversioned*: no
hash can say whether its code has changed, so every run of it is a new one, and none is audited.
"""

from __future__ import annotations

import copy
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.plan import UNVERSIONED, RunPlan, as_settings
from mlfsic_bench.methods.contract import Method
from mlfsic_bench.methods.declared import validate_class, validate_instance, validate_values
from mlfsic_bench.methods.params import build_params
from mlfsic_bench.methods.registry import METHODS, accepted, find_method, make_from, make_method
from mlfsic_bench.paths import is_file
from mlfsic_bench.plugins.files import source_hash


@dataclass(frozen=True)
class Maker:
    """What makes the method of a run.

    Attributes
    ----------
    make: gives a fresh method, equal each time.
    source: hash of the file it is in; empty for a registered method, `unversioned ...` without one.
    spec: what another process makes it by (with `settings`); None where none can.
    settings: parameter -> text, as `--set` takes it.
    """

    make: Callable[[], Method]
    source: str
    spec: str | None
    settings: dict[str, str]


def maker_of(plan: RunPlan) -> Maker:
    """What makes the method that `plan` names, or is given as a class or an object.

    BenchError for what is no method, and for settings or a preset beside an object, which has its
    parameters already.
    """
    given, settings = plan.method, plan.texts
    if isinstance(given, str):
        return _by_name(given, settings, plan.preset)
    if isinstance(given, type):
        kind = validate_class(given, f"the class {given.__qualname__}")
        spec = name_of(kind)
        if spec is not None:
            return _by_name(spec, settings, plan.preset)
        accepted(kind, f"the class {given.__qualname__}")
        return _unversioned(lambda: make_from(kind, settings, plan.preset, kind.name), settings)
    if not isinstance(given, Method):
        raise BenchError(
            "what was given is not a method",
            expected="a name, path/to/file.py:Class, or a Method class or object",
            found=f"a {type(given).__name__}",
            remedy="derive the class from mlfsic_bench.methods.contract.Method (docs/methods.md)",
        )
    if settings or plan.preset is not None:
        raise BenchError(
            f"the method {given.name!r} is an object, which has its parameters already",
            expected="no settings and no preset beside an object",
            found=", ".join(settings) or f"preset {plan.preset!r}",
            remedy="give the class instead, or make the object with these parameters",
        )
    return _of_object(given)


def _of_object(given: Method) -> Maker:
    kind = validate_class(type(given), f"the class {type(given).__qualname__}")
    own = getattr(given, "params", None)
    validate_instance(given, own if isinstance(own, kind.Params) else kind.Params(), kind.name)
    validate_values(given.params, kind.name)
    default = kind.Params().model_dump(mode="json")
    now = given.params.model_dump(mode="json")
    settings = as_settings({name: now[name] for name in now if now[name] != default.get(name)})
    spec = name_of(kind)
    if spec is not None and build_params(kind, settings, None) == given.params:
        return _by_name(spec, settings, None)
    accepted(kind, f"the class {kind.__qualname__}")
    pristine = copy.deepcopy(given)
    return _unversioned(lambda: copy.deepcopy(pristine), settings)


def _by_name(spec: str, settings: dict[str, str], preset: str | None) -> Maker:
    find_method(spec)  # what is wrong with the file is said before its imports are looked for
    return Maker(lambda: make_method(spec, settings, preset), source_hash(spec), spec, settings)


def _unversioned(make: Callable[[], Method], settings: dict[str, str]) -> Maker:
    return Maker(make, f"{UNVERSIONED} {secrets.token_hex(16)}", None, settings)


def name_of(kind: type[Method]) -> str | None:
    """The name another process finds this class by; None where there is none.

    A class of the program that runs (`__main__`) has none: to read that file is to run the program.
    Nor has one inside a package that does not register it: its file can't be read on its own.
    """
    if METHODS.registered().get(kind.name) and METHODS.find(kind.name) is kind:
        return kind.name
    module, file = sys.modules.get(kind.__module__), None
    if module is not None and kind.__module__ != "__main__" and not module.__package__:
        file = getattr(module, "__file__", None)
    if not file or not file.endswith(".py") or not is_file(file):
        return None
    return f"{file}:{kind.__name__}" if getattr(module, kind.__name__, None) is kind else None

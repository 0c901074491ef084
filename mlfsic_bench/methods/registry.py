"""Finding methods: by entry point name, or by `path/to/file.py:Class`, and by nothing else."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.methods.calls import passes, plugin_call, where
from mlfsic_bench.methods.contract import Method, MethodParams
from mlfsic_bench.methods.declared import validate_class, validate_instance
from mlfsic_bench.methods.files import EXAMPLE, class_in_file
from mlfsic_bench.methods.params import build_params
from mlfsic_bench.methods.surroundings import preserved
from mlfsic_bench.text import exception_text, for_terminal

GROUP = "mlfsic_bench.methods"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Listed:
    """One registered method as `methods list` shows it.

    Attributes
    ----------
    name: the entry point's name.
    origin: `module:Class`, with the distribution it came with.
    method: the class, or None when it can't be loaded.
    reason: why it can't be loaded; empty when it can.
    """

    name: str
    origin: str
    method: type[Method] | None
    reason: str


def method_names() -> tuple[str, ...]:
    """The names of all registered methods, sorted, whether they load or not."""
    return tuple(sorted(_registered()))


def list_methods() -> list[Listed]:
    """Every registered method; one that can't be loaded says why and harms no other."""
    rows = []
    for name, points in sorted(_registered().items()):
        origin = ", ".join(_origin(point) for point in points)
        try:
            rows.append(Listed(name, origin, find_method(name), ""))
        except BenchError as error:
            rows.append(Listed(name, origin, None, f"{error.what}: {error.found}"))
    return rows


def names_a_file(spec: str) -> bool:
    """Whether `spec` is taken as `path/to/file.py:Class`, not as a registered name."""
    return ":" in spec or spec.endswith(".py")


def find_method(spec: str) -> type[Method]:
    """The method class that `spec` names.

    Parameters
    ----------
    spec: an entry point name of the group `mlfsic_bench.methods`, or `path/to/file.py:Class`.

    Raises BenchError when there is no such name, file or class, when the file can't be imported
    (the line is shown), when the class is not a complete method, and when it calls itself what
    another method is registered as.
    """
    registered = _registered()
    if names_a_file(spec):
        return _accepted(class_in_file(spec), spec, registered)
    if spec not in registered:
        error = unknown_name("method", spec, registered)
        error.remedy += f" (a method in a file of your own is named {EXAMPLE})"
        raise error
    points = registered[spec]
    if len(points) > 1:
        raise BenchError(
            f"two packages register a method named {spec!r}",
            expected="each name registered once",
            found=", ".join(_origin(point) for point in points),
            remedy=f"uninstall one of them, or name the class as {EXAMPLE}",
        )
    try:
        with preserved():
            loaded: object = points[0].load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise BenchError(
            f"the registered method {spec!r} can't be imported",
            expected=f"{_origin(points[0])} to import",
            found=f"{exception_text(error)}{where(error)}",
            remedy="repair or uninstall the package that registers it",
        ) from error
    return _accepted(loaded, spec, registered)


def make_method(spec: str, settings: Mapping[str, str], preset: str | None) -> Method:
    """A fresh instance of the method `spec` names.

    Parameters
    ----------
    spec: as for `find_method`.
    settings: parameter name -> text, as given by `--set name=value`; they override the preset.
    preset: one of the method's presets, or None for its defaults.

    Raises BenchError for an unknown preset, parameter or value.
    """
    method = find_method(spec)
    params = build_params(method, settings, preset)
    try:
        with preserved():
            made: object = method(params)
    except BaseException as error:
        if passes(error):
            raise
        raise BenchError(
            f"the method {method.name!r} can't be made",
            expected=f"{method.__name__}(params) to return an instance",
            found=f"{exception_text(error)}{where(error)}",
            remedy="repair the class, or choose other parameters",
        ) from error
    if not isinstance(made, method):
        raise BenchError(
            f"the method {method.name!r} can't be made",
            expected=f"{method.__name__}(params) to return an instance",
            found=f"an instance of {type(made).__name__}",
            remedy="leave __new__ alone",
        )
    validate_instance(made, params, spec)
    return made


def complete_method(loaded: object, spec: str) -> type[Method]:
    """`loaded`, when it is a class that fulfils the contract's form; otherwise a BenchError."""
    remedy = "copy a file of baselines/ and change it; see docs/methods.md"
    if not (isinstance(loaded, type) and issubclass(loaded, Method)) or loaded is Method:
        raise BenchError(
            f"{spec} is not a method",
            expected="a subclass of mlfsic_bench.methods.contract.Method",
            found=f"{loaded!r}",
            remedy=remedy,
        )
    if inspect.isabstract(loaded):
        raise BenchError(
            f"{spec} is not complete",
            expected="a class that defines adapt(self, support)",
            found=f"{loaded.__name__} lacks {', '.join(sorted(loaded.__abstractmethods__))}",
            remedy="define what is missing, or name the subclass that does",
        )
    name = getattr(loaded, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BenchError(
            f"{spec} has no usable name",
            expected='a class attribute such as name = "my-method"; up to 64 of A-Z a-z 0-9 . _ -',
            found="no attribute `name`" if name is None else for_terminal(f"name = {name!r}", 80),
            remedy=f"add the attribute to {loaded.__name__}",
        )
    params: object = loaded.Params
    if not (isinstance(params, type) and issubclass(params, MethodParams)):
        raise BenchError(
            f"{spec} has no usable Params",
            expected="a subclass of mlfsic_bench.methods.contract.MethodParams",
            found=f"{params!r}",
            remedy=f"change Params in {loaded.__name__}",
        )
    without = [key for key, info in params.model_fields.items() if info.is_required()]
    if without:
        raise BenchError(
            f"{spec} has parameters without a default",
            expected="a default for every field of Params",
            found=f"no default for {', '.join(without)}",
            remedy=f"give them defaults in {loaded.__name__}.Params",
        )
    validate_class(loaded, spec)
    return loaded


def _accepted(loaded: object, spec: str, registered: Mapping[str, object]) -> type[Method]:
    """`loaded`, complete, and not under another method's name: tables would show it as that one."""
    with plugin_call(spec, "while its class was looked at"):
        method = complete_method(loaded, spec)
    if method.name in registered and method.name != spec:
        raise BenchError(
            f"{spec} calls itself {method.name!r}, which is the name of a registered method",
            expected="a name of its own",
            found=f"name = {method.name!r}",
            remedy=f"change `name` in {method.__name__}, for example to 'my-{method.name}'",
        )
    return method


def _registered() -> dict[str, list[EntryPoint]]:
    """Entry points by name. The same registration found twice on the path counts once."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        same = found.setdefault(point.name, [])
        if all(other.value != point.value for other in same):
            same.append(point)
    return found


def _origin(point: EntryPoint) -> str:
    package = f" of {point.dist.name}" if point.dist is not None else ""
    return f"{point.value}{package}"

"""Finding methods: by entry point name, or by `path/to/file.py:Class`, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.methods.calls import foreign_code, plugin_call
from mlfsic_bench.methods.contract import Method
from mlfsic_bench.methods.declared import validate_class, validate_instance
from mlfsic_bench.methods.files import EXAMPLE, class_in_file
from mlfsic_bench.methods.params import build_params

GROUP = "mlfsic_bench.methods"


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
    with foreign_code(
        f"the registered method {spec!r} can't be imported",
        expected=f"{_origin(points[0])} to import",
        remedy="repair or uninstall the package that registers it",
    ):
        loaded: object = points[0].load()
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
    what, expected = (
        f"the method {method.name!r} can't be made",
        f"{method.__name__}(params) to return an instance",
    )
    remedy = "repair the class, or choose other parameters"
    with foreign_code(what, expected=expected, remedy=remedy, ours_pass=True):
        made: object = method(params)
    if not isinstance(made, method):
        found = f"an instance of {type(made).__name__}"
        raise BenchError(what, expected=expected, found=found, remedy="leave __new__ alone")
    validate_instance(made, params, spec)
    return made


def _accepted(loaded: object, spec: str, registered: Mapping[str, object]) -> type[Method]:
    """`loaded`, complete, and not under another method's name: tables would show it as that one."""
    with plugin_call(spec, "while its class was looked at"):
        method = validate_class(loaded, spec)
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

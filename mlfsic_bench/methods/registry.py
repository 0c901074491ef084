"""Finding methods: by entry point name, or by `path/to/file.py:Class`, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from mlfsic_bench.errors import BenchError
from mlfsic_bench.plugins.doors import Door, Listed

if TYPE_CHECKING:
    from mlfsic_bench.methods.contract import Method


def _is_method(value: object) -> bool:
    from mlfsic_bench.methods.contract import Method

    return isinstance(value, type) and issubclass(value, Method) and value is not Method


METHODS = Door("mlfsic_bench.methods", "method", _is_method)


class Described(Protocol):
    """What lists and captions look at of a method's class, imported or not."""

    needs_embeddings: bool
    uses_embeddings: bool
    needs_text_side: bool
    trains: bool
    adapts_by_gradient: bool
    transductive: bool
    printed: str
    bibtex: str

    @property
    def presets(self) -> Mapping[str, object]:
        """Presets by name; not imported, nothing but their names."""


def method_names() -> tuple[str, ...]:
    """The names of all registered methods, sorted, whether they load or not."""
    return METHODS.names()


def list_methods() -> list[Listed[Described]]:
    """Every registered method; one that can't be loaded says why and harms no other.

    Those of this project are read, not imported; those of others are imported.
    """
    return METHODS.listed(accepted, _read)


def describe_method(name: str) -> Described:
    """The registered method `name`, as `list_methods` has it; BenchError as for `find_method`."""
    place = METHODS.own_place(name)
    return (_read(place) if place else None) or find_method(name)


def _read(place: str) -> Described | None:
    from mlfsic_bench.plugins.source import read_class

    found: Described | None = read_class(place, [*Described.__annotations__, "presets"])
    return found


def find_method(spec: str) -> type[Method]:
    """The method class that `spec` names.

    Parameters
    ----------
    spec: an entry point name of the group `mlfsic_bench.methods`, or `path/to/file.py:Class`.

    Raises BenchError when there is no such name, file or class, when the file can't be imported
    (the line is shown), when the class is not a complete method, and when it calls itself what
    another method is registered as.
    """
    return accepted(METHODS.find(spec), spec)


def make_method(spec: str, settings: Mapping[str, str], preset: str | None) -> Method:
    """A fresh instance of the method `spec` names.

    Parameters
    ----------
    spec: as for `find_method`.
    settings: parameter name -> text, as given by `--set name=value`; they override the preset.
    preset: one of the method's presets, or None for its defaults.

    Raises BenchError for an unknown preset, parameter or value.
    """
    return make_from(find_method(spec), settings, preset, spec)


def make_from(
    method: type[Method], settings: Mapping[str, str], preset: str | None, spec: str
) -> Method:
    """A fresh instance of a class; `settings` and `preset` as for `make_method`."""
    from mlfsic_bench.methods.declared import validate_instance
    from mlfsic_bench.methods.params import build_params
    from mlfsic_bench.plugins.foreign import foreign_code

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


def accepted(loaded: object, spec: str) -> type[Method]:
    """`loaded`, complete, and not under another method's name: tables would show it as that one."""
    from mlfsic_bench.methods.calls import method_call
    from mlfsic_bench.methods.declared import validate_class

    with method_call(spec, "while its class was looked at"):
        method = validate_class(loaded, spec)
    if method.name != spec and method.name in METHODS.names():
        raise BenchError(
            f"{spec} calls itself {method.name!r}, which is the name of a registered method",
            expected="a name of its own",
            found=f"name = {method.name!r}",
            remedy=f"change `name` in {method.__name__}, for example to 'my-{method.name}'",
        )
    return method

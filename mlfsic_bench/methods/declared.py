"""What a method's class says of itself, looked at once: when the class is found, and when made.

Whatever passes here can be recorded, hashed, shown and set from a command line, so that neither
`methods check` nor a run meets it later.
"""

from __future__ import annotations

import enum
import inspect
import json
import math
import re
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.calls import method_call
from mlfsic_bench.methods.contract import Method, MethodParams
from mlfsic_bench.text import for_terminal, is_bibtex

LONGEST_CITATION = 4000  # characters, as in a record
LONGEST_NAME = 200  # characters of the name of a parameter or preset
LARGEST_PARAMS = 65_536  # characters of all parameters as JSON
FLAGS = (
    "needs_embeddings",
    "uses_embeddings",
    "needs_text_side",
    "trains",
    "adapts_by_gradient",
    "transductive",
    "fits_together",
)
RENAMED = {"needs_words": "needs_embeddings", "uses_words": "uses_embeddings"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PLAIN = (bool, int, float, str, type(None))
_KINDS = "bool, int, float, str, None, Literal, an Enum of these, or a list or tuple of these"


def validate_class(loaded: object, spec: str) -> type[Method]:
    """`loaded`, when it is a class that fulfils the contract's form.

    Raises BenchError for the first thing that does not.
    """
    if not (isinstance(loaded, type) and issubclass(loaded, Method)) or loaded is Method:
        raise _refused(
            spec,
            "is not a method",
            "a subclass of mlfsic_bench.methods.contract.Method",
            f"{loaded!r}",
            "copy a file of baselines/ and change it; see docs/methods.md",
        )
    if inspect.isabstract(loaded):
        raise _refused(
            spec,
            "is not complete",
            "a class that defines adapt(self, support)",
            f"{loaded.__name__} lacks {', '.join(sorted(loaded.__abstractmethods__))}",
            "define what is missing, or name the subclass that does",
        )
    _flags(loaded, spec)
    for name, (fits, expected, remedy) in _ATTRIBUTES.items():
        value: object = getattr(loaded, name, None)
        if not fits(value):
            raise _unusable(spec, name, value, expected, remedy)
    _parameters(loaded.Params, spec)
    _presets(loaded, spec)
    if loaded.needs_text_side and not loaded.needs_embeddings:
        raise _refused(
            spec,
            "needs a text side and declares no label embeddings, so it would be given none",
            "needs_embeddings = True beside needs_text_side = True",
            "needs_text_side = True alone",
            "add needs_embeddings = True to the class",
        )
    if loaded.trains and loaded.state is Method.state:
        raise _refused(
            spec,
            "trains, but has no state()",
            "state() and load_state(state) beside trains = True: a run evaluates a fresh "
            "method with what was saved",
            "trains = True without a state of its own",
            "return what fit learns as named tensors ({} where it is the backbone alone)",
        )
    return loaded


def validate_instance(method: Method, params: MethodParams, spec: str) -> None:
    """BenchError when a fresh instance is not one of its class with these parameters."""
    with method_call(spec, "while a fresh instance was looked at"):
        _flags(method, spec)
        kept: object = getattr(method, "params", None)
        if type(kept) is not type(params) or kept != params:
            raise _refused(
                spec,
                "does not keep its parameters",
                "self.params to be the parameters that the constructor was given",
                f"a {type(kept).__name__}" if kept is None or kept != params else "a subclass",
                "call super().__init__(params) in the constructor",
            )
        if method.name != type(method).name:
            raise _refused(
                spec,
                "changes its name",
                f"the name {type(method).name!r} on every instance",
                for_terminal(repr(method.name), 80),
                "leave the name to the class",
            )


def validate_values(params: MethodParams, spec: str) -> None:
    """BenchError when parameters can't be written to a record as they are."""
    with method_call(spec, "while its parameters were read"):
        values: Any = params.model_dump(mode="json", warnings=False)
        bad = [
            name
            for name in type(params).model_fields
            if not (isinstance(values, dict) and name in values and _is_plain(values[name]))
        ]
        if bad:
            raise _refused(
                spec,
                "has parameters that can't be recorded",
                _KINDS + "; numbers finite",
                for_terminal(f"{bad[0]} = {getattr(params, bad[0], None)!r}", 200),
                "change the field's type or value",
            )
        if len(json.dumps(values)) > LARGEST_PARAMS:
            raise _refused(
                spec,
                "has parameters that are too large",
                f"at most {LARGEST_PARAMS:,} characters as JSON",
                f"{len(json.dumps(values)):,}",
                "name a file in the parameter rather than its content",
            )


def _flags(method: type[Method] | Method, spec: str) -> None:
    for old, new in RENAMED.items():
        if hasattr(method, old):
            raise _refused(spec, f"declares {old}", f"{new}, its new name", old, f"write {new}")
    for name in FLAGS:
        value: object = getattr(method, name)
        if type(value) is not bool:
            raise _unusable(spec, name, value, "True or False", "write True or False")


def _is_line(text: object, longest: int = LONGEST_NAME) -> bool:
    return isinstance(text, str) and len(text) <= longest and (not text or text.isprintable())


def _is_bibtex(text: object) -> bool:
    return isinstance(text, str) and len(text) <= LONGEST_CITATION and (not text or is_bibtex(text))


# attribute of a class -> (whether a value fits, what is expected, what to do)
_ATTRIBUTES: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "name": (
        lambda value: isinstance(value, str) and _NAME.fullmatch(value) is not None,
        'a class attribute such as name = "my-method"; up to 64 of A-Z a-z 0-9 . _ -',
        "correct or add the attribute",
    ),
    "Params": (
        lambda value: isinstance(value, type) and issubclass(value, MethodParams),
        "a subclass of mlfsic_bench.methods.contract.MethodParams",
        "change Params on the class",
    ),
    "version": (
        lambda value: type(value) is int and 1 <= value < 1 << 31,
        "a whole number from 1 on",
        "count it up when the scores change",
    ),
    "citation": (
        lambda value: _is_line(value, LONGEST_CITATION),
        f"one line of at most {LONGEST_CITATION:,} printed characters",
        "name the work: authors, title, venue, year",
    ),
    "printed": (
        _is_line,
        f"one line of at most {LONGEST_NAME:,} printed characters",
        "write the name as papers print it, or leave it out",
    ),
    "bibtex": (
        _is_bibtex,
        f"BibTeX entries, @type{{key, ...}}, of at most {LONGEST_CITATION:,} characters, "
        "with no LaTeX command but accents",
        "copy the entry from the page of the work",
    ),
    "__doc__": (
        lambda value: value is None or isinstance(value, str),
        "a docstring that is text, or none",
        "write a docstring under the class line",
    ),
    "presets": (
        lambda value: _is_named(value, _is_values),
        "a dict from names to dicts of parameters",
        "correct presets on the class",
    ),
    "check_settings": (
        lambda value: _is_named(value, lambda text: isinstance(text, str)),
        "a dict from names of parameters to texts, as --set takes them",
        "correct check_settings on the class",
    ),
}


def _parameters(params: type[MethodParams], spec: str) -> None:
    for name, info in params.model_fields.items():
        if info.is_required():
            raise _refused(
                spec,
                "has parameters without a default",
                "a default for every field of Params",
                f"no default for {name}",
                "give it a default in Params",
            )
        if not _is_line(name) or not _is_settable(info.annotation):
            raise _refused(
                spec,
                f"has a parameter {for_terminal(repr(name), 80)} of a type that can't be recorded "
                "or set from a command line",
                _KINDS,
                for_terminal(str(info.annotation), 200),
                "take a str in place of a Path, a list in place of a set",
            )
    defaults = params()
    validate_values(defaults, spec)
    found = ""
    try:
        given = params(**{name: getattr(defaults, name) for name in params.model_fields})
        found = "" if given == defaults else repr(given)
    except ValidationError as error:
        found = str(error)
    if found:
        raise _refused(
            spec,
            "has defaults that its own Params refuse or change",
            "defaults of the types of their fields",
            for_terminal(found, 200),
            "correct the defaults in Params",
        )


def _presets(method: type[Method], spec: str) -> None:
    fields = method.Params.model_fields
    unknown = [key for key in method.check_settings if key not in fields]
    if unknown:
        expected = f"names among {', '.join(fields) or '(none)'}"
        remedy = "correct check_settings on the class"
        raise _unusable(spec, "check_settings", unknown[0], expected, remedy)


def _is_settable(annotation: Any) -> bool:
    origin, options = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return all(isinstance(value, _PLAIN) for value in options)
    if origin in (Union, types.UnionType):
        return all(_is_settable(option) for option in options)
    if origin in (list, tuple):
        return all(option is Ellipsis or _is_settable(option) for option in options)
    if origin is not None and hasattr(annotation, "__metadata__"):  # Annotated, inside a list
        return _is_settable(options[0])
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return all(isinstance(member.value, _PLAIN) for member in annotation)
    return annotation in (*_PLAIN, list, tuple)


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):  # text that is not Unicode can't be written
        return not any("\ud800" <= c <= "\udfff" for c in value)
    return isinstance(value, _PLAIN)


def _is_named(value: object, fits: Callable[[Any], bool]) -> bool:
    """A mapping from printable names to values that fit."""
    return isinstance(value, Mapping) and all(
        key and _is_line(key) and fits(one) for key, one in value.items()
    )


def _is_values(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(key, str)
        and (_is_plain(one) or (isinstance(one, enum.Enum) and _is_plain(one.value)))
        for key, one in value.items()
    )


def _unusable(spec: str, name: str, value: object, expected: str, remedy: str) -> BenchError:
    found = for_terminal(f"{name} = {value!r}", 200)
    if value is None:
        found = f"no attribute `{name}`"
    elif isinstance(value, str) and len(value) > LONGEST_CITATION:
        found = f"{len(value):,} characters"
    what = "docstring" if name == "__doc__" else name
    return _refused(spec, f"has no usable {what}", expected, found, remedy)


def _refused(spec: str, what: str, expected: str, found: str, remedy: str) -> BenchError:
    return BenchError(f"{spec} {what}", expected=expected, found=found, remedy=remedy)

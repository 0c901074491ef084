"""What a method's class says of itself, looked at once: when the class is found, and when made.

Whatever passes here can be recorded, hashed, shown and set from a command line, so that neither
`methods check` nor a run meets it later.
"""

from __future__ import annotations

import enum
import json
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.calls import plugin_call
from mlfsic_bench.methods.contract import Method, MethodParams
from mlfsic_bench.text import for_terminal, is_bibtex

LONGEST_CITATION = 4000  # characters, as in a record
LONGEST_NAME = 200  # characters of the name of a parameter or preset
LARGEST_PARAMS = 65_536  # characters of all parameters as JSON
FLAGS = ("needs_embeddings", "uses_embeddings", "trains", "adapts_by_gradient")
_PLAIN = (bool, int, float, str, type(None))
_KINDS = "bool, int, float, str, None, Literal, an Enum of these, or a list or tuple of these"


def validate_class(method: type[Method], spec: str) -> None:
    """BenchError for the first attribute of the class that is not what the contract says."""
    _flags(method, spec)
    _texts(method, spec)
    _parameters(method.Params, spec)
    _presets(method, spec)
    if method.trains and method.state is Method.state:
        raise _refused(
            spec,
            "trains, but has no state()",
            "state() and load_state(state) beside trains = True: a run evaluates a fresh "
            "method with what was saved",
            "trains = True without a state of its own",
            "return what fit learns as named tensors ({} where it is the backbone alone)",
        )


def validate_instance(method: Method, params: MethodParams, spec: str) -> None:
    """BenchError when a fresh instance is not one of its class with these parameters."""
    with plugin_call(spec, "while a fresh instance was looked at"):
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
    with plugin_call(spec, "while its parameters were read"):
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
    for name in FLAGS:
        value: object = getattr(method, name)
        if type(value) is not bool:
            raise _refused(
                spec,
                f"has no usable {name}",
                f"{name} = True or False",
                for_terminal(repr(value), 80),
                "write True or False",
            )


def _texts(method: type[Method], spec: str) -> None:
    version: object = method.version
    if type(version) is not int or not 1 <= version < 1 << 31:
        raise _refused(
            spec,
            "has no usable version",
            "a whole number from 1 on",
            for_terminal(repr(version), 80),
            "count it up when the scores change",
        )
    citation: object = method.citation
    if not isinstance(citation, str) or not _is_line(citation, LONGEST_CITATION):
        long = isinstance(citation, str) and len(citation) > LONGEST_CITATION
        raise _refused(
            spec,
            "has no usable citation",
            f"one line of at most {LONGEST_CITATION:,} printed characters",
            f"{len(str(citation)):,} characters" if long else for_terminal(repr(citation), 80),
            "name the work: authors, title, venue, year",
        )
    printed: object = method.printed
    if not isinstance(printed, str) or not _is_line(printed, LONGEST_NAME):
        raise _refused(
            spec,
            "has no usable printed name",
            f"one line of at most {LONGEST_NAME:,} printed characters",
            for_terminal(repr(printed), 80),
            "write the name as papers print it, or leave it out",
        )
    bibtex: object = method.bibtex
    wrong = not isinstance(bibtex, str) or len(bibtex) > LONGEST_CITATION
    if wrong or (bibtex and not is_bibtex(str(bibtex))):
        raise _refused(
            spec,
            "has no usable bibtex",
            f"BibTeX entries, @type{{key, ...}}, of at most {LONGEST_CITATION:,} characters, "
            "with no LaTeX command but accents",
            for_terminal(repr(bibtex), 80),
            "copy the entry from the page of the work",
        )
    text: object = method.__doc__
    if text is not None and not isinstance(text, str):
        raise _refused(
            spec,
            "has no usable docstring",
            "text, or none",
            type(text).__name__,
            "write a docstring under the class line",
        )


def _parameters(params: type[MethodParams], spec: str) -> None:
    for name, info in params.model_fields.items():
        if not _is_line(name, LONGEST_NAME) or not _is_settable(info.annotation):
            raise _refused(
                spec,
                f"has a parameter {for_terminal(repr(name), 80)} of a type that can't be recorded "
                "or set from a command line",
                _KINDS,
                for_terminal(str(info.annotation), 200),
                "take a str in place of a Path, a list in place of a set",
            )
    if not any(info.is_required() for info in params.model_fields.values()):
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
    for attribute, nested in (("presets", True), ("check_settings", False)):
        found: object = getattr(method, attribute)
        expected = (
            "a dict from names to dicts of parameters"
            if nested
            else "a dict from names of parameters to texts, as --set takes them"
        )
        if not isinstance(found, Mapping) or not all(
            isinstance(key, str)
            and key
            and _is_line(key, LONGEST_NAME)
            and (_is_values(value) if nested else isinstance(value, str))
            for key, value in found.items()
        ):
            raise _refused(
                spec,
                f"has no usable {attribute}",
                expected,
                for_terminal(repr(found), 200),
                f"correct {attribute} on the class",
            )
    unknown = [key for key in method.check_settings if key not in method.Params.model_fields]
    if unknown:
        raise _refused(
            spec,
            "has no usable check_settings",
            f"names among {', '.join(method.Params.model_fields) or '(none)'}",
            for_terminal(repr(unknown[0]), 80),
            "correct check_settings on the class",
        )


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


def _is_values(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(key, str)
        and (_is_plain(one) or (isinstance(one, enum.Enum) and _is_plain(one.value)))
        for key, one in value.items()
    )


def _is_line(text: str, longest: int) -> bool:
    return len(text) <= longest and (not text or text.isprintable())


def _refused(spec: str, what: str, expected: str, found: str, remedy: str) -> BenchError:
    return BenchError(f"{spec} {what}", expected=expected, found=found, remedy=remedy)

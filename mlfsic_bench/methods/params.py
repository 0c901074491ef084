"""Parameters of a method: from settings and presets to a checked Params object."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import ValidationError

from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.methods.calls import method_call
from mlfsic_bench.methods.contract import Method, MethodParams
from mlfsic_bench.methods.declared import validate_values

_SIGNS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
    "multipleOf": "a multiple of",
    "minItems": "items >=",
    "maxItems": "items <=",
}


def build_params(
    method: type[Method], settings: Mapping[str, str], preset: str | None
) -> MethodParams:
    """The method's parameters: defaults, overridden by the preset, overridden by the settings.

    Lists are written `a,b,c` or as JSON; a parameter that may be absent takes `none`. Raises
    BenchError for an unknown preset or parameter (naming the nearest) and for a bad value (naming
    the expected type and range).
    """
    fields = method.Params.model_fields
    values: dict[str, Any] = {}
    if preset is not None:
        if preset not in method.presets:
            raise unknown_name(f"preset of {method.name}", preset, method.presets)
        values.update(method.presets[preset])
    for key, text in settings.items():
        if key not in fields:
            raise unknown_name(f"parameter of {method.name}", key, fields)
        values[key] = _value(text, fields[key].annotation)
    refused: ValidationError | None = None
    with method_call(method.name, "while its parameters were made"):
        try:
            params = method.Params(**values)
        except ValidationError as error:
            refused = error
    if refused is not None:
        raise _refused(method, refused, settings, preset) from refused
    validate_values(params, method.name)
    return params


def small_settings(
    method: type[Method], settings: Mapping[str, str], preset: str | None, *, first: bool = False
) -> dict[str, str]:
    """`settings`, and those of the method's `check_settings` that go together with them.

    first: whether they go before `settings` where both name a parameter. Raises BenchError for
    settings that are bad by themselves.
    """
    own = method.check_settings
    chosen = dict(settings)
    build_params(method, chosen, preset)
    if not chosen and preset is None:
        build_params(method, own, None)
    for name, text in own.items():
        if first or name not in settings:
            trial = {**chosen, name: text}
            try:
                build_params(method, trial, preset)
            except BenchError:
                continue
            chosen = trial
    return chosen


def describe_parameter(params: type[MethodParams], name: str) -> str:
    """What a parameter takes, in words: `integer >= 1`, `one of: head, all`, `list of number`."""
    schema = params.model_json_schema()
    return _describe(schema["properties"][name], schema.get("$defs", {}))


def _describe(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return _describe(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return " or ".join(_describe(option, definitions) for option in schema["anyOf"])
    if "allOf" in schema:
        return " and ".join(_describe(option, definitions) for option in schema["allOf"])
    if "enum" in schema:
        return "one of: " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    kind = str(schema.get("type", "value"))
    if kind == "null":
        return "none"
    if kind == "array" and isinstance(schema.get("items"), Mapping):
        kind = f"list of {_describe(schema['items'], definitions)}"
    bounds = [f"{sign} {schema[key]}" for key, sign in _SIGNS.items() if key in schema]
    return " ".join([kind, " and ".join(bounds)]) if bounds else kind


def _value(text: str, annotation: Any) -> Any:
    """`text`, made ready for pydantic, which itself reads numbers, booleans and enums."""
    origin, options = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        if type(None) in options and text.lower() in ("none", "null"):
            return None
        lists = [option for option in options if get_origin(option) in (list, tuple)]
        return _value(text, lists[0]) if lists else text
    if origin in (list, tuple) or annotation in (list, tuple):
        if text.startswith("["):
            try:
                return json.loads(text)
            except ValueError:
                return text  # pydantic then says that a list was expected
        return [item.strip() for item in text.split(",")] if text else []
    return text


def _refused(
    method: type[Method], error: ValidationError, settings: Mapping[str, str], preset: str | None
) -> BenchError:
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    fields = method.Params.model_fields
    if key and key not in fields:  # only a preset gets here: settings were checked before
        return unknown_name(f"parameter in preset {preset!r} of {method.name}", key, fields)
    reason = str(first["msg"]).removeprefix("Value error, ")
    if not key:  # not one value but several together; pydantic's input would be all of them
        return BenchError(
            f"the parameters of {method.name} don't go together",
            expected="values that the method accepts together",
            found=reason,
            remedy=f"see `mlfsic-bench methods show {method.name}`",
        )
    origin = "" if key in settings or preset is None else f" (from preset {preset!r})"
    return BenchError(
        f"bad value for parameter {key!r} of {method.name}",
        expected=("finite " if first["type"] == "finite_number" else "")
        + describe_parameter(method.Params, key),
        found=f"{settings.get(key, first['input'])!r}{origin}: {reason}",
        remedy=f"see `mlfsic-bench methods show {method.name}`",
    )

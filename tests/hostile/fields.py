"""The texts in the schemas of files, and where each stands in a sound value."""

from __future__ import annotations

import importlib
import pathlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

import mlfsic_bench
from mlfsic_bench.schema import FileSchema, models_in

Path = tuple[str | int, ...]


def listed(text: str) -> set[str]:
    """The words of a text."""
    return set(text.split())


def text_fields() -> set[str]:
    """`Model.field` of every text, and `Model.field[key]` of every key that is text."""
    root = pathlib.Path(mlfsic_bench.__file__).parent
    for file in root.rglob("*.py"):
        if "FileSchema" in file.read_text("utf-8"):
            importlib.import_module(".".join(file.relative_to(root.parent).with_suffix("").parts))
    found = set()
    waiting = list(FileSchema.__subclasses__())
    while waiting:
        model = waiting.pop()
        waiting += model.__subclasses__()
        if "[" not in model.__name__:  # a generic model stands for its parametrised ones
            for name, field in model.model_fields.items():
                found |= set(_texts(field.annotation, f"{model.__name__}.{name}"))
    return found


def _texts(annotation: Any, name: str) -> Iterator[str]:
    origin = get_origin(annotation)
    if annotation in (str, Any):
        yield name
    elif origin is Annotated:
        yield from _texts(get_args(annotation)[0], name)
    elif origin is dict:
        keys, values = get_args(annotation)
        yield from (f"{name}[key]" for _ in _texts(keys, name))
        yield from _texts(values, name)
    elif origin is not Literal:
        for inner in get_args(annotation):
            yield from _texts(inner, name)


def places(
    value: Any, annotation: Any, name: str = "", path: Path = ()
) -> Iterator[tuple[str, Path, bool]]:
    """(`Model.field`, path, whether the key itself) of the texts in a value that fits the model.

    Of a list, the first element only.
    """
    models = [m for m in models_in(annotation) if isinstance(value, dict) and _fits(m, value)]
    if models:
        for key, each in value.items():
            field = models[0].model_fields[key]
            inner = f"{models[0].__name__.partition('[')[0]}.{key}"
            if inner.startswith("PerPart."):  # counts as the field that holds it
                inner = name
            yield from places(each, field.annotation, inner, (*path, key))
    elif isinstance(value, dict):
        for key, each in list(value.items())[:1]:
            yield f"{name}[key]", (*path, key), True
            yield from places(each, annotation, name, (*path, key))
    elif isinstance(value, (list, tuple)) and value:
        yield from places(value[0], annotation, name, (*path, 0))
    elif isinstance(value, str):
        yield name, path, False


def _fits(model: type[BaseModel], value: dict[str, Any]) -> bool:
    return set(value) <= set(model.model_fields) and all(
        key in value for key, field in model.model_fields.items() if field.is_required()
    )


def put(value: Any, path: Path, key: bool, new: str) -> None:
    """Set what stands at `path` to `new`, or, with `key`, rename the key there."""
    for step in path[:-1]:
        value = value[step]
    if key:
        value[new] = value.pop(path[-1])
    else:
        value[path[-1]] = new

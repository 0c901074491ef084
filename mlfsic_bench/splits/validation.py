"""A schema error of pydantic as one BenchError that names the key and the nearest known one."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from mlfsic_bench.errors import BenchError, nearest


def schema_error(error: ValidationError, model: type[BaseModel], where: str) -> BenchError:
    """The first thing wrong in `where` (a file's name) with respect to `model`."""
    errors = error.errors(include_url=False, include_context=False)
    unknown = [item for item in errors if item["type"] == "extra_forbidden"]
    first = (unknown or errors)[0]
    location = first["loc"]
    place = ".".join(str(step) for step in location) or "the file"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if first["type"] == "extra_forbidden":
        key = str(location[-1])
        known = sorted(_model_at(model, location[:-1]).model_fields)
        close = nearest(key, known)
        hint = f"did you mean {close!r}?" if close else "remove the key"
        return BenchError(
            f"{where}: unknown key {place!r}{more}",
            expected=f"only the keys {', '.join(known)}",
            found=repr(key),
            remedy=hint,
        )
    if first["type"] == "missing":
        return BenchError(
            f"{where}: the key {place!r} is missing{more}",
            expected="all keys of the schema in docs/splits.md",
            found="no such key",
            remedy="add the key, or make the file with `mlfsic-bench splits build`",
        )
    return BenchError(
        f"{where}: {place} is not valid{more}",
        expected=first["msg"],
        found=_short(first["input"]),
        remedy="correct the value (docs/splits.md), or make the file with `mlfsic-bench splits`",
    )


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    for step in location:
        field = model.model_fields.get(str(step))
        for candidate in _models_in(field.annotation) if field else []:
            model = candidate
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in getattr(annotation, "__args__", ()) for found in _models_in(inner)]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."

"""Reading, checking and writing leaderboard entries, and the JSON Schema they follow."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mlfsic_bench.errors import BenchError, nearest
from mlfsic_bench.files import open_regular, read_json, write_json, write_text
from mlfsic_bench.hashing import canonical_json, hash_file
from mlfsic_bench.paths import files_below, is_folder, resolved
from mlfsic_bench.report.entry import Entry
from mlfsic_bench.report.entry_proof import Reported, RerunVerified

FOLDER = "leaderboard"
SCHEMA_FILE = "entry.schema.json"
LIMIT = 4 << 20  # bytes of an entry; one with 100 labels and 10 seeds takes 60 kB
SCORES_LIMIT = 1 << 30
PAGE = "docs/leaderboard.md"
MADE_BY = "make the entry with `mlfsic-bench submit pack`"


def entry_path(entry: Entry) -> str:
    """Where an entry lies below the results folder."""
    return f"{FOLDER}/{entry.split.id}/{entry.id}.json"


def parse_entry(value: Any, where: str) -> Entry:
    """The JSON value as an Entry; a BenchError naming the key in `where` that is wrong."""
    try:
        return Entry.model_validate_json(canonical_json(value))
    except ValidationError as error:
        raise schema_error(error, Entry, where) from error
    except (ValueError, RecursionError) as error:
        raise BenchError(
            f"{where} holds text that is not Unicode, a number like 1e999, or is nested too deep",
            expected="text that can be written as UTF-8, finite numbers, in a few levels",
            found=str(error),
            remedy="correct the value",
        ) from error


def read_entry(path: Path) -> Entry:
    """The entry in a file, by schema alone; BenchError otherwise."""
    return parse_entry(read_json(path, kind="leaderboard entry", limit=LIMIT), str(path))


def write_entry(entry: Entry, results: Path) -> Path:
    """Write an entry to its place below the results folder, atomically; the path."""
    path = results / entry_path(entry)
    write_json(path, entry.model_dump(mode="json"))
    return path


def read_entries(results: Path) -> list[Entry]:
    """All entries below a results folder, sorted by split and id.

    Each must lie under the name of its split and its own id; BenchError otherwise, and when there
    is no folder `leaderboard`.
    """
    return [read_placed(path) for path in entry_files(results)]


def entry_files(results: Path) -> list[Path]:
    """The files of all entries below a results folder, sorted; BenchError when it has none.

    Files whose names begin with a dot (`.DS_Store`, what a killed writer left) are no entries.
    """
    top = results / FOLDER
    if not is_folder(top):
        raise BenchError(
            f"{results} has no entries",
            expected=f"a folder {FOLDER} in it, with {FOLDER}/<split id>/<entry id>.json",
            found="no such folder",
            remedy="name the results folder: --results DIR",
        )
    found = files_below(top)
    stray = [path for path in found if path.suffix != ".json"]
    if stray:
        raise BenchError(
            f"{stray[0]} is not an entry",
            expected=f"only files <split id>/<entry id>.json in {top}",
            found=stray[0].name,
            remedy="move the file elsewhere",
        )
    return sorted(found, key=lambda path: path.relative_to(top).parts)


def read_placed(path: Path) -> Entry:
    """The entry in a file that must lie under its own split and id."""
    entry = read_entry(path)
    if (path.parent.parent.name, path.parent.name, path.stem) != (FOLDER, entry.split.id, entry.id):
        raise BenchError(
            f"{path} does not lie where its entry belongs",
            expected=entry_path(entry),
            found="/".join(path.parts[-3:]),
            remedy="move the file, or correct `id` and `split.id`",
        )
    return entry


def evidence(results: Path, path: str, sha256: str) -> Path:
    """The file an entry names as evidence; BenchError unless it is there with that hash."""
    place = results / path
    try:
        inside = resolved(place).is_relative_to(resolved(results))
        with open_regular(place) as stream:
            size = os.fstat(stream.fileno()).st_size
        found = hash_file(place) if size <= SCORES_LIMIT else f"more than {SCORES_LIMIT} bytes"
    except OSError as error:
        inside, found = True, error.strerror or str(error)
    if not inside or found != sha256:
        raise BenchError(
            f"{place} is not the file the entry names",
            expected=f"SHA-256 {sha256}",
            found=found if inside else "a link that leads out of the results folder",
            remedy="restore the file, or pack the entry again",
        )
    return place


def check_evidence(entry: Entry, results: Path) -> int:
    """How many files an entry rests on; BenchError unless all are there with their hashes."""
    proof = entry.proof
    if isinstance(proof, Reported):
        return 0
    again = proof.reruns if isinstance(proof, RerunVerified) else []
    named = [
        pair
        for file in (*proof.files, *again)
        for pair in (
            (file.scores, file.scores_sha256),
            (file.answers, file.answers_sha256),
            (file.record, file.record_sha256),
        )
    ]
    known = [(path, sha256) for path, sha256 in named if path is not None and sha256 is not None]
    for path, sha256 in known:
        evidence(results, path, sha256)
    return len(known)


def schema_text() -> str:
    """The JSON Schema of an entry, as shipped in `entry.schema.json`."""
    schema = Entry.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def shipped_schema() -> str:
    """The text of the JSON Schema that ships with the package."""
    return files("mlfsic_bench.report").joinpath(SCHEMA_FILE).read_text(encoding="utf-8")


def write_schema(path: Path) -> None:
    """Write the JSON Schema, atomically."""
    write_text(path, schema_text())


def schema_error(error: ValidationError, model: type[BaseModel], where: str) -> BenchError:
    """The first thing wrong in `where` with respect to `model`.

    Unknown keys come first, because they explain missing ones.
    """
    errors = error.errors(include_url=False, include_context=False)
    unknown = [item for item in errors if item["type"] == "extra_forbidden"]
    first = (unknown or errors)[0]
    place = ".".join(str(step) for step in first["loc"]) or "the file"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = sorted(_model_at(model, first["loc"][:-1]).model_fields)
        close = nearest(str(first["loc"][-1]), known)
        return BenchError(
            f"{where}: unknown key {place!r}{more}",
            expected=f"only the keys {', '.join(known)}",
            found=repr(first["loc"][-1]),
            remedy=f"did you mean {close!r}?" if close else "remove the key",
        )
    if first["type"] == "missing":
        return BenchError(
            f"{where}: the key {place!r} is missing{more}",
            expected=f"all keys of the schema in {PAGE}",
            found="no such key",
            remedy=f"add the key, or {MADE_BY}",
        )
    text = repr(first["input"])
    return BenchError(
        f"{where}: {place} is not valid{more}",
        expected=first["msg"],
        found=text if len(text) <= 200 else text[:197] + "...",
        remedy=f"correct the value ({PAGE}), or {MADE_BY}",
    )


def _model_at(top: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """The model whose keys stand at a place; a tag of a union picks its member."""
    models: list[type[BaseModel]] = [top]
    for step in location:
        tagged = [model for model in models if _tag(model) == step]
        fields = [model.model_fields[step] for model in models if step in model.model_fields]
        if fields:
            models = _models_in(fields[0].annotation) or models
        elif tagged:
            models = tagged
    return models[0]


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    values = get_args(field.annotation) if field else ()
    return str(values[0]) if values else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _models_in(inner)]

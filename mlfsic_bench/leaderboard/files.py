"""Reading, checking and writing leaderboard entries, and the JSON Schema they follow."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular, read_json, write_json, write_text
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.leaderboard.entry import Entry
from mlfsic_bench.leaderboard.proof import Reported, RerunVerified
from mlfsic_bench.paths import files_below, is_folder, resolved
from mlfsic_bench.schema import load

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
    return load(Entry, value, where, page=PAGE, remedy=MADE_BY)


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
    return files("mlfsic_bench.leaderboard").joinpath(SCHEMA_FILE).read_text(encoding="utf-8")


def write_schema(path: Path) -> None:
    """Write the JSON Schema, atomically."""
    write_text(path, schema_text())

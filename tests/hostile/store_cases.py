"""Hostile records of runs, stores of features and histories of trainings."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from tests.hostile.cases import Command, hostile
from tests.hostile.json_files import DEEP, Change, write


def _record(name: str, *says: str, change: Change) -> None:
    @hostile(f"a record with {name}", *says)
    def _case(sound: Path) -> Command:
        shutil.copytree(sound / "run", "run")
        value = json.loads(Path("run/record.json").read_text())
        change(value)
        write(Path("run/record.json"), value)
        return ["table", "run"]


_record("a status it can't have", "status", change=lambda v: v.update(status="SUCCESS"))
_record(
    "outputs that climb", "outputs", change=lambda v: v.update(outputs={"../../etc/passwd": "x"})
)
_record("a grid of text", "features.grid", change=lambda v: v["features"].update(grid=["a", "b"]))
_record("null for everything", "is not valid", change=lambda v: v.update(dict.fromkeys(v)))
_record("another key", "do not belong together", change=lambda v: v.update(key="0" * 64))


def _manifest(name: str, *says: str, change: Change, seal: bool = False) -> None:
    @hostile(f"a store with {name}", *says)
    def _case(sound: Path) -> Command:
        from mlfsic_bench.features.store.manifest import SCHEMA_VERSION
        from mlfsic_bench.hashing import hash_json

        shutil.copytree(sound / "store", "store")
        path = Path("store/manifest.json")
        value = json.loads(path.read_text())
        change(value)
        if seal:
            own = {k: v for k, v in value.items() if k not in ("schema", "key", "layout")}
            value["key"] = hash_json({"schema": SCHEMA_VERSION, **own})
        write(path, value)
        return ["features", "info", "store"]


_manifest("a channel too few", "of its content", change=lambda v: v.update(channels=3))
_manifest("10^30 channels", "store", change=lambda v: v.update(channels=10**30), seal=True)
_manifest(
    "10^30 channels and no image",
    "store",
    seal=True,
    change=lambda v: v.update(channels=10**30) or Path("store/index.jsonl").write_bytes(b""),
)
_manifest(
    "a grid of 2^32", "rows of", change=lambda v: v.update(grid=[1 << 16, 1 << 16]), seal=True
)
_manifest("a lone surrogate", "manifest.json", change=lambda v: v.update(dataset="\ud800"))
_manifest("a list for a name", "manifest.json", change=lambda v: v.update(backbone=[1]), seal=True)
_manifest(
    "a number for a precision", "manifest.json", change=lambda v: v.update(precision=7), seal=True
)
_manifest(
    "a truth value for channels",
    "positive whole numbers",
    change=lambda v: v.update(channels=True),
    seal=True,
)
_manifest("another schema", "schema 2", change=lambda v: v.update(schema=2))
_manifest("true for a schema", "schema True", change=lambda v: v.update(schema=True))


def _index(name: str, *says: str, data: bytes) -> None:
    @hostile(f"an index with {name}", *says)
    def _case(sound: Path) -> Command:
        shutil.copytree(sound / "store", "store")
        Path("store/index.jsonl").write_bytes(data)
        return ["features", "info", "store"]


_index(
    "more rows than data",
    "rows of",
    data=b'{"id": "a", "sha256": "b"}\n'
    + b'{"id": "c", "sha256": "d"}\n' * 0
    + b"".join(b'{"id": "%d", "sha256": "b"}\n' % i for i in range(9)),
)
_index("an image twice", "'a' twice", data=b'{"id": "a", "sha256": "b"}\n' * 2)
_index(
    "the last of 100,000 images twice",
    "twice",
    data=b"".join(b'{"id": "%d", "sha256": "a"}\n' % i for i in [*range(100_000), 99_999]),
)
_index("a list in a line", "line 1", data=b"[]\n")
_index("a key too many", "unknown key 'x'", data=b'{"id": "a", "sha256": "b", "x": 1}\n')
_index("a number for an id", "line 1", data=b'{"id": 1, "sha256": "b"}\n')
_index("a doubled key", "line 1", data=b'{"id": "a", "id": "b", "sha256": "b"}\n')
_index("zero bytes", "line 1", data=bytes(100) + b"\n")


@hostile("an index of 8 GB", "index.jsonl")
def _index_size(sound: Path) -> Command:
    shutil.copytree(sound / "store", "store")
    with Path("store/index.jsonl").open("wb") as stream:
        stream.truncate(8 << 30)
    return ["features", "info", "store"]


@hostile("maps that are a pipe", "local.f16")
def _store_pipe(sound: Path) -> Command:
    shutil.copytree(sound / "store", "store")
    Path("store/local.f16").unlink()
    os.mkfifo("store/local.f16")
    return ["features", "info", "store"]


def _history(name: str, *says: str, data: bytes) -> None:
    @hostile(f"a history with {name}", *says)
    def _case(sound: Path) -> Command:
        from mlfsic_bench.training.history import read_history

        Path("history.jsonl").write_bytes(data)
        return lambda: read_history(Path())


_ROW = b'{"step": 1, "loss": %s, "lr": 0.1, "value": null}\n'
_history("text for a loss", "history.jsonl", data=_ROW % b'"high"')
_history("a list for a loss", "history.jsonl", data=_ROW % b"[]")
_history("true for a loss", "loss", data=_ROW % b"true")
_history("a doubled key", "stands twice", data=_ROW % b'1, "loss": 2')
_history("a row too short", "history.jsonl", data=b'{"step": 1}\n')
_history("a list for a row", "history.jsonl", data=b"[]\n")
_history("brackets", "history.jsonl", data=b"[" * DEEP)
_history("bytes that are not UTF-8", "UnicodeDecodeError", data=b"\xff\n")


@hostile("a history that is a pipe", "not a regular file")
def _history_pipe(sound: Path) -> Command:
    from mlfsic_bench.training.history import read_history

    os.mkfifo("history.jsonl")
    return lambda: read_history(Path())


@hostile("a history of 4 GB", "history.jsonl")
def _history_size(sound: Path) -> Command:
    from mlfsic_bench.training.history import read_history

    with Path("history.jsonl").open("wb") as stream:
        stream.truncate(4 << 30)
    return lambda: read_history(Path())

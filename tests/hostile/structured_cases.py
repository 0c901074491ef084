"""Hostile JSON: entries, split files, episodes, runs, records, indices and stores."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fakes.entries import fake_file, fake_value, reported_value
from tests.hostile.cases import Command, hostile
from tests.hostile.sound import SPLIT

DEEP = 100_000
ENTRY = Path("leaderboard/fake-4-3-3-v1/printed.json")
Change = Callable[[dict[str, Any]], object]
Text = str | bytes | Callable[[], str]


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, bytes):
        path.write_bytes(value)
    else:
        path.write_text(value if isinstance(value, str) else json.dumps(value))


# leaderboard entries


def _entry(name: str, *says: str, change: Change | None = None, text: Text = "") -> None:
    @hostile(f"an entry with {name}", *says)
    def _case(sound: Path) -> Command:
        value = reported_value()
        if change:
            change(value)
        _write(ENTRY, (text() if callable(text) else text) or value)
        return ["leaderboard", "check", "--results", "."]


_entry("an id that climbs", "id is not valid", change=lambda v: v.update(id="../../x"))
_entry("another id than its file", "does not lie where", change=lambda v: v.update(id="other"))
_entry(
    "a link that runs",
    "begins with https://",
    change=lambda v: v.update(links=[{"title": "x", "url": "javascript:alert(1)"}]),
)
_entry(
    "a link with a password",
    "begins with https://",
    change=lambda v: v.update(links=[{"title": "x", "url": "https://a:b@example.org"}]),
)
_entry(
    "a link with a line end",
    "begins with https://",
    change=lambda v: v.update(links=[{"title": "x", "url": "https://example.org/\n"}]),
)
_entry(
    "a link no one can parse",
    "links.0.url",
    change=lambda v: v.update(links=[{"title": "x", "url": "https://[::1"}]),
)
_entry(
    "a figure above 100",
    "figures.macro_ap.value",
    change=lambda v: v["figures"]["macro_ap"].update(value=101),
)
_entry(
    "a figure beyond float64",
    "Out of range",
    text=json.dumps(reported_value()).replace("33.0", "1e999", 1),
)
_entry(
    "NaN", "NaN is not a JSON number", text=json.dumps(reported_value()).replace("33.0", "NaN", 1)
)
_entry(
    "text for a figure",
    "valid number",
    change=lambda v: v["figures"]["macro_ap"].update(value="33"),
)
_entry(
    "an unknown metric",
    "no metric of this name",
    change=lambda v: v["figures"].update(macro_mood={"value": 1.0}),
)
_entry(
    "an unknown key", "'nmae'", "did you mean 'name'", change=lambda v: v.update(nmae=v.pop("name"))
)
_entry(
    "a name of 10,000 letters", "name is not valid", change=lambda v: v.update(name="x" * 10_000)
)
_entry("a lone surrogate", "not Unicode", change=lambda v: v.update(name="\ud800"))
_entry(
    "a doubled key", "'id' stands twice", text=json.dumps(reported_value())[:-1] + ', "id": "x"}'
)
_entry(
    "deep parameters",
    "RecursionError",
    text=json.dumps(reported_value()).replace('"lr": 0.001', '"lr": ' + "[" * DEEP + "]" * DEEP),
)
_entry(
    "parameters nested as deep as Python parses",
    "recursion limit",
    text=json.dumps(reported_value()).replace('"lr": 0.001', '"lr": ' + "[" * 900 + "]" * 900),
)
_entry(
    "a number of 100,000 digits",
    "digits",
    text=json.dumps(reported_value()).replace("33.0", "9" * 100_000, 1),
)
_entry(
    "a state it can't prove", "with a proof of", change=lambda v: v.update(state="scores verified")
)
_entry("a byte order mark", "BOM", text="\ufeff" + json.dumps(reported_value()))
_entry("bytes that are not UTF-8", "UnicodeDecodeError", text=b"\xff\xfe{}")
_entry("nothing in it", "JSONDecodeError", text=" ")
_entry("a list for an object", "the file is not valid", text="[]")
_entry(
    "a list for everything", "is not valid", text=json.dumps({key: [] for key in reported_value()})
)
_entry("5 MB", "too large", text='{"name": "' + "x" * (5 << 20) + '"}')
_entry(
    "many keys, one of them twice",
    "stands twice",
    text="{" + "".join(f'"{i}":0,' for i in range(200_000)) + '"199999":0}',
)


@hostile("evidence outside the results folder", "leads out of the results folder")
def _link_out(sound: Path) -> Command:
    file = {**fake_file("x"), "scores": "scores/x/scores.npz"}
    value = fake_value("printed", proof={"kind": "scores verified", "files": [file]})
    _write(ENTRY, value)
    Path("scores/x").mkdir(parents=True)
    Path("scores/x/scores.npz").symlink_to(sound / "scores.npz")
    return ["submit", "check", "."]


def _evidence(name: str, *says: str, change: dict[str, Any]) -> None:
    @hostile(name, *says)
    def _case(sound: Path) -> Command:
        file = {**fake_file("x"), **change}
        _write(ENTRY, fake_value("printed", proof={"kind": "scores verified", "files": [file]}))
        return ["submit", "check", str(ENTRY)]


_evidence("evidence by a path that climbs", "proof", change={"scores": "../../etc/passwd"})
_evidence("evidence by an absolute path", "proof", change={"scores": "/etc/passwd"})
_evidence("evidence by a hash that is none", "scores_sha256", change={"scores_sha256": "0"})


@hostile("evidence of 3 GB", "is not the file the entry names", "more than 1073741824")
def _evidence_size(sound: Path) -> Command:
    _write(
        ENTRY, fake_value("printed", proof={"kind": "scores verified", "files": [fake_file("x")]})
    )
    Path("scores/x").mkdir(parents=True)
    with Path("scores/x/scores.npz").open("wb") as stream:
        stream.truncate(3 << 30)
    return ["leaderboard", "check", "--results", "."]


@hostile("evidence that is a pipe", "is not the file the entry names", "not a regular file")
def _evidence_pipe(sound: Path) -> Command:
    _write(
        ENTRY, fake_value("printed", proof={"kind": "scores verified", "files": [fake_file("x")]})
    )
    Path("scores/x").mkdir(parents=True)
    os.mkfifo("scores/x/scores.npz")
    return ["leaderboard", "check", "--results", "."]


@hostile("a program among the entries", "is not an entry")
def _stray(sound: Path) -> Command:
    _write(ENTRY, reported_value())
    ENTRY.with_name("run.sh").write_text("mkdir executed")
    return ["leaderboard", "build", "--results", ".", "--out", "board"]


# split files


def _split(name: str, *says: str, change: Change | None = None, text: Text = "") -> None:
    @hostile(f"a split file with {name}", *says)
    def _case(sound: Path) -> Command:
        value = json.loads((sound / "split.json").read_text())
        if change:
            change(value)
        _write(Path("split.json"), (text() if callable(text) else text) or value)
        return [
            "run",
            "random",
            "--split",
            "split.json",
            "--backbone",
            "scenes-small",
            "--out",
            "out",
        ]


_split(
    "an image id that climbs",
    "images",
    change=lambda v: v["images"]["novel"][0].__setitem__(0, "../../etc/passwd"),
)
_split(
    "an absolute image id",
    "images.novel.0",
    change=lambda v: v["images"]["novel"][0].__setitem__(0, "/etc/passwd"),
)
_split("a dataset that is a path", "dataset", change=lambda v: v.update(dataset="../x"))
_split("an id that is a path", "id is not valid", change=lambda v: v.update(id="../x-v1"))
_split(
    "a target of 10^30",
    "not sorted distinct",
    change=lambda v: v["images"]["novel"][0].__setitem__(1, [10**30]),
)
_split(
    "a negative target",
    "images.novel.0",
    change=lambda v: v["images"]["novel"][0].__setitem__(1, [-1]),
)
_split(
    "truth values for targets",
    "images.novel.0",
    change=lambda v: v["images"]["novel"][0].__setitem__(1, [True]),
)
_split(
    "a label with a line end",
    "labels",
    change=lambda v: v["labels"]["novel"].__setitem__(0, "a\nerror: b"),
)
_split("no label", "labels.novel", change=lambda v: v["labels"].update(novel=[]))
_split("null for everything", "not valid", change=lambda v: v.update(dict.fromkeys(v)))
_split("a version of 10^400", "its version", change=lambda v: v.update(version=10**400))
_split("a lone surrogate", "split.json", change=lambda v: v["provenance"].update(labels="\ud800"))
_split("brackets for images", "RecursionError", text='{"images":' + "[" * DEEP + "]" * DEEP + "}")
_split("a number beyond float64", "version", change=lambda v: v.update(version=1e300))
_split(
    "20 million empty lists",
    "more than 3000000 values",
    text=lambda: "[" + "[]," * 20_000_000 + "[]]",
)
_split(
    "one long text with a wide letter",
    "split.json",
    text=lambda: '{"id": "' + "x" * 66_000_000 + '\U0001f600"}',
)


# episodes and runs


def _episodes(name: str, *says: str, change: Change | None = None, text: Text = "") -> None:
    @hostile(f"episodes with {name}", *says)
    def _case(sound: Path) -> Command:
        value = json.loads((sound / "episodes.json").read_text())
        if change:
            change(value)
        _write(Path("episodes.json"), (text() if callable(text) else text) or value)
        return ["episodes", "show", "episodes.json", "0"]


_episodes(
    "a number for an image",
    "episodes.json",
    change=lambda v: v["episodes"][0]["support"].__setitem__(0, 7),
)
_episodes("none of them", "at least one episode", change=lambda v: v.update(episodes=[], count=0))
_episodes("a count of 10^400", "count 200", change=lambda v: v.update(count=10**400))
_episodes("another part", "part 'val' or 'novel'", change=lambda v: v.update(part=["novel"]))
_episodes(
    "a split id that is a path", "episodes.json", change=lambda v: v.update(split_id="/etc/passwd")
)
_episodes("a lone surrogate", "UTF-8", change=lambda v: v.update(split_id="\ud800"))
_episodes("brackets", "RecursionError", text="[" * DEEP)
_episodes(
    "20 million empty lists",
    "more than 3000000 values",
    text=lambda: "[" + "[]," * 20_000_000 + "[]]",
)
_episodes("another hash", "that of the content", change=lambda v: v.update(hash="0" * 64))


def _runs(name: str, *says: str, change: Change) -> None:
    @hostile(f"runs with {name}", *says)
    def _case(sound: Path) -> Command:
        value = json.loads((sound / "runs.json").read_text())
        change(value)
        _write(Path("runs.json"), value)
        return [
            "run",
            "random",
            "--split",
            SPLIT,
            "--backbone",
            "scenes-small",
            "--episodes-file",
            "runs.json",
            "--out",
            "out",
        ]


_runs("a K of 10^400", "hash", change=lambda v: v.update(shots=10**400))
_runs("a truth value for K", "'shots'", change=lambda v: v.update(shots=True))
_runs(
    "a number beyond float64 for K",
    "'shots'",
    change=lambda v: v.update(shots=float("9e999")) or _finite(v),
)
_runs("a run of nothing", "image ids for each run", change=lambda v: v["runs"].__setitem__(0, []))
_runs("a text for a run", "image ids for each run", change=lambda v: v["runs"].__setitem__(0, "x"))
_runs("an image twice", "twice in 1", change=lambda v: v["runs"][0].append(v["runs"][0][0]))
_runs(
    "a run of 100,000 images",
    "hash",
    change=lambda v: v["runs"].__setitem__(0, [str(i) for i in range(100_000)]),
)


def _finite(value: dict[str, Any]) -> None:
    value["shots"] = 1e300  # JSON has no infinity to write


# records, stores and histories


def _record(name: str, *says: str, change: Change) -> None:
    @hostile(f"a record with {name}", *says)
    def _case(sound: Path) -> Command:
        shutil.copytree(sound / "run", "run")
        value = json.loads(Path("run/record.json").read_text())
        change(value)
        _write(Path("run/record.json"), value)
        return ["table", "run"]


_record("a status it can't have", "status", change=lambda v: v.update(status="SUCCESS"))
_record(
    "outputs that climb", "SHA-256", change=lambda v: v.update(outputs={"../../etc/passwd": "x"})
)
_record("a grid of text", "features.grid", change=lambda v: v["features"].update(grid=["a", "b"]))
_record(
    "null for everything", "is not a valid run record", change=lambda v: v.update(dict.fromkeys(v))
)
_record("another key", "do not belong together", change=lambda v: v.update(key="0" * 64))


def _manifest(name: str, *says: str, change: Change, seal: bool = False) -> None:
    @hostile(f"a store with {name}", *says)
    def _case(sound: Path) -> Command:
        from mlfsic_bench.features.manifest import SCHEMA_VERSION
        from mlfsic_bench.hashing import hash_json

        shutil.copytree(sound / "store", "store")
        path = Path("store/manifest.json")
        value = json.loads(path.read_text())
        change(value)
        if seal:
            own = {k: v for k, v in value.items() if k not in ("schema", "key", "layout")}
            value["key"] = hash_json({"schema": SCHEMA_VERSION, **own})
        _write(path, value)
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
    data=b"".join(b'{"id": "%d", "sha256": ""}\n' % i for i in [*range(100_000), 99_999]),
)
_index("a list in a line", "line 1", data=b"[]\n")
_index("a key too many", "unknown key 'x'", data=b'{"id": "a", "sha256": "b", "x": 1}\n')
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


@hostile("indices of a run that are none", "is not a valid file of indices")
def _indices(sound: Path) -> Command:
    from mlfsic_bench.episodes.published_runs import _checked
    from mlfsic_bench.files import read_json

    _write(
        Path("indices.json"),
        {"format": "mlfsic-bench/coco-indices-v1", "shots": 1, "rns": [[10**30]]},
    )
    return lambda: _checked(read_json(Path("indices.json"), kind="file of indices"), "indices.json")

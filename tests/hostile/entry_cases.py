"""Hostile entries of the leaderboard, and the evidence that they name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.fakes.entries import fake_file, fake_value, reported_value
from tests.hostile.cases import Command, hostile
from tests.hostile.json_files import DEEP, Change, Text, write

ENTRY = Path("leaderboard/fake-4-3-3-v1/printed.json")


def _entry(name: str, *says: str, change: Change | None = None, text: Text = "") -> None:
    @hostile(f"an entry with {name}", *says)
    def _case(sound: Path) -> Command:
        value = reported_value()
        if change:
            change(value)
        write(ENTRY, (text() if callable(text) else text) or value)
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
    "a finite number",
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
_entry("a lone surrogate", "Unicode text", change=lambda v: v.update(name="\ud800"))
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
    write(ENTRY, value)
    Path("scores/x").mkdir(parents=True)
    Path("scores/x/scores.npz").symlink_to(sound / "scores.npz")
    return ["submit", "check", "."]


def _evidence(name: str, *says: str, change: dict[str, Any]) -> None:
    @hostile(name, *says)
    def _case(sound: Path) -> Command:
        file = {**fake_file("x"), **change}
        write(ENTRY, fake_value("printed", proof={"kind": "scores verified", "files": [file]}))
        return ["submit", "check", str(ENTRY)]


_evidence("evidence by a path that climbs", "proof", change={"scores": "../../etc/passwd"})
_evidence("evidence by an absolute path", "proof", change={"scores": "/etc/passwd"})
_evidence("evidence by a hash that is none", "scores_sha256", change={"scores_sha256": "0"})


@hostile("evidence of 3 GB", "is not the file the entry names", "more than 1073741824")
def _evidence_size(sound: Path) -> Command:
    write(
        ENTRY, fake_value("printed", proof={"kind": "scores verified", "files": [fake_file("x")]})
    )
    Path("scores/x").mkdir(parents=True)
    with Path("scores/x/scores.npz").open("wb") as stream:
        stream.truncate(3 << 30)
    return ["leaderboard", "check", "--results", "."]


@hostile("evidence that is a pipe", "is not the file the entry names", "not a regular file")
def _evidence_pipe(sound: Path) -> Command:
    write(
        ENTRY, fake_value("printed", proof={"kind": "scores verified", "files": [fake_file("x")]})
    )
    Path("scores/x").mkdir(parents=True)
    os.mkfifo("scores/x/scores.npz")
    return ["leaderboard", "check", "--results", "."]


@hostile("a program among the entries", "is not an entry")
def _stray(sound: Path) -> Command:
    write(ENTRY, reported_value())
    ENTRY.with_name("run.sh").write_text("mkdir executed")
    return ["leaderboard", "build", "--results", ".", "--out", "board"]

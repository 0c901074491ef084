"""Hostile YAML: experiment files and submission cards."""

from __future__ import annotations

import os
from pathlib import Path

from tests.hostile.cases import Command, hostile
from tests.hostile.sound import CARD, EXPERIMENT

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
TEXTS: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "a billion laughs": (LAUGHS, ("aliases",)),
    "an alias to itself": ("a: &a [*a]\n", ("aliases",)),
    "a tag that calls": ("title: !!python/object/apply:os.mkdir [executed]\n", ("tags such as",)),
    "a tag that imports": ("title: !!python/module:os\n", ("tags such as",)),
    "a local tag": ("title: !own x\n", ("tags such as",)),
    "a truth value that is none": ("title: !!bool maybe\n", ("tags such as",)),
    "a whole number that is none": ("title: !!int ''\n", ("tags such as",)),
    "a time that is none": ("title: !!timestamp noon\n", ("tags such as",)),
    "a mapping that is a list": ("title: !!map [1]\n", ("tags such as",)),
    "a merge key": ("<<: {title: x}\n", ("'<<'",)),
    "a doubled key": ("title: x\ntitle: y\n", ("'title' stands twice",)),
    "a list for a key": ("? [a]\n: b\n", ("a key that is not text",)),
    "a key that means true": ("on: x\n", ("a key that is not text",)),
    "two documents": ("a: b\n--- \nc: d\n", ("single document",)),
    "a zero byte": ("title: \0\n", ("not allowed",)),
    "bytes that are not UTF-8": (b"title: \xff\n", ("can't decode",)),
    "10,000 brackets": ("a: " + "[" * 10_000, ("nested too deep",)),
    "10,000 dashes": ("- " * 10_000, ("nested too deep",)),
    "a megabyte": ("# " + "x" * (1 << 20), ("65536 bytes",)),
    "6,000 unknown keys": ("".join(f"k{i}: 1\n" for i in range(6_000)), ("unknown key",)),
    "a tab": ("title:\n\t- x\n", ("cannot start any token",)),
    "a flow that never ends": ("title: {a: [b, c\n", ("expected",)),
    "nothing": ("", ("valid",)),
    "a lone surrogate": ('title: "\\ud800"\n', ()),
}


def _text(name: str, text: str | bytes, says: tuple[str, ...]) -> None:
    @hostile(f"an experiment with {name}", "own.yaml", *says)
    def _experiment(sound: Path) -> Command:
        Path("own.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["reproduce", "own.yaml", "--dataset", "scenes", "--dry-run"]

    @hostile(f"a card with {name}", "card.yaml", *says)
    def _card(sound: Path) -> Command:
        Path("card.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["submit", "pack", str(sound / "scores.npz"), "--card", "card.yaml", "--out", "out"]


for _name, (_content, _says) in TEXTS.items():
    _text(_name, _content, _says)


def _experiment(name: str, *says: str, old: str, new: str) -> None:
    @hostile(f"an experiment with {name}", *says)
    def _case(sound: Path) -> Command:
        assert old in EXPERIMENT
        Path("own.yaml").write_text(EXPERIMENT.replace(old, new, 1))
        return ["reproduce", "own.yaml", "--dataset", "scenes", "--dry-run"]


_experiment("no episode", "rows.1.episodes", old="episodes: 2", new="episodes: 0")
_experiment(
    "an unknown method", "did you mean 'random'", old="method: random", new="method: randon"
)
_experiment(
    "a method in a file that is not there",
    "nowhere.py",
    old="method: random",
    new="method: nowhere.py:X",
)
_experiment(
    "a method that climbs out of Python", "os:system", old="method: random", new="method: os:system"
)
_experiment(
    "a setting of 5,000 hexadecimal digits",
    "settings.scale",
    old="method: protonet",
    new="method: protonet\n  settings: {scale: 0x" + "f" * 5000 + "}",
)
_experiment(
    "a setting that is infinite",
    "settings.scale",
    old="method: protonet",
    new="method: protonet\n  settings: {scale: .inf}",
)
_experiment("a row name with a comma", "rows.0.name", old="Prototypes\n  m", new="'a,b'\n  m")
_experiment(
    "an unknown table", "nowhere", old="kind: table", new="kind: table\npublished: ../../nowhere"
)


@hostile("an experiment that is a pipe", "not a regular file")
def _pipe(sound: Path) -> Command:
    os.mkfifo("own.yaml")
    return ["reproduce", "own.yaml", "--dataset", "scenes", "--dry-run"]


@hostile("a card that is an endless device", "not a regular file")
def _device(sound: Path) -> Command:
    Path("card.yaml").symlink_to("/dev/zero")
    return ["submit", "pack", str(sound / "scores.npz"), "--card", "card.yaml", "--out", "out"]


def _card(name: str, *says: str, add: str) -> None:
    @hostile(f"a card with {name}", *says)
    def _case(sound: Path) -> Command:
        Path("card.yaml").write_text(CARD + add)
        return ["submit", "pack", str(sound / "scores.npz"), "--card", "card.yaml", "--out", "out"]


_card("an id that climbs", "id: lower-case letters", add="id: ../../x\n")
_card("a link that runs", "https://", add="links: [{title: x, url: 'data:text/html,x'}]\n")
_card("a note of 5,000 letters", "notes.0", add=f"notes: [{'x' * 5000}]\n")
_card("100 notes", "notes", add=f"notes: [{','.join('x' * 100)}]\n")

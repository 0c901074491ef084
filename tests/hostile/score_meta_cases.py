"""Hostile scores files by their description: odd texts and odd values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.cases import Command, hostile
from tests.hostile.npz import FILE, SCORE, archive, header, members, npy, raw_npy

HASH = "0" * 64


def _meta(name: str, *says: str, change: Callable[[str], str]) -> None:
    """A case whose description, JSON text, is changed."""

    @hostile(name, *says)
    def _case(sound: Path) -> Command:
        with np.load(sound / "scores.npz") as file:
            text = str(file["meta"])
        changed = np.frombuffer(change(text).encode("utf-32-le", "surrogatepass"), "<u4")
        head = header(f"<U{len(changed)}", ())
        meta = raw_npy(head, changed.tobytes())
        archive(FILE, {**members(sound / "scores.npz"), "meta.npy": meta})
        return SCORE


def _value(name: str, *says: str, change: Callable[[dict[str, Any]], object]) -> None:
    """A case whose description is changed as a JSON value."""

    def changed(text: str) -> str:
        value = json.loads(text)
        change(value)
        return json.dumps(value)

    _meta(name, *says, change=changed)


_meta("a description with a byte order mark", "BOM", change=lambda text: "\ufeff" + text)
_meta("text after the description", "Extra data", change=lambda text: text + "\U0010ffff")
_meta(
    "a description with a lone surrogate",
    "Unicode text",
    change=lambda text: text.replace("theirs", "the\ud800irs"),
)
_meta(
    "an escaped lone surrogate",
    "Unicode text",
    change=lambda text: text.replace("theirs", "\\ud800"),
)
_meta(
    "NaN in the description",
    "NaN is not a JSON number",
    change=lambda text: text.replace('"depth":3', '"depth":NaN'),
)
_meta(
    "a number beyond float64",
    "a finite number",
    change=lambda text: text.replace('"depth":3', '"depth":1e999'),
)
_meta(
    "a number of 100,000 digits",
    "digits",
    change=lambda text: text.replace('"depth":3', '"depth":' + "9" * 100_000),
)
_meta("a doubled key", "'split' stands twice", change=lambda text: text[:-1] + ',"split":{}}')
_meta("100,000 brackets", "RecursionError", change=lambda text: "[" * 100_000 + "]" * 100_000)
_meta(
    "100,000 objects in a parameter",
    "RecursionError",
    change=lambda text: text.replace('"depth":3', '"d":' + '{"a":' * 99_999 + "1" + "}" * 99_999),
)
_meta("an empty description", "JSONDecodeError", change=lambda text: " ")
_meta("a list for a description", "an object", change=lambda text: "[]")
_value(
    "an unknown key",
    "unknown key 'lables'",
    "'labels'",
    change=lambda v: v.update(lables=v.pop("labels")),
)
_value("a foreign kind", "kind", change=lambda v: v.update(kind="mlfsic-bench answers"))
_value("a later version", "schema_version", change=lambda v: v.update(schema_version=2))
_value(
    "no version", "'schema_version' in the description", change=lambda v: v.pop("schema_version")
)
_value(
    "another hash of the split",
    "not the one the scores were made on",
    change=lambda v: v["split"].update(hash=HASH),
)
_value("a hash that is none", "split.hash", change=lambda v: v["split"].update(hash="../../etc"))
_value(
    "another hash of the episodes",
    "the episodes found are not",
    change=lambda v: v["episodes"].update(hash=HASH),
)
_value(
    "a split id that is a path",
    "unknown split in a file",
    "/etc/passwd",
    change=lambda v: v["split"].update(id="/etc/passwd"),
)
_value(
    "a split id with a line end", "split.id", change=lambda v: v["split"].update(id="a\nerror: b")
)
_value(
    "more episodes than the set has",
    "at most the 2 episodes",
    change=lambda v: v["episodes"].update(total=2),
)
_value(
    "a hundred million episodes",
    "episodes.total",
    change=lambda v: v["episodes"].update(total=10**8),
)
_value(
    "a hundred thousand episodes that are not there",
    "at most 10000 episodes",
    change=lambda v: v["episodes"].update(total=10**5, hash=HASH),
)
_value(
    "a label twice", "distinct labels", change=lambda v: v["labels"].__setitem__(0, v["labels"][1])
)
_value("labels in another order", "other columns", change=lambda v: v["labels"].reverse())
_value("text for a seed", "method.seed", change=lambda v: v["method"].update(seed="0"))
_value(
    "a huge K",
    "K = 100000",
    change=lambda v: v["episodes"].update(shots=10**5, protocol="laso_k_shot-v1"),
)


@hostile("a description that is bytes", "one text called `meta`")
def _bytes_meta(sound: Path) -> Command:
    content = members(sound / "scores.npz")
    archive(FILE, {**content, "meta.npy": npy(np.array(b"\xff\xfe{}"))})
    return SCORE


@hostile("a description with code points beyond Unicode", "not Unicode")
def _code_points(sound: Path) -> Command:
    content = members(sound / "scores.npz")
    data = raw_npy(header("<U2", ()), b"\xff\xff\xff\xff{\0\0\0")
    archive(FILE, {**content, "meta.npy": data})
    return SCORE

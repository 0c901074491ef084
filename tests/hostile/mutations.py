"""Hypothesis strategies that damage a sound file: its bytes, or the JSON value in it."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, -(10**30), 1e308, 5e-324, -0.0, 0.5, "", " ",
    "0" * 64, "\ud800", "\x00", "a\nb", "../../etc/passwd", "/dev/zero", "\U0001f600", "x" * 5000,
    [], {}, [[]], [None], {"": 0}, [1, 2, 3], ["a", "a"], "[" * 50, "NaN", "1e999",
)  # fmt: skip
# written into the text where a value stood, for what Python's own writer does not write
RAW = (
    "NaN",
    "Infinity",
    "1e999",
    "-1e999",
    "9" * 5000,
    "[" * 3000 + "]" * 3000,
    '"\\ud800"',
    "tru",
)
MARK = "\ue000mark\ue000"


def paths(value: Any, place: tuple[Any, ...] = (), most: int = 40) -> list[tuple[Any, ...]]:
    """Places in a JSON value: of long lists only the first, the second and the last entries."""
    found = [place]
    if isinstance(value, dict):
        for key in value:
            found += paths(value[key], (*place, key))
    elif isinstance(value, list) and value:
        for index in sorted({0, min(1, len(value) - 1), len(value) - 1}):
            found += paths(value[index], (*place, index))
    return found[: most * 50]


def _change(draw: st.DrawFn, value: Any) -> Any:
    place = draw(st.sampled_from(paths(value)))
    kind = draw(st.sampled_from(("replace", "delete", "add", "raw", "copy", "swap")))
    if not place:
        return copy.deepcopy(draw(st.sampled_from(ODD)))
    parent = value
    for step in place[:-1]:
        parent = parent[step]
    last = place[-1]
    if kind == "replace":
        parent[last] = copy.deepcopy(draw(st.sampled_from(ODD)))
    elif kind == "delete":
        del parent[last]
    elif kind == "add" and isinstance(parent, dict):
        parent[draw(st.sampled_from(("x", "", "\ud800", "hash", "schema", str(last)[:-1])))] = 0
    elif kind == "add":
        parent.insert(last, copy.deepcopy(draw(st.sampled_from(ODD))))
    elif kind == "raw":
        parent[last] = MARK
    elif kind == "copy":
        other = value
        for step in draw(st.sampled_from(paths(value))):
            other = other[step]
        parent[last] = copy.deepcopy(other)
    elif isinstance(parent, list):
        parent[last], parent[0] = parent[0], parent[last]
    return value


@st.composite
def damaged_json(draw: st.DrawFn, sound: str) -> bytes:
    """The text with one to three places of its value changed; now and then bytes changed too."""
    value = json.loads(sound)
    for _ in range(draw(st.integers(1, 3))):
        if isinstance(value, (dict, list)) and value:
            value = _change(draw, value)
    text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    text = text.replace(json.dumps(MARK), draw(st.sampled_from(RAW)))
    text = text.replace(f'"{MARK}"', draw(st.sampled_from(RAW)))
    data = text.encode("utf-8", "surrogatepass")
    return draw(damaged_bytes(data)) if draw(st.integers(0, 9)) == 0 else data


@st.composite
def damaged_bytes(draw: st.DrawFn, sound: bytes) -> bytes:
    """The bytes with some changed, cut off, doubled, put in or taken out."""
    data = bytearray(sound)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(("flip", "set", "cut", "drop", "insert", "double")))
        if kind == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and data:
            data[at : at + 4] = draw(st.sampled_from((b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff")))
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at : at + draw(st.integers(1, 64))]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=16))
        else:
            data += data[at : at + 4096]
    return bytes(data)

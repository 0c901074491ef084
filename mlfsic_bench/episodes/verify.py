"""Does an episode file regenerate byte for byte, and if not, where does it differ?"""

from __future__ import annotations

import json
from typing import Any

from mlfsic_bench.episodes.files import (
    KEYS,
    LARGEST_COUNT,
    OFFICIAL_COUNTS,
    format_episode_set,
    sample_episode_set,
)
from mlfsic_bench.errors import BenchError
from mlfsic_bench.splits.split import Split


def differences(data: bytes, raw: Any, split: Split, name: str) -> list[str]:
    """What differs between a file's bytes and the episodes drawn anew; empty when nothing does.

    Parameters
    ----------
    data: the file's bytes.
    raw: their JSON value.
    split: the split the episodes are drawn from.
    name: the file's name, for messages.

    Raises BenchError when the file does not say which part and how many episodes it holds.
    """
    part, count = _part_and_count(raw, name)
    drawn = sample_episode_set(split, part, count)
    expected = format_episode_set(drawn)
    if data == expected:
        return []
    wanted = json.loads(expected)
    lines = [f"unknown key {key!r}" for key in raw if key not in KEYS]
    for key in KEYS:
        if key not in raw:
            lines.append(f"the key {key!r} is missing")
        elif key == "episodes":
            lines += _episode_differences(raw[key], wanted[key])
        elif raw[key] != wanted[key]:
            lines.append(f"{key}: {raw[key]!r} in the file, {wanted[key]!r} regenerated")
    return lines or [_byte_difference(data, expected)]


def _part_and_count(raw: Any, name: str) -> tuple[str, int]:
    if isinstance(raw, dict):
        part, count = raw.get("part"), raw.get("count")
        if part in tuple(OFFICIAL_COUNTS) and type(count) is int and 1 <= count <= LARGEST_COUNT:
            return str(part), count
    raise BenchError(
        f"{name} does not say which episodes it holds",
        expected="an object with 'part' (val or novel) and 'count' (1 or more)",
        found=repr(raw)[:80],
        remedy="make the file anew with `mlfsic-bench episodes sample`",
    )


def _episode_differences(found: Any, wanted: list[Any]) -> list[str]:
    if not isinstance(found, list):
        return [f"episodes: {type(found).__name__} in the file, a list regenerated"]
    lines = []
    if len(found) != len(wanted):
        lines.append(f"episodes: {len(found)} in the file, {len(wanted)} regenerated")
    wrong = [i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b]
    if wrong:
        first = wrong[0]
        lines.append(f"{len(wrong)} episode(s) differ, the first is {first}")
        lines += _first_difference(first, found[first], wanted[first])
    return lines


def _first_difference(i: int, found: Any, wanted: dict[str, list[str]]) -> list[str]:
    for key, ids in wanted.items():
        have = found.get(key) if isinstance(found, dict) else None
        if not isinstance(have, list) or len(have) != len(ids):
            return [f"episode {i} {key}: not a list of {len(ids)} images"]
        for place, (a, b) in enumerate(zip(have, ids, strict=True)):
            if a != b:
                return [f"episode {i} {key} {place}: {a!r} in the file, {b!r} regenerated"]
    return [f"episode {i} has other keys than support and query"]


def _byte_difference(found: bytes, wanted: bytes) -> str:
    pairs = zip(found, wanted, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(found), len(wanted)))
    return f"same content, other bytes: first difference at byte {at} (spacing or order of keys)"

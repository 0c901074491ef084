"""Numbers, truth values and versions of every file are taken as they are, or refused (A5)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlfsic_bench.errors import BenchError
from tests.hostile.kinds import KINDS

# What a method or an identity holds has no types that a schema knows.
UNTYPED = ("parameters", "identity", "settings")


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """(path, value) of all numbers and truth values; of a list, of the first element only."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value[:1])
    for key, each in pairs:
        if key in UNTYPED:
            continue
        if isinstance(each, (dict, list)):
            yield from _leaves(each, (*path, key))
        elif isinstance(each, (bool, int, float)):
            yield (*path, key), each


def _others(path: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    """What must not be taken for the value: equal ones of other types, and none."""
    if path[-1] == "schema_version":
        return True, 1.0, "1", 2, None
    if isinstance(value, bool):
        return int(value), float(value), str(value).lower(), "no"
    if isinstance(value, int) and path[-1] not in ("low", "high", "value", "ap"):
        return True, value + 0.5, str(value), float("inf"), float("nan"), [value]
    return True, str(value), float("inf"), float("nan"), [value]


@pytest.mark.parametrize("kind", KINDS)
def test_a5_no_value_is_taken_for_another(kind: str, here: Path) -> None:
    one = KINDS[kind]
    value = one.value()
    found = 0
    for path, old in _leaves(value):
        for other in _others(path, old):
            changed = copy.deepcopy(value)
            place = changed
            for step in path[:-1]:
                place = place[step]
            place[path[-1]] = other
            one.write(changed)
            try:
                one.read()
            except BenchError:
                found += 1
            else:
                pytest.fail(f"{path}: {other!r} was read for {old!r}")
    assert found or kind == "card"  # which has texts only


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_key_is_named_with_the_nearest(kind: str, here: Path) -> None:
    one = KINDS[kind]
    value = one.value()
    key = next(name for name in ("id", "labels", "kind", "title") if name in value)
    one.write({**value, f"{key}x": value[key]})
    with pytest.raises(BenchError, match=f"unknown key '{key}x'") as error:
        one.read()
    assert f"did you mean {key!r}?" in str(error.value)

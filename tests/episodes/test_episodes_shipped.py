"""The episode files that come with the package: official counts, and the same when drawn anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlfsic_bench.episodes.files import (
    OFFICIAL_COUNTS,
    shipped_episode_set,
    shipped_files,
    shipped_name,
)
from mlfsic_bench.episodes.verify import differences
from mlfsic_bench.splits.resolve import resolve_split

SPLITS = ("scenes-12-6-6-v1", "voc-8-6-6-strict-v1", "voc-8-6-6-v1")


def test_every_complete_split_ships_both_files() -> None:
    expected = [shipped_name(name, part) for name in SPLITS for part in ("novel", "val")]
    assert [path.name for path in shipped_files()] == expected


@pytest.mark.parametrize("path", shipped_files(), ids=lambda path: path.name)
def test_shipped_files_regenerate_byte_for_byte(path: Path) -> None:
    data = path.read_bytes()
    raw = json.loads(data)
    split = resolve_split(raw["split_id"], data_root=None)
    assert differences(data, raw, split, path.name) == []
    episodes = shipped_episode_set(split, raw["part"])
    assert episodes is not None
    assert episodes.hash == raw["hash"]
    assert len(episodes.episodes) == OFFICIAL_COUNTS[raw["part"]]
    assert path.name == shipped_name(split.id, raw["part"])

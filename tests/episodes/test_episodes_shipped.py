"""The episode files that come with the package: official counts, and the same when drawn anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlfsic_bench.episodes.files import find_episodes, read_file, shipped_files, verify_file
from mlfsic_bench.episodes.one_per_label import ONE_PER_LABEL
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.splits.resolve import resolve_split

SPLITS = ("scenes-12-6-6-v1", "voc-8-6-6-strict-v1", "voc-8-6-6-v1")


# Pinned: the bytes of a shipped file never change.
HASHES = {
    "coco-64-16-laso-v1.1-shot-runs.json": "49b6a6e5b1074ebf",
    "coco-64-16-laso-v1.5-shot-runs.json": "fd9643876dd429bd",
    "scenes-12-6-6-v1.novel-episodes.json": "72042ecddb436327",
    "scenes-12-6-6-v1.val-episodes.json": "241c549e1cdc9437",
    "voc-8-6-6-strict-v1.novel-episodes.json": "e24aaaea7a75537d",
    "voc-8-6-6-strict-v1.val-episodes.json": "20be429e696565a7",
    "voc-8-6-6-v1.novel-episodes.json": "e237ac8076999ba0",
    "voc-8-6-6-v1.val-episodes.json": "803ef8483f5f5c65",
}
PER_LABEL = [path for path in shipped_files() if "-shot-" not in path.name]


def test_every_complete_split_ships_both_files() -> None:
    expected = [ONE_PER_LABEL.file_name(name, part) for name in SPLITS for part in ("novel", "val")]
    assert [path.name for path in PER_LABEL] == expected


def test_shipped_files_are_pinned_and_read_back_byte_for_byte() -> None:
    assert {path.name: hash_file(path)[:16] for path in shipped_files()} == HASHES
    for path in shipped_files():
        assert read_file(path).format() == path.read_bytes()


@pytest.mark.parametrize("path", PER_LABEL, ids=lambda path: path.name)
def test_shipped_files_regenerate_byte_for_byte(path: Path) -> None:
    content = read_file(path)
    split = resolve_split(content.split_id, data_root=None)
    assert verify_file(path, split).said == "regenerates byte for byte"
    episodes = find_episodes(ONE_PER_LABEL, split, content.part)
    assert episodes.hash == json.loads(path.read_bytes())["hash"]
    assert len(episodes.episodes) == ONE_PER_LABEL.counts[content.part]

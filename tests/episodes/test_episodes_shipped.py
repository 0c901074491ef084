"""The episode files that come with the package: official counts, and the same when drawn anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlfsic_bench.episodes.files import find_episodes, read_file, shipped_files, verify_file
from mlfsic_bench.episodes.per_label import ONE_PER_LABEL
from mlfsic_bench.episodes.protocol import find_protocol
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.splits.resolve import resolve_split

SPLITS = ("scenes-12-6-6-v1", "voc-8-6-6-strict-v1", "voc-8-6-6-v1")


# Pinned: the bytes of a shipped file never change.
HASHES = {
    "coco-64-16-laso-v1.1-shot-runs.json": "49b6a6e5b1074ebf",
    "coco-64-16-laso-v1.5-shot-runs.json": "fd9643876dd429bd",
    "coco-64-16-laso-v1.balanced-1-shot-runs.json": "9d26e9e122498ad4",
    "coco-64-16-laso-v1.balanced-5-shot-runs.json": "3c0e1690448439a2",
    "scenes-12-6-6-v1.novel-5-shot-4-query-episodes.json": "d765ad77a6d3d32b",
    "scenes-12-6-6-v1.novel-episodes.json": "72042ecddb436327",
    "scenes-12-6-6-v1.val-5-shot-4-query-episodes.json": "b121e57597a6268b",
    "scenes-12-6-6-v1.val-episodes.json": "241c549e1cdc9437",
    "voc-8-6-6-strict-v1.novel-5-shot-4-query-episodes.json": "c1585bb18a7d10bd",
    "voc-8-6-6-strict-v1.novel-episodes.json": "e24aaaea7a75537d",
    "voc-8-6-6-strict-v1.val-5-shot-4-query-episodes.json": "0e64f4b52397af7c",
    "voc-8-6-6-strict-v1.val-episodes.json": "20be429e696565a7",
    "voc-8-6-6-v1.novel-5-shot-4-query-episodes.json": "32d04dbb3cc29e6b",
    "voc-8-6-6-v1.novel-episodes.json": "e237ac8076999ba0",
    "voc-8-6-6-v1.val-5-shot-4-query-episodes.json": "94f42e77a369e446",
    "voc-8-6-6-v1.val-episodes.json": "803ef8483f5f5c65",
}
PER_LABEL = [path for path in shipped_files() if path.name.endswith("-episodes.json")]
SHIPPED = (ONE_PER_LABEL, find_protocol(shots=5))


def test_every_complete_split_ships_episodes_of_one_and_five_shots() -> None:
    expected = {
        one.file_name(name, part) for one in SHIPPED for name in SPLITS for part in ("novel", "val")
    }
    assert {path.name for path in PER_LABEL} == expected


def test_shipped_files_are_pinned_and_read_back_byte_for_byte() -> None:
    assert {path.name: hash_file(path)[:16] for path in shipped_files()} == HASHES
    for path in shipped_files():
        assert read_file(path).format() == path.read_bytes()


@pytest.mark.parametrize("path", PER_LABEL, ids=lambda path: path.name)
def test_shipped_files_regenerate_byte_for_byte(path: Path) -> None:
    content = read_file(path)
    split = resolve_split(content.split_id, data_root=None)
    assert verify_file(path, split).said == "regenerates byte for byte"
    episodes = find_episodes(content.protocol, split, content.part)
    assert episodes.hash == json.loads(path.read_bytes())["hash"]
    assert len(episodes.episodes) == {"novel": 200, "val": 100}[content.part]

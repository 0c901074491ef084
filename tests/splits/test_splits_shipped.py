import json
import os
import random
from pathlib import Path

import pytest

from mlfsic_bench.data.coco import COCO_CATEGORIES
from mlfsic_bench.data.dataset import PART_NAMES
from mlfsic_bench.data.voc import VOC_LABELS
from mlfsic_bench.errors import BenchError
from mlfsic_bench.splits.build import build_file
from mlfsic_bench.splits.files import content_hash, parse_split, problems, render
from mlfsic_bench.splits.resolve import (
    resolve_split,
    shipped_bytes,
    shipped_file,
    shipped_ids,
    split_file,
)

pytestmark = pytest.mark.slow

VOC_COUNTS = {
    "voc-8-6-6-v1": {"base": 8656, "val": 5654, "novel": 6741},
    "voc-8-6-6-strict-v1": {"base": 8656, "val": 4198, "novel": 4235},
}
VOC_LABEL_COUNTS = {
    "voc-8-6-6-v1": {
        "base": [946, 873, 2098, 1003, 664, 999, 935, 5292],
        "val": [847, 563, 1054, 1107, 773, 1355],
        "novel": [2125, 959, 1739, 996, 1060, 518],
    },
}
COCO_COUNTS = {
    "coco-52-12-16-v1": (26723, 8350, 3949),
    "coco-52-12-16-text-v1": (26723, 8350, 48166),
    "coco-52-12-16-open-v1": (26723, 47329, 48166),
}
ARCHIVED = json.loads((Path(__file__).parents[2] / "results/simulations/chance.json").read_text())
needs_data = pytest.mark.skipif(
    "MLFSIC_DATA" not in os.environ, reason="MLFSIC_DATA names no data root"
)


@pytest.mark.parametrize("split_id", shipped_ids())
def test_every_shipped_file_is_sound_canonical_and_small(split_id):
    content = parse_split(json.loads(shipped_bytes(split_id)), split_id)
    assert problems(content) == []
    assert content.id == split_id
    assert content.hash == content_hash(content)
    assert render(content).encode() == shipped_bytes(split_id)
    assert len(shipped_bytes(split_id)) < 1_000_000


def test_the_shipped_ids():
    assert {*VOC_COUNTS, *COCO_COUNTS} <= set(shipped_ids())


@pytest.mark.parametrize("split_id", VOC_COUNTS)
def test_voc_counts(split_id):
    split = resolve_split(split_id, data_root=None)
    assert {p: len(split.parts[p].image_ids) for p in PART_NAMES} == VOC_COUNTS[split_id]
    assert sorted(split.base.labels + split.val.labels + split.novel.labels) == sorted(VOC_LABELS)
    for part in PART_NAMES:
        counts = split.parts[part].targets.sum(axis=0).tolist()
        if split_id in VOC_LABEL_COUNTS:
            assert counts == VOC_LABEL_COUNTS[split_id][part]
        assert counts == list(shipped_file(split_id).counts.of(part).labels.values())


def test_strict_parts_lie_inside_the_open_ones():
    wide, narrow = (resolve_split(i, data_root=None) for i in VOC_COUNTS)
    assert wide.base.image_ids == narrow.base.image_ids
    for part in PART_NAMES:
        assert set(narrow.parts[part].image_ids) <= set(wide.parts[part].image_ids)


def test_lasos_rule_gives_the_novel_labels():
    """LaSO: number the 80 categories by id; Python's `random`, seeded with 0, draws 64 of them."""
    names = list(COCO_CATEGORIES.values())
    seen = set(random.Random(0).sample(range(80), 64))
    unseen = [names[i] for i in range(80) if i not in seen]
    for split_id in COCO_COUNTS:
        labels = shipped_file(split_id).labels
        assert labels.novel == unseen
        assert sorted(labels.base + labels.val + labels.novel) == sorted(names)
        assert len(labels.val) == 12
        assert labels.base == [name for name in names if name in set(labels.base)]


def test_a_definition_needs_a_data_root(monkeypatch):
    monkeypatch.delenv("MLFSIC_DATA", raising=False)
    with pytest.raises(BenchError, match="needs a data root"):
        resolve_split("coco-52-12-16-v1", data_root=None)


def test_an_unknown_id_gives_the_nearest():
    with pytest.raises(BenchError, match="unknown split") as caught:
        split_file("voc-8-6-6-v2")
    assert "'voc-8-6-6-v1'" in caught.value.remedy


@needs_data
@pytest.mark.parametrize("split_id", VOC_COUNTS)
def test_real_voc_lists_reproduce_the_shipped_bytes(split_id):
    from mlfsic_bench.data.registry import open_dataset

    dataset = open_dataset("voc", Path(os.environ["MLFSIC_DATA"]))
    built = build_file(shipped_file(split_id).definition(), dataset)
    assert render(built).encode() == shipped_bytes(split_id)


@needs_data
def test_real_coco_sample_gives_the_expected_counts():
    from mlfsic_bench.data.registry import open_dataset

    dataset = open_dataset("coco", Path(os.environ["MLFSIC_DATA"]))
    annotations = dataset.annotations()
    assert len(annotations.image_ids) == 82783 + 40504
    assert int((~annotations.shown.any(axis=1)).sum()) == 702 + 367
    for split_id, expected in COCO_COUNTS.items():
        content = build_file(shipped_file(split_id), dataset)
        assert tuple(content.counts.of(part).images for part in PART_NAMES) == expected
        # one annotation for each image and label: not the official files, under the hash of before
        assert content.id == f"{split_id}-unofficial"
        assert content.hash == ARCHIVED[content.id]["split_hash"]
        assert content.differs_from_official == [
            "annotations of train2014: 239,010, officially 604,907",
            "annotations of val2014: 116,592, officially 291,875",
        ]

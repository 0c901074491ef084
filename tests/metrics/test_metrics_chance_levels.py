"""The levels of a random scorer that the pages name are those of the episodes that ship."""

import json

import pytest

from benchmarks.chance_levels import RESULT, level
from mlfsic_bench.metrics.average_precision import expected_random_ap
from mlfsic_bench.metrics.intervals import SMALL_POOL
from mlfsic_bench.splits.resolve import resolve_split, shipped_file

README = RESULT.parents[2] / "README.md"
COCO = ("coco-52-12-16-v1-unofficial", "coco-52-12-16-open-v1-unofficial")
SPLITS_PAGE = README.parent / "docs" / "splits.md"
KEPT = json.loads(RESULT.read_text("utf-8"))


@pytest.mark.parametrize("split_id", ["voc-8-6-6-v1", "voc-8-6-6-strict-v1", "scenes-12-6-6-v1"])
def test_d7_the_level_is_computed_from_the_queries(split_id):
    found, kept = level(resolve_split(split_id, data_root=None)), KEPT[split_id]
    assert found["macro_ap"] == pytest.approx(kept["macro_ap"], abs=1e-3)
    assert found["micro_ap"] == pytest.approx(kept["micro_ap"], abs=1e-3)
    assert found["novel_pools"] == kept["novel_pools"]
    named = ("split_hash", "episodes", "episodes_hash")
    assert [found[key] for key in named] == [kept[key] for key in named]
    labels = len(shipped_file(split_id).labels.novel)
    assert found["macro_ap"] > 100 * expected_random_ap(4, 4 * labels)


def test_d7_the_readme_names_the_level_and_not_the_floor():
    text = README.read_text("utf-8")
    for split_id in (*COCO, "voc-8-6-6-v1"):
        assert f"{KEPT[split_id]['macro_ap']:.1f}" in text
    assert "11.8 on COCO" not in text


def test_the_page_of_the_splits_names_the_pools():
    text = SPLITS_PAGE.read_text("utf-8")
    strict, free, text_rule = (
        KEPT[f"coco-52-12-16-{rule}v1-unofficial"]["novel_pools"] for rule in ("", "open-", "text-")
    )
    assert free == text_rule
    for label, pool in strict.items():
        assert f"| {label} | {pool:,} | {free[label]:,} |" in text
    assert sorted(label for label, pool in strict.items() if pool < SMALL_POOL) == [
        *("backpack", "fork", "frisbee", "keyboard", "snowboard", "spoon")
    ]

"""The split coco-64-16-laso-v1: its labels, no val part, base images of train2014 alone."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.data.coco import COCO_CATEGORIES, Coco
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.parts import select_parts
from mlfsic_bench.splits.audit import audit_split
from mlfsic_bench.splits.build import build_file
from mlfsic_bench.splits.files import (
    SplitFile,
    content_hash,
    parse_split,
    problems,
    read_split,
    to_split,
    write_split,
)
from mlfsic_bench.splits.resolve import resolve_split
from mlfsic_bench.splits.split import Split
from mlfsic_bench.splits.verify import verify_split
from tests.fakes.laso_world import BASE, DEFINITION, NOVEL, SPLIT, laso_root

pytestmark = pytest.mark.slow


def changed(**rule: object) -> SplitFile:
    raw = DEFINITION.model_dump(mode="json")
    raw["rule"] |= rule
    return parse_split(raw | {"hash": None}, "a changed definition")


def test_labels_follow_lasos_rule() -> None:
    names = list(COCO_CATEGORIES.values())
    seen = sorted(random.Random(0).sample(range(80), 64))
    assert [names[i] for i in seen] == BASE
    assert [name for name in names if name not in BASE] == NOVEL
    assert DEFINITION.labels.val == []
    paper = {"cow", "zebra", "person", "toaster"}  # validation labels of the paper's split
    assert paper <= set(BASE)


def test_parts_of_the_built_split(split: Split) -> None:
    assert (split.val.labels, split.val.image_ids) == ((), ())
    assert split.val.targets.shape == (0, 0)
    assert {image[:9] for image in split.base.image_ids} == {"train2014"}
    assert {image.partition("/")[0] for image in split.novel.image_ids} == {"train2014", "val2014"}
    # 3 images each; those that also show a base label are novel ones
    assert len(split.base.image_ids) == 3 * 64
    assert len(split.novel.image_ids) == 2 * 3 * 16
    assert not set(split.base.image_ids) & set(split.novel.image_ids)


def test_images_from_is_what_limits_base(root: Path) -> None:
    everywhere = to_split(build_file(changed(images_from=None), Coco(root)))
    assert len(everywhere.base.image_ids) == 2 * 3 * 64
    folders = {"base": ["train2015"], "val": ["val2014"], "novel": ["val2014"]}
    with pytest.raises(BenchError, match="train2015"):
        to_split(build_file(changed(images_from=folders), Coco(root)))


def test_a_split_without_the_key_is_written_without_it() -> None:
    content = changed(images_from=None)
    assert "images_from" not in content.model_dump(mode="json")["rule"]
    assert content_hash(content) != content_hash(DEFINITION)


@pytest.mark.parametrize("part", ["base", "novel"])
def test_only_val_may_be_empty(part: str) -> None:
    raw = DEFINITION.model_dump(mode="json")
    raw["labels"][part] = []
    with pytest.raises(BenchError, match=f"labels.{part} is not valid"):
        parse_split(raw, "no labels")


def test_written_read_verified_and_audited(root: Path, split: Split, tmp_path: Path) -> None:
    content = build_file(DEFINITION, Coco(root))
    path = tmp_path / "laso.json"
    write_split(content, path)
    assert problems(content) == []
    assert read_split(path).hash == split.hash
    assert verify_split(str(path), root).differences == []
    audit, _ = audit_split(content, Coco(root), full=False)
    assert not audit["leaks"]
    assert audit["images"]["val"] == 0
    assert audit["broken_rule"] == {"base": 0, "val": 0, "novel": 0}


def test_nothing_is_selected(tmp_path: Path) -> None:
    split = to_split(build_file(DEFINITION, Coco(laso_root(tmp_path, per_label=5))))
    selection = select_parts(split)
    assert (selection.val, selection.episodes) == (None, ())
    assert len(selection.base.labels) == 64
    assert "val" not in selection.excluded_labels


def test_show_and_subset(root: Path) -> None:
    shown = CliRunner().invoke(cli, ["splits", "show", SPLIT], catch_exceptions=False).output
    assert "val: no label and no image" in shown
    assert "of train2014\n" in shown
    subset = resolve_split(SPLIT, data_root=root, available_only=True, min_pool=2)
    assert subset.subset is not None
    assert subset.val.labels == ()


@pytest.mark.skipif("MLFSIC_DATA" not in os.environ, reason="MLFSIC_DATA names no data root")
def test_sizes_on_the_real_annotations() -> None:
    split = resolve_split(SPLIT, data_root=None)
    queries = [image for image in split.novel.image_ids if image.startswith("val2014/")]
    assert len(queries) == 15_927
    assert 49_000 < len(split.base.image_ids) < 50_500

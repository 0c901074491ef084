"""COCO's format with any categories, NUS-WIDE and Visual Genome, in their official layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlfsic_bench.data.dataset import Dataset
from mlfsic_bench.data.registry import open_dataset
from mlfsic_bench.errors import BenchError
from tests.datasets.test_datasets_tables import labels_of
from tests.fakes.coco import instances, write_coco
from tests.fakes.jpeg import jpeg
from tests.fakes.nus_wide import CONCEPTS, write_nus_wide
from tests.fakes.visual_genome import write_visual_genome


def birds() -> dict[str, Any]:
    """An annotation file with two categories of its own, in the order of no id."""
    box = {"bbox": [1, 2, 8, 6], "area": 48, "iscrowd": 0}
    return {
        "images": [
            {"id": 7, "file_name": "set/b.png", "height": 12, "width": 16},
            {"id": 3, "file_name": "set/a.JPG"},
        ],
        "categories": [{"id": 9, "name": "blue tit"}, {"id": 2, "name": "robin"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, **box},
            {"id": 2, "image_id": 3, "category_id": 2, **box, "iscrowd": 1},
            {"id": 3, "image_id": 3, "category_id": 9},
        ],
    }


def coco_format(folder: Path, value: Any, root: Path | None = None) -> Dataset:
    path = folder / "birds.json"
    path.write_text(json.dumps(value))
    return open_dataset(str(path), root)


def test_coco_format_with_any_categories(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "b.png").write_bytes(jpeg(1))
    dataset = coco_format(tmp_path, birds())
    found = dataset.annotations()
    assert dataset.name == "birds"
    assert found.labels == ("robin", "blue tit")
    assert found.image_ids == ("set/a", "set/b")
    assert found.present.tolist() == [[False, True], [False, True]]
    assert found.shown.tolist() == [[True, True], [False, True]]
    assert dataset.available(found.image_ids).tolist() == [False, True]
    masks = dataset.masks("set/b")
    assert list(masks) == ["blue tit"]
    assert masks["blue tit"].shape == (12, 16)
    assert int(masks["blue tit"].sum()) == 48


def test_coco_itself_in_this_format_says_the_same(tmp_path: Path) -> None:
    official = open_dataset("coco", write_coco(tmp_path)).annotations()
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(instances("val", {42: [("skis", "plain"), ("dog", "crowd")]})))
    found = open_dataset(str(path), tmp_path / "coco" / "val2014").annotations()
    assert found.labels == official.labels
    assert labels_of(open_dataset(str(path), None)) == {"COCO_val2014_000000000042": ["skis"]}
    assert int(found.shown.sum()) == 2


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda v: v["categories"].append({"id": 9, "name": "owl"}), "category number 3"),
        (lambda v: v["categories"].append({"id": 10, "name": "robin"}), "category number 3"),
        (lambda v: v["categories"].append({"id": True, "name": "owl"}), "category number 3"),
        (lambda v: v["categories"].append({"id": 4, "name": " owl"}), "' owl', not text that"),
        (lambda v: v["categories"].append({"id": 4, "name": None}), "None, not text"),
        (lambda v: v.update(categories=[], annotations=[]), "no category"),
        (lambda v: v["images"].append({"id": 8, "file_name": "../x.jpg"}), "rename the file"),
        (lambda v: v["images"].append({"id": 8, "file_name": "set/b.jpg"}), "stands twice"),
        (lambda v: v["annotations"].append({"image_id": 7, "category_id": 3}), "category 3"),
        (lambda v: v["annotations"].append({"image_id": 9, "category_id": 9}), "image 9"),
        (lambda v: v.pop("images"), "no object with the lists"),
    ],
)
def test_a_fault_in_coco_format(change: Any, found: str, tmp_path: Path) -> None:
    value = birds()
    change(value)
    with pytest.raises(BenchError, match="is not an annotation file in COCO's format") as caught:
        coco_format(tmp_path, value).annotations()
    assert found in caught.value.found


@pytest.mark.parametrize("whole", [True, False])
def test_nus_wide(whole: bool, tmp_path: Path) -> None:
    dataset = open_dataset("nus-wide", write_nus_wide(tmp_path, whole=whole))
    found = dataset.annotations()
    assert found.labels == tuple(CONCEPTS)
    assert labels_of(dataset) == {
        "actor/0001_2124494179": ["animal", "sky"],
        "actor/0002_174174086": [],
        "bee/0004_7": ["sky"],
        "zebra/0003_5": ["airport"],
    }
    assert np.array_equal(found.present, found.shown)
    assert dataset.available(found.image_ids).tolist() == [True, True, False, True]
    assert dataset.image_bytes("zebra/0003_5") == jpeg(2)


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("Groundtruth/AllLabels/Labels_sky.txt", "1\n0\n0\n", "3 lines"),
        ("Groundtruth/AllLabels/Labels_sky.txt", "1\n0\n0\n2\n", "or other content"),
        ("Groundtruth/AllLabels/Labels_sky.txt", "10\n0\n0\n", "or other content"),
        ("ConceptsList/Concepts81.txt", "sky\n", "1 lines"),
        ("ImageList/Imagelist.txt", "a\\b.jpg\na\\b.jpg\n", "line 2: the image 'a/b' stands twice"),
        ("ImageList/Imagelist.txt", "a\\b c.jpg\n", "rename the file"),
        ("ImageList/Imagelist.txt", "\n", "none"),
    ],
)
def test_a_fault_in_nus_wide(file: str, text: str, found: str, tmp_path: Path) -> None:
    root = write_nus_wide(tmp_path)
    (root / "nus-wide" / file).write_text(text)
    with pytest.raises(BenchError, match="is not the file of NUS-WIDE") as caught:
        open_dataset("nus-wide", root).annotations()
    assert found in caught.value.found


def test_files_of_nus_wide_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="there is no NUS-WIDE below"):
        open_dataset("nus-wide", tmp_path)
    root = write_nus_wide(tmp_path)
    (root / "nus-wide" / "Groundtruth" / "AllLabels" / "Labels_sky.txt").unlink()
    with pytest.raises(BenchError, match=r"Labels_sky\.txt is not the file"):
        open_dataset("nus-wide", root).annotations()


def test_visual_genome_with_the_commonest_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_visual_genome(tmp_path)
    dataset = open_dataset("visual-genome", root)
    assert dataset.annotations().labels == ("car", "man", "tree")
    assert labels_of(dataset) == {
        "VG_100K/10": ["car"],
        "VG_100K/11": [],
        "VG_100K/2": ["car", "man"],
        "VG_100K_2/1": ["man", "tree"],
    }
    assert dataset.available(dataset.annotations().image_ids).all()
    assert dataset.image_bytes("VG_100K_2/1") == jpeg(0)
    monkeypatch.setattr("mlfsic_bench.data.visual_genome.COMMONEST", 2)
    assert open_dataset("visual-genome", root).annotations().labels == ("car", "man")


def test_visual_genome_with_a_list(tmp_path: Path) -> None:
    dataset = open_dataset("visual-genome", write_visual_genome(tmp_path, "tree\ncar\n"))
    assert dataset.annotations().labels == ("tree", "car")
    for labels, found in (("tree\nowl\n", "'owl'"), ("tree\ntree\n", "'tree'"), ("\n", "none")):
        (tmp_path / "visual-genome" / "labels.txt").write_text(labels)
        with pytest.raises(BenchError, match=r"labels\.txt is not a file of") as caught:
            open_dataset("visual-genome", tmp_path).annotations()
        assert found in caught.value.found


@pytest.mark.parametrize(
    ("file", "value", "found"),
    [
        ("objects.json", [{"image_id": 99, "objects": []}], "KeyError: 99"),
        ("objects.json", [{"image_id": 1, "objects": [{"names": []}]}], "IndexError"),
        ("objects.json", [{"image_id": 1, "objects": []}] * 2, "stands twice"),
        ("objects.json", {}, "dict"),
        ("image_data.json", [{"image_id": 1, "url": "http://x/1.jpg"}], "image 1 of the file"),
        ("image_data.json", [{"image_id": 1, "url": "http://x/VG_100K/1.jpg"}] * 2, "image 2"),
    ],
)
def test_a_fault_in_visual_genome(file: str, value: Any, found: str, tmp_path: Path) -> None:
    root = write_visual_genome(tmp_path)
    (root / "visual-genome" / file).write_text(json.dumps(value))
    with pytest.raises(BenchError, match="is not a file of Visual Genome") as caught:
        open_dataset("visual-genome", root).annotations()
    assert found in caught.value.found

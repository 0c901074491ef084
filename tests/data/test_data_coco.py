import json

import numpy as np
import pytest

from mlfsic_bench.data.coco import Coco
from mlfsic_bench.data.coco_labels import COCO_CATEGORIES
from mlfsic_bench.data.registry import open_dataset
from mlfsic_bench.errors import BenchError
from tests.fakes.coco import TRAIN, VAL, image_id, instances, write_coco


def labels_of(dataset, matrix, image):
    annotations = dataset.annotations()
    row = annotations.image_ids.index(image)
    return {annotations.labels[column] for column in np.flatnonzero(matrix[row])}


def test_crowds_and_flat_boxes_are_shown_but_not_present(tmp_path):
    dataset = open_dataset("coco", write_coco(tmp_path))
    a = dataset.annotations()
    assert len(a.labels) == 80
    assert a.image_ids == tuple(
        sorted([image_id("train", n) for n in TRAIN] + [image_id("val", n) for n in VAL])
    )
    for year, contents in (("train", TRAIN), ("val", VAL)):
        for number, shown in contents.items():
            present = {label for label, kind in shown if kind in ("box", "plain")}
            image = image_id(year, number)
            assert labels_of(dataset, a.present, image) == present
            assert labels_of(dataset, a.shown, image) == {label for label, _ in shown}
    assert not (a.present & ~a.shown).any()


def test_root_may_be_the_coco_folder_itself(tmp_path):
    write_coco(tmp_path)
    assert Coco(tmp_path / "coco").annotations().image_ids == Coco(tmp_path).annotations().image_ids


def test_available_and_bytes(tmp_path):
    dataset = open_dataset("coco", write_coco(tmp_path, without=[9]))
    ids = (image_id("train", 9), image_id("train", 25), image_id("val", 42))
    assert dataset.available(ids).tolist() == [False, True, True]
    assert dataset.open_image(ids[1]).size == (16, 12)
    with pytest.raises(BenchError, match="000000000009 cannot be read"):
        dataset.image_bytes(ids[0])
    for hostile in ("../../etc/passwd", "train2014/../x", "VOC2007/000001"):
        with pytest.raises(BenchError, match="not the id of a COCO"):
            dataset.image_bytes(hostile)


def test_missing_folder_and_half_a_data_set(tmp_path):
    with pytest.raises(BenchError, match="no COCO 2014") as caught:
        open_dataset("coco", tmp_path)
    assert str(tmp_path / "coco") in caught.value.found
    write_coco(tmp_path)
    (tmp_path / "coco/annotations/instances_val2014.json").unlink()
    with pytest.raises(BenchError, match="incomplete") as caught:
        open_dataset("coco", tmp_path).annotations()
    assert "instances_val2014.json" in caught.value.found


def broken(change):
    data = instances("train", TRAIN)
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[1]", "no object"),
        ("{", "JSONDecodeError"),
        ("[" * 200_000, "RecursionError"),
        (broken(lambda d: d["annotations"][0].update(category_id=12)), "unknown category 12"),
        (broken(lambda d: d["annotations"][0].update(image_id=7)), "missing image 7"),
        (broken(lambda d: d["annotations"][0].update(image_id=[7])), "TypeError"),
        (broken(lambda d: d["annotations"][0].update(bbox=[1])), "ValueError"),
        (broken(lambda d: d["annotations"][0].update(bbox=[1, 1, float("nan"), 2])), "finite"),
        (broken(lambda d: d["categories"].pop()), "79 categories"),
        (broken(lambda d: d["categories"][0].update(name="human")), "human"),
        (broken(lambda d: d["images"].append(d["images"][0])), "twice"),
        (broken(lambda d: d["images"][0].update(file_name="../x.jpg")), "file name"),
        (broken(lambda d: d["images"][0].pop("file_name")), "KeyError"),
    ],
)
def test_hostile_annotations_are_one_error(tmp_path, text, found):
    write_coco(tmp_path)
    (tmp_path / "coco/annotations/instances_train2014.json").write_text(text)
    with pytest.raises(BenchError, match="instances_train2014") as caught:
        open_dataset("coco", tmp_path).annotations()
    assert found in caught.value.found


def test_the_table_of_categories():
    assert len(COCO_CATEGORIES) == 80
    assert list(COCO_CATEGORIES) == sorted(COCO_CATEGORIES)
    assert (COCO_CATEGORIES[1], COCO_CATEGORIES[90]) == ("person", "toothbrush")

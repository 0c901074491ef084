import json

import numpy as np
import pytest

from mlfsic_bench.data.coco import COCO_CATEGORIES, Coco
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
        (broken(lambda d: d["annotations"][0].update(image_id=[7])), "image_id is [7]"),
        (broken(lambda d: d["annotations"][0].update(bbox=[1])), "annotation 0: its bbox"),
        (broken(lambda d: d["annotations"][0].update(bbox=[1, 1, float("nan"), 2])), "NaN"),
        (broken(lambda d: d["categories"].pop()), "79 categories"),
        (broken(lambda d: d["categories"][0].update(name="human")), "human"),
        (broken(lambda d: d["images"].append(d["images"][0])), "twice"),
        (broken(lambda d: d["images"][0].update(file_name="../x.jpg")), "file name"),
        (broken(lambda d: d["images"][0].pop("file_name")), "no file_name"),
    ],
)
def test_hostile_annotations_are_one_error(tmp_path, text, found):
    write_coco(tmp_path)
    (tmp_path / "coco/annotations/instances_train2014.json").write_text(text)
    with pytest.raises(BenchError, match="instances_train2014") as caught:
        open_dataset("coco", tmp_path).annotations()
    assert found in caught.value.found


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ('"categories": [', '"annotations": [], "categories": [', "'annotations' stands twice"),
        ('"iscrowd": 0', '"iscrowd": 0, "iscrowd": 1', "'iscrowd' stands twice"),
        ('"segmentation": [[1', '"segmentation": [], "segmentation": [[1', "'segmentation' stands"),
        ('"area": 84.0', '"area": NaN', "NaN is not a JSON number"),
        ('"area": 84.0', '"area": Infinity', "Infinity is not a JSON number"),
    ],
)
def test_a6_json_is_strict(tmp_path, old, new, found):
    write_coco(tmp_path)
    path = tmp_path / "coco/annotations/instances_train2014.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BenchError, match="instances_train2014") as caught:
        open_dataset("coco", tmp_path).annotations()
    assert found in caught.value.found


def with_first(root, **fields):
    """A COCO whose first train annotation (a car's, with a box) has other fields; its labels."""
    write_coco(root)
    path = root / "coco/annotations/instances_train2014.json"
    data = instances("train", TRAIN)
    data["annotations"][0] |= {"id": 4711} | fields
    path.write_text(json.dumps(data))
    dataset = open_dataset("coco", root)
    return labels_of(dataset, dataset.annotations().present, image_id("train", 9))


@pytest.mark.parametrize(("crowd", "counts"), [(0, True), (False, True), (1, False), (True, False)])
def test_a7_iscrowd_is_a_number_or_a_bool(tmp_path, crowd, counts):
    assert with_first(tmp_path, iscrowd=crowd) == ({"car", "truck"} if counts else {"truck"})


@pytest.mark.parametrize("crowd", ["0", "1", "false", "0.0", [0], [], -1, 2, 0.0, 1.0, None])
def test_a7_any_other_iscrowd_is_refused_by_annotation_id(tmp_path, crowd):
    with pytest.raises(BenchError) as caught:
        with_first(tmp_path, iscrowd=crowd)
    assert caught.value.found.startswith("annotation 4711: its iscrowd is ")


@pytest.mark.parametrize(
    "fields",
    [
        *[{"category_id": x} for x in (True, 3.0, "3", [3], None)],
        *[{"image_id": x} for x in (True, 9.0, "9", {}, None)],
        *[{"bbox": x} for x in ("1234", ["a", "b", 3, 4], [1, 2, "1_0", 4], [True, True, 3, 4])],
        *[
            {"bbox": x}
            for x in ([1, 2, 3], [1, 2, 3, None], {"x": 1}, 0, False, [1, 2, 3, 10**400])
        ],
        *[{"area": x} for x in ("12", True, [12], 10**400)],
        *[{"bbox": None, "area": x} for x in ("12", True, "1e3")],
        *[{"segmentation": x} for x in ("1 2 3", [True, 5], 7, [["1", 2, 3, 4, 5, 6]])],
    ],
    ids=str,
)
def test_a8_a_field_of_a_wrong_type_is_refused_by_annotation_id(tmp_path, fields):
    with pytest.raises(BenchError) as caught:
        with_first(tmp_path, **fields)
    assert caught.value.found.startswith(f"annotation 4711: its {list(fields)[-1]} is ")


@pytest.mark.parametrize(
    ("fields", "counts"),
    [
        ({"bbox": [], "area": 12.5}, True),
        ({"bbox": [], "area": 0}, False),
        ({"bbox": [], "area": None}, True),  # says nothing of its extent
        ({"bbox": None, "area": 0.0}, False),
        ({"bbox": [1, 2, 3, 4], "area": 0}, True),
        ({"bbox": [1, 2, 0, 4], "area": 9}, False),
    ],
)
def test_a8_without_a_box_the_area_decides(tmp_path, fields, counts):
    assert ("car" in with_first(tmp_path, **fields)) == counts


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda d: d["images"][0].update(id=True), "image number 1 of the file: its id is True"),
        (lambda d: d["images"][0].update(id=9.0), "image number 1 of the file: its id is 9.0"),
        (lambda d: d["images"][1].update(width="640"), "image number 2 of the file: its height"),
        (lambda d: d["images"][1].update(width=True), "image number 2 of the file: its height"),
        (lambda d: d["images"][1].pop("width"), "image number 2 of the file: it has no width"),
        (lambda d: d["images"].append([]), "image number 8 of the file: it has no id"),
        (lambda d: d["images"][0].update(file_name=["x.jpg"]), "the file name ['x.jpg']"),
        (lambda d: d["categories"][0].update(id=True), "(True, 'person')"),
        (lambda d: d["categories"][0].update(id=1.0), "(1.0, 'person')"),
        (lambda d: d["categories"].append("person"), "81 categories"),
        (lambda d: d["annotations"][0].update(id="0"), "annotation number 1 of the file: its id"),
        (lambda d: d["annotations"][0].update(id=True), "annotation number 1 of the file: its id"),
        (lambda d: d["annotations"][1].update(id=0), "annotation 0: its id stands twice"),
        (lambda d: d["annotations"].append(7), "annotation number 14 of the file: it has no image"),
    ],
)
def test_a8_ids_sizes_and_names_are_strict_everywhere(tmp_path, change, found):
    write_coco(tmp_path)
    (tmp_path / "coco/annotations/instances_train2014.json").write_text(broken(change))
    with pytest.raises(BenchError, match="instances_train2014") as caught:
        open_dataset("coco", tmp_path).annotations()
    assert found in caught.value.found


def test_the_table_of_categories():
    assert len(COCO_CATEGORIES) == 80
    assert list(COCO_CATEGORIES) == sorted(COCO_CATEGORIES)
    assert (COCO_CATEGORIES[1], COCO_CATEGORIES[90]) == ("person", "toothbrush")

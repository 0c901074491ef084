"""The fast way to read COCO's format says what a plain reading of the JSON says, or steps aside."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlfsic_bench.data import coco_plain
from mlfsic_bench.data.coco_format import Instances
from mlfsic_bench.data.coco_plain import read_plain
from mlfsic_bench.data.coco_reader import ANY, Rows, places, read_carefully
from mlfsic_bench.errors import BenchError


def plain(images: int = 40, annotations: int = 300, seed: int = 0) -> dict[str, Any]:
    """A file in the layout of the official ones."""
    make = random.Random(seed)

    def point() -> float:
        return make.choice((make.randrange(100), round(make.random() * 640, 2), 1e-07))

    ids = make.sample(range(10**6), images)
    numbers = make.sample(range(10**12), annotations)
    return {
        "info": {"description": "synthetic", "url": "http://x/"},
        "images": [
            {
                "license": 3,
                "file_name": f"set/{n:012d}.jpg",
                "height": 480,
                "width": 640,
                "date_captured": "2013-11-14 16:28:13",
                "id": n,
            }
            for n in ids
        ],
        "licenses": [{"id": 3, "name": "free", "url": "http://y/"}],
        "annotations": [
            {
                "segmentation": {"counts": [3, 4], "size": [480, 640]}
                if make.random() < 0.1
                else [[point() for _ in range(2 * make.randrange(3, 9))] for _ in range(2)],
                "area": make.choice((0, 12.5, 3e2)),
                "iscrowd": int(make.random() < 0.1),
                "image_id": make.choice(ids),
                "bbox": [point(), point(), make.choice((0, 3, 0.5)), 7],
                "category_id": make.choice((2, 9, 40)),
                "id": number,
            }
            for number in numbers
        ],
        "categories": [{"id": i, "name": f"label {i}"} for i in (9, 2, 40)],
    }


def written(folder: Path, value: Any, separators: tuple[str, str] = (",", ": ")) -> Path:
    path = folder / "file.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value, separators=separators))
    return path


def naive(path: Path) -> dict[str, Any]:
    """What a file says, by the shortest program that says it."""
    data = json.loads(path.read_text())
    row = {image["id"]: i for i, image in enumerate(data["images"])}
    boxes = [a.get("bbox") or [np.nan] * 4 for a in data["annotations"]]
    flat = [
        min(box[2:]) <= 0 if a.get("bbox") else a.get("area", 1) <= 0
        for a, box in zip(data["annotations"], boxes, strict=True)
    ]
    return {
        "categories": dict(sorted((c["id"], c["name"]) for c in data["categories"])),
        "files": tuple(image["file_name"] for image in data["images"]),
        "sizes": [[image.get("height", 0), image.get("width", 0)] for image in data["images"]],
        "number": [a.get("id", -1) for a in data["annotations"]],
        "row": [row[a["image_id"]] for a in data["annotations"]],
        "category": [a["category_id"] for a in data["annotations"]],
        "positive": [
            not a.get("iscrowd") and not nothing
            for a, nothing in zip(data["annotations"], flat, strict=True)
        ],
        "box": boxes,
        "outlined": ["segmentation" in a for a in data["annotations"]],
    }


def says(rows: Rows | None, expected: dict[str, Any]) -> None:
    assert rows is not None
    for name, value in expected.items():
        found = getattr(rows, name)
        if isinstance(found, np.ndarray):
            assert np.array_equal(found, value, equal_nan=found.dtype.kind == "f"), name
        else:
            assert found == value, name
    assert list(rows.names) == [file[:-4] for file in rows.files]


def without(*keys: str) -> Any:
    def change(value: dict[str, Any]) -> None:
        for i, entry in enumerate(value["annotations"]):
            if i % 3:
                for key in keys:
                    del entry[key]

    return change


@pytest.mark.parametrize("block", [1 << 11, 1 << 13, 1 << 20])
@pytest.mark.parametrize("separators", [(",", ": "), (", ", ":"), (" ,\n", " : ")])
def test_a_plain_file_is_read_fast_and_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, separators: tuple[str, str]
) -> None:
    monkeypatch.setattr(coco_plain, "BLOCK", block)
    path = written(tmp_path, plain(), separators)
    expected = naive(path)
    careful = read_carefully(path, ANY)
    says(careful, expected)
    if separators[1] == " : ":  # the keys of images are counted by their ends
        assert read_plain(path, ANY) is None
        return
    rows = read_plain(path, ANY)
    says(rows, expected)
    assert rows is not None
    assert rows.place is None
    assert np.array_equal(places(path, ANY, rows.outlined), careful.place)


@pytest.mark.parametrize(
    "change",
    [
        without("segmentation"),
        without("bbox", "area"),
        without("id"),
        without("iscrowd", "area"),
        lambda v: [image.pop("height") and image.pop("width") for image in v["images"][3:9]],
        lambda v: [image.pop("height") and image.pop("width") for image in v["images"]],
        lambda v: (
            [image.update(id=image["id"] + (1 << 40)) for image in v["images"]]
            + [entry.update(image_id=entry["image_id"] + (1 << 40)) for entry in v["annotations"]]
        ),
        lambda v: [entry.update(bbox=[]) for entry in v["annotations"][:9]],
        lambda v: v["info"].update(description="größer"),
        lambda v: v.update(images=v.pop("images")),  # behind the annotations
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_other_plain_files(tmp_path: Path, change: Any, ascii_only: bool) -> None:
    value = plain(20, 60)
    change(value)
    path = written(tmp_path, json.dumps(value, ensure_ascii=ascii_only))
    says(read_plain(path, ANY), naive(path))


FIRST = '"area": '


@pytest.mark.parametrize(
    ("old", "new", "sound"),
    [
        (FIRST, '"area": 1, "area": ', False),
        (FIRST, '"\\u0061rea": 1, "area": ', False),
        (FIRST, '"x": 1, "area": ', True),
        (FIRST, '"x": 1, "x": 2, "area": ', False),
        (FIRST, '"x": "area", "area": ', True),
        (FIRST, '"x": true, "area": ', True),
        (FIRST, '"area": -', True),
        (FIRST, '"area": 1e999, "x": ', False),
        (FIRST, '"area": null, "x": ', True),
        (FIRST, '"area": NaN, "x": ', False),
        (FIRST, '"x": "\ud800", "area": ', False),
        ('"iscrowd": 0', '"iscrowd": false', True),
        ('"iscrowd": 0', '"iscrowd": -1', False),
        ('"iscrowd": 0', '"iscrowd": 0.0', False),
        ('"segmentation": [[', '"segmentation": [[null, ', False),
        ('"segmentation": [[', '"segmentation": [{}, [', False),
        ('"segmentation": [[', '"segmentation": ["1", [', False),
        ('"segmentation": [[', '"segmentation": 7, "x": [[', False),
        ('"segmentation": [[', '"segmentation": null, "x": [[', True),
        ('"counts": [', '"counts": "abc", "x": [', True),
        ('"counts": [', '"a": {}, "counts": [', False),
        ('"bbox": [', '"bbox": [1, ', False),
        ('"bbox": [', '"bbox": null, "x": [', True),
        ('"category_id": 2', '"category_id": 3', False),
        ('"category_id": 2', '"category_id": 2.0', False),
        ('"category_id": 2', '"category_id": true', False),
        ('"category_id": 2', '"category_id": -2', False),
        ('"image_id": ', '"image_id": 1', False),
        ('"license": 3', '"license": 3, "license": 4', False),
        ('"license": 3', '"license": {"id": 4}', True),
        ('"height": 480', '"height": 0', False),
        ('"height": 480, ', "", False),
        ('"height": 480', '"height": 480.0', False),
        ('"file_name": "', '"file_name": "../', False),
        ('"licenses": [', '"images": [], "licenses": [', False),
        ('"licenses": [', '"annotations": [], "licenses": [', False),
        ('"licenses": [', '"annotations": [{}], "licenses": [', False),
        ('"info": {', '"info": {"annotations": [{}], ', True),
        ('"name": "free"', '"name": "free", "name": "x"', False),
        ('"categories": [', '"x": [', False),
        ('"categories": [', '"categories": {}, "x": [', False),
        ('"categories": [', '"categories": [{"id": 9, "name": "x"}, ', False),
    ],
)
def test_what_is_not_plain_is_read_carefully(
    tmp_path: Path, old: str, new: str, sound: bool
) -> None:
    text = json.dumps(plain(20, 60))
    assert old in text
    path = tmp_path / "file.json"
    path.write_bytes(text.replace(old, new, 1).encode("utf-8", "surrogatepass"))
    if not sound:
        found = []
        for read in (read_carefully, lambda *said: Instances.read(*said).rows):
            with pytest.raises(BenchError) as caught:
                read(path, ANY)
            found.append(caught.value.found)
        assert found[0] == found[1]
        return
    careful = read_carefully(path, ANY)
    rows = Instances.read(path).rows
    for name in ("categories", "files", "names"):
        assert getattr(rows, name) == getattr(careful, name)
    for name in ("sizes", "number", "row", "category", "positive", "box", "outlined"):
        one, other = getattr(rows, name), getattr(careful, name)
        assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f"), name


@pytest.mark.parametrize("cut", [0, 1, 500, 5000, -1, -40])
def test_a_file_that_ends_too_early(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path, json.dumps(plain(20, 60))[:cut])
    assert read_plain(path, ANY) is None
    with pytest.raises(BenchError, match="is not an annotation file"):
        Instances.read(path)


def test_a_list_of_annotations_inside_another_object_is_refused(tmp_path: Path) -> None:
    value = plain(20, 60)
    inside = {"info": {"annotations": value.pop("annotations")}, **value}
    path = written(tmp_path, json.dumps(inside))
    assert read_plain(path, ANY) is None
    with pytest.raises(BenchError, match="is not an annotation file"):
        Instances.read(path)


@pytest.mark.parametrize("side", [2**63, 2**64, 2**70])
def test_a_side_beyond_all_numbers_is_left_to_the_careful_way(tmp_path: Path, side: int) -> None:
    value = plain(20, 60)
    value["images"][3]["height"] = side
    path = written(tmp_path, json.dumps(value))
    assert read_plain(path, ANY) is None
    with pytest.raises(BenchError):
        Instances.read(path)

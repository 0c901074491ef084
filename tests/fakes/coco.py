"""A tiny COCO 2014 in the official layout."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlfsic_bench.data.coco import COCO_CATEGORIES
from tests.fakes.jpeg import jpeg

ID_OF = {name: number for number, name in COCO_CATEGORIES.items()}

# (label, kind of annotation); kinds: box, crowd, flat (a box without area), plain (no box at all)
Shown = Sequence[tuple[str, str]]
Contents = Mapping[int, Shown]

TRAIN: Contents = {
    9: [("car", "box"), ("truck", "box")],
    25: [("car", "box"), ("person", "crowd")],
    30: [("dog", "box"), ("bird", "flat")],
    34: [],
    36: [("zebra", "box"), ("cow", "box")],
    49: [("person", "plain"), ("car", "plain")],
    61: [("cup", "box"), ("fork", "box"), ("cup", "crowd")],
}
VAL: Contents = {
    42: [("skis", "plain"), ("person", "plain")],
    73: [("boat", "plain"), ("person", "plain")],
    74: [("cat", "plain")],
    133: [("vase", "crowd")],
    136: [("car", "flat"), ("car", "box")],
}


def image_id(year: str, number: int) -> str:
    """The id of an image as the package writes it."""
    return f"{year}2014/COCO_{year}2014_{number:012d}"


def instances(year: str, contents: Contents) -> dict[str, Any]:
    """The value of an instances_<year>2014.json."""
    annotations: list[dict[str, Any]] = []
    for number, shown in contents.items():
        for label, kind in shown:
            entry: dict[str, Any] = {"image_id": number, "category_id": ID_OF[label]}
            if kind != "plain":
                width = 0 if kind == "flat" else 10.5
                entry |= {"bbox": [1.0, 2.0, width, 8], "area": width * 8}
                entry["segmentation"] = (
                    {"counts": [3, 4, 185], "size": [12, 16]}
                    if kind == "crowd"
                    else [[1, 2.5, 3e1, 4]]
                )
            annotations.append(entry | {"iscrowd": int(kind == "crowd"), "id": len(annotations)})
    return {
        "info": {"description": 'a fake: "segmentation": [1, 2] in a string is no key'},
        "images": [
            {
                "id": number,
                "file_name": f"COCO_{year}2014_{number:012d}.jpg",
                "height": 12,
                "width": 16,
            }
            for number in contents
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in COCO_CATEGORIES.items()],
    }


def write_coco(
    root: Path, train: Contents = TRAIN, val: Contents = VAL, *, without: Sequence[int] = ()
) -> Path:
    """Write annotations and JPEG files below `root`/coco; no file for the numbers in `without`."""
    folder = root / "coco"
    (folder / "annotations").mkdir(parents=True)
    for year, contents in (("train", train), ("val", val)):
        text = json.dumps(instances(year, contents))
        (folder / "annotations" / f"instances_{year}2014.json").write_text(text)
        (folder / f"{year}2014").mkdir()
        for number in contents:
            if number not in without:
                (folder / f"{image_id(year, number)}.jpg").write_bytes(jpeg(number))
    return root


def write_outlines(
    root: Path,
    annotations: Sequence[Mapping[str, Any]],
    *,
    size: tuple[int, int] | None = (12, 16),
    picture: tuple[int, int] = (16, 12),
    number: int = 9,
) -> str:
    """A COCO whose one train image has these annotations (of `car` unless they say); its id.

    `size` is the (height, width) the file gives, `picture` the (width, height) of the JPEG file.
    """
    write_coco(root, {number: []}, {})
    data = instances("train", {number: []})
    image = data["images"][0]
    del image["height"], image["width"]
    if size is not None:
        image |= {"height": size[0], "width": size[1]}
    data["annotations"] = [
        {"image_id": number, "category_id": ID_OF["car"], "iscrowd": 0, "id": i} | dict(entry)
        for i, entry in enumerate(annotations)
    ]
    path = root / "coco" / "annotations" / "instances_train2014.json"
    path.write_text(json.dumps(data))
    (root / "coco" / f"{image_id('train', number)}.jpg").write_bytes(jpeg(number, picture))
    return image_id("train", number)

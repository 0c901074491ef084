"""COCO 2014: the official `instances_{train,val}2014.json`, with or without boxes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

from mlfsic_bench.data.coco_file import bad_file, is_positive, parse_instances
from mlfsic_bench.data.coco_labels import COCO_CATEGORIES
from mlfsic_bench.data.coco_objects import CocoObjects
from mlfsic_bench.data.dataset import Annotations, Dataset
from mlfsic_bench.data.image_files import ImageFiles
from mlfsic_bench.data.images import decode_rgb, read_image_file
from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import is_file, is_folder

FOLDERS = ("train2014", "val2014")
_FILE_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}\.jpg")
_IMAGE_ID = re.compile(r"(train2014|val2014)/[A-Za-z0-9_-]{1,100}")


class Coco(Dataset):
    """COCO 2014, train and val together; ids are `train2014/COCO_train2014_000000000009`.

    A label is present when a non-crowd annotation has it whose box (or, without a box, area) is
    positive, or that says nothing of either; it is shown when any annotation has it.
    """

    name = "coco"

    def __init__(self, root: Path) -> None:
        """Find the data in ROOT/coco or ROOT; BenchError when neither has `annotations/`."""
        candidates = (root / "coco", root)
        found = next((path for path in candidates if is_folder(path / "annotations")), None)
        if found is None:
            raise BenchError(
                f"there is no COCO 2014 below {root}",
                expected="annotations/instances_train2014.json and instances_val2014.json",
                found=f"no folder annotations/ in {' or '.join(map(str, candidates))}",
                remedy="unpack the official annotations_trainval2014.zip there, "
                "or name another --data-root",
            )
        self.folder = found
        self._annotations: Annotations | None = None
        self._files = ImageFiles({name: found / name for name in FOLDERS})
        self._order: dict[str, tuple[str, ...]] = {}
        self._objects: dict[str, CocoObjects] = {}

    def annotations(self) -> Annotations:
        """The 80 labels in the order of their category ids, both years' images sorted by id."""
        if self._annotations is None:
            files = [self.folder / "annotations" / f"instances_{f}.json" for f in FOLDERS]
            missing = [str(path) for path in files if not is_file(path)]
            if missing:
                raise BenchError(
                    f"COCO 2014 in {self.folder} is incomplete",
                    expected=" and ".join(map(str, files)),
                    found=f"no file {' and no file '.join(missing)}",
                    remedy="unpack the official annotations_trainval2014.zip there",
                )
            parts = [_read(path, name) for path, name in zip(files, FOLDERS, strict=True)]
            self._order = {f: tuple(part[0]) for f, part in zip(FOLDERS, parts, strict=True)}
            ids = [image for part in parts for image in part[0]]
            order = sorted(range(len(ids)), key=ids.__getitem__)
            self._annotations = Annotations(
                labels=tuple(COCO_CATEGORIES.values()),
                image_ids=tuple(ids[i] for i in order),
                present=np.concatenate([part[1] for part in parts])[order],
                shown=np.concatenate([part[2] for part in parts])[order],
            )
        return self._annotations

    def file_order(self, folder: str) -> tuple[str, ...]:
        """The ids of one year's images in the order in which its annotation file lists them."""
        self.annotations()
        return self._order[folder]

    def available(self, image_ids: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """bool [n]: which images have an image file in train2014/ or val2014/."""
        return self._files.available(image_ids)

    def damaged(self) -> dict[str, str]:
        """Image id -> what lies in train2014/ or val2014/ under its name in place of an image."""
        return self._files.damaged()

    def image_bytes(self, image_id: str) -> bytes:
        """The JPEG file of the image."""
        if not _IMAGE_ID.fullmatch(image_id):
            raise BenchError(
                f"{image_id!r} is not the id of a COCO 2014 image",
                expected="an id such as train2014/COCO_train2014_000000000009",
                found=repr(image_id),
                remedy="check which dataset the split was made of",
            )
        return read_image_file(
            self.folder / f"{image_id}.jpg",
            image_id,
            "unpack train2014.zip and val2014.zip there, or use --available-only",
        )

    def open_image(self, image_id: str) -> Image:
        """The image, decoded to RGB."""
        return decode_rgb(self.image_bytes(image_id), image_id)

    def masks(self, image_id: str) -> dict[str, npt.NDArray[np.bool_]]:
        """Label -> bool [H, W]: the pixels of the image (as decoded) where its objects are seen.

        From polygons or run lengths, else from boxes; a label is in the dict when it is present
        and one of its annotations has either, so none is with annotations of labels alone.
        Crowds of such a label count as the label. The file of the image's year is read once.
        """
        width, height = self.open_image(image_id).size
        folder, _, name = image_id.partition("/")
        if folder not in self._objects:
            path = self.folder / "annotations" / f"instances_{folder}.json"
            self._objects[folder] = CocoObjects.read(path)
        return self._objects[folder].masks(name, height, width)


def _read(
    path: Path, folder: str
) -> tuple[list[str], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Image ids, present and shown (bool [n, 80]) of one annotation file."""
    data = parse_instances(path)
    try:
        _check_categories(path, data["categories"])
        numbers = [image["id"] for image in data["images"]]
        names = [image["file_name"] for image in data["images"]]
        pairs = [(entry["image_id"], entry["category_id"]) for entry in data["annotations"]]
        counts = [is_positive(entry) for entry in data["annotations"]]
        row_of = {number: row for row, number in enumerate(numbers)}
        column_of = {number: column for column, number in enumerate(COCO_CATEGORIES)}
        rows = [row_of.get(image, -1) for image, _ in pairs]
        columns = [column_of.get(category, -1) for _, category in pairs]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise bad_file(path, f"{type(error).__name__}: {error}") from error
    for name in names:
        if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
            raise bad_file(path, f"the file name {name!r:.200}")
    if len(row_of) != len(numbers) or len(set(names)) != len(names):
        raise bad_file(path, "an image id or file name that stands twice")
    if -1 in columns:
        raise bad_file(
            path, f"an annotation of the unknown category {pairs[columns.index(-1)][1]!r}"
        )
    if -1 in rows:
        raise bad_file(path, f"an annotation of the missing image {pairs[rows.index(-1)][0]!r}")
    shown = np.zeros((len(names), len(COCO_CATEGORIES)), np.bool_)
    present = np.zeros_like(shown)
    row, column = np.array(rows, np.int64), np.array(columns, np.int64)
    positive = np.array(counts, np.bool_)
    shown[row, column] = True
    present[row[positive], column[positive]] = True
    return [f"{folder}/{name[:-4]}" for name in names], present, shown


def _check_categories(path: Path, categories: list[Any]) -> None:
    found = {entry["id"]: entry["name"] for entry in categories}
    if found != COCO_CATEGORIES or len(categories) != len(COCO_CATEGORIES):
        wrong = sorted(map(str, set(found.items()) ^ set(COCO_CATEGORIES.items())))
        raise bad_file(
            path, f"{len(categories)} categories that differ from the official 80 in: {wrong[:4]}"
        )

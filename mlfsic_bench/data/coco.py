"""COCO 2014: the official `instances_{train,val}2014.json`, with or without boxes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

from mlfsic_bench.data.coco_annotations import COCO_CATEGORIES, Instances
from mlfsic_bench.data.dataset import Annotations, Dataset
from mlfsic_bench.data.images import ImageFiles, decode_rgb, read_image_file
from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import is_file, is_folder

FOLDERS = ("train2014", "val2014")
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
        self._objects: dict[str, Instances] = {}

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
            self._objects[folder] = Instances.read(path)
        return self._objects[folder].masks(name, height, width)


def _read(
    path: Path, folder: str
) -> tuple[list[str], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Image ids, present and shown (bool [n, 80]) of one annotation file."""
    found = Instances.read(path)
    column = np.searchsorted(list(COCO_CATEGORIES), found.category)  # the ids are sorted
    shown = np.zeros((len(found.names), len(COCO_CATEGORIES)), np.bool_)
    present = np.zeros_like(shown)
    shown[found.row, column] = True
    present[found.row[found.positive], column[found.positive]] = True
    return [f"{folder}/{name}" for name in found.names], present, shown

"""PASCAL VOC 2007 (trainval and test) and 2012 (trainval): class lists or XML annotations."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL.Image import Image

from mlfsic_bench.data.dataset import Annotations, Dataset
from mlfsic_bench.data.image_files import ImageFiles
from mlfsic_bench.data.images import decode_rgb, read_image_file
from mlfsic_bench.data.voc.lists import read_set
from mlfsic_bench.data.voc.objects import read_masks
from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import is_folder

VOC_LABELS = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
SETS = (("VOC2007", "trainval"), ("VOC2007", "test"), ("VOC2012", "trainval"))
_IMAGE_ID = re.compile(r"(VOC2007|VOC2012)/[0-9_]{1,40}")


class Voc(Dataset):
    """VOC 2007 trainval and test with VOC 2012 trainval; ids are `VOC2007/000005`.

    A label is present when the image has a non-difficult object of it, shown when it has any. Both
    come from ImageSets/Main (1 present, 0 difficult only, -1 absent), or, where those class
    lists are absent, from Annotations/*.xml.
    """

    name = "voc"

    def __init__(self, root: Path) -> None:
        """Find the data in ROOT/VOCdevkit or ROOT; BenchError when neither has both years."""
        candidates = (root / "VOCdevkit", root)
        years = ("VOC2007", "VOC2012")
        found = next((p for p in candidates if any(is_folder(p / year) for year in years)), None)
        missing = [year for year in years if found is None or not is_folder(found / year)]
        if found is None or missing:
            where = str(found) if found else " or ".join(map(str, candidates))
            raise BenchError(
                f"there is no complete VOC 2007 + 2012 below {root}",
                expected="the folders VOC2007 and VOC2012 (in VOCdevkit/ or in the root itself)",
                found=f"no {' and no '.join(missing)} in {where}",
                remedy="unpack VOCtrainval_06-Nov-2007.tar, VOCtest_06-Nov-2007.tar and "
                "VOCtrainval_11-May-2012.tar there, or name another --data-root",
            )
        self.folder = found
        self._annotations: Annotations | None = None
        self._files = ImageFiles({year: found / year / "JPEGImages" for year in years})

    def annotations(self) -> Annotations:
        """The 20 labels in alphabetical order, the three sets' images sorted by id."""
        if self._annotations is None:
            rows: dict[str, npt.NDArray[np.int8]] = {}
            for year, image_set in SETS:
                names, values = read_set(self.folder / year, image_set, VOC_LABELS)
                for name, row in zip(names, values, strict=True):
                    image = f"{year}/{name}"
                    if image in rows:
                        raise BenchError(
                            f"the image {image} is in two sets of {self.folder / year}",
                            expected="trainval and test without common images",
                            found=f"{name} in {image_set}.txt and in another list",
                            remedy="unpack the official archives again",
                        )
                    rows[image] = row
            image_ids = tuple(sorted(rows))
            table = np.array([rows[image] for image in image_ids], np.int8)
            self._annotations = Annotations(
                VOC_LABELS, image_ids, present=table == 1, shown=table >= 0
            )
        return self._annotations

    def available(self, image_ids: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """bool [n]: which images have an image file in JPEGImages/."""
        return self._files.available(image_ids)

    def damaged(self) -> dict[str, str]:
        """Image id -> what lies in JPEGImages/ under its name in place of an image."""
        return self._files.damaged()

    def image_bytes(self, image_id: str) -> bytes:
        """The JPEG file of the image."""
        if not _IMAGE_ID.fullmatch(image_id):
            raise BenchError(
                f"{image_id!r} is not the id of a VOC image",
                expected="an id such as VOC2007/000005",
                found=repr(image_id),
                remedy="check which dataset the split was made of",
            )
        year, _, name = image_id.partition("/")
        return read_image_file(
            self.folder / year / "JPEGImages" / f"{name}.jpg",
            image_id,
            "unpack the official VOC archives there, or use --available-only",
        )

    def open_image(self, image_id: str) -> Image:
        """The image, decoded to RGB."""
        return decode_rgb(self.image_bytes(image_id), image_id)

    def masks(self, image_id: str) -> dict[str, npt.NDArray[np.bool_]]:
        """Label -> bool [H, W]: the boxes of its objects in the image as decoded.

        From Annotations/*.xml; a label is in the dict when it is present and its boxes are known.
        Difficult objects of such a label count as the label.
        """
        width, height = self.open_image(image_id).size
        year, _, name = image_id.partition("/")
        return read_masks(self.folder / year / "Annotations" / f"{name}.xml", height, width)

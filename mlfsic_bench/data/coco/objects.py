"""Where COCO's objects are: masks from polygons, run lengths or boxes, one image at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.coco.file import bad_file, read_instances
from mlfsic_bench.data.coco.labels import COCO_CATEGORIES
from mlfsic_bench.data.outlines import BROKEN, Mask, box_mask, polygon_mask, run_length_mask
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular, parse_json


@dataclass(frozen=True, eq=False)
class CocoObjects:
    """The annotations of one `instances_*.json`, sorted by image; outlines stay in the file.

    Attributes
    ----------
    path, state: the file, and its size and time of change when it was read.
    images: file name without its ending -> row of `first` and `sizes`.
    first: int64 [images + 1]; the annotations of an image are first[row] to first[row + 1].
    sizes: int64 [images, 2]; height and width as the file says, 0 where it does not.
    number, category, positive, box, place: as in `Instances`.
    """

    path: Path
    state: tuple[int, int]
    images: dict[str, int]
    first: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    number: npt.NDArray[np.int64]
    category: npt.NDArray[np.int64]
    positive: npt.NDArray[np.bool_]
    box: npt.NDArray[np.float64]
    place: npt.NDArray[np.int64]

    @staticmethod
    def read(path: Path) -> CocoObjects:
        """Read the annotation file, once; BenchError where it is broken."""
        try:
            state = _state(path)
        except OSError as error:
            raise bad_file(path, f"{type(error).__name__}: {error}") from error
        found = read_instances(path)
        order = np.argsort(found.row, kind="stable")
        return CocoObjects(
            path=path,
            state=state,
            images={name: row for row, name in enumerate(found.names)},
            first=np.searchsorted(found.row[order], np.arange(len(found.names) + 1)),
            sizes=found.sizes,
            number=found.number[order],
            category=found.category[order],
            positive=found.positive[order],
            box=found.box[order],
            place=found.place[order],
        )

    def masks(self, name: str, height: int, width: int) -> dict[str, Mask]:
        """Label -> bool [height, width]: where the image `name` shows its objects.

        The image is as it was decoded; outlines are stretched to it from the size the file gives,
        or taken as they are where it gives none. Only labels with an annotation that counts
        (`positive`) are in the dict, and only when each that counts has an outline or a box; a
        crowd of such a label belongs to its mask. Raises BenchError for a broken outline and for an
        image the file does not list.
        """
        row = self.images.get(name)
        if row is None:
            raise BenchError(
                f"{self.path} does not list the image {name}",
                expected="an image of the file",
                found=repr(name),
                remedy="check which dataset the split was made of",
            )
        size = (int(self.sizes[row, 0]), int(self.sizes[row, 1]))
        frame = size if all(size) else None
        masks: dict[str, Mask] = {}
        counts: set[str] = set()
        unknown: set[str] = set()
        for i in range(int(self.first[row]), int(self.first[row + 1])):
            label = COCO_CATEGORIES[int(self.category[i])]
            try:
                mask = self._mask(i, frame, height, width)
            except BROKEN as error:
                known = f", annotation {self.number[i]}" if self.number[i] >= 0 else ""
                raise BenchError(
                    f"the image {name} has a broken outline of {label!r} in {self.path}{known}",
                    expected="polygons, run lengths or a box of finite numbers",
                    found=f"{type(error).__name__}: {error}",
                    remedy="unpack the official annotations_trainval2014.zip again",
                ) from error
            if self.positive[i]:
                (counts if mask is not None else unknown).add(label)
            if mask is not None and mask.any():
                masks[label] = masks[label] | mask if label in masks else mask
        return {label: mask for label, mask in masks.items() if label in counts - unknown}

    def _mask(self, i: int, frame: tuple[int, int] | None, height: int, width: int) -> Mask | None:
        # None: nothing says where it is, or it is an empty box, which is nowhere.
        if (self.box[i, 2:] <= 0).any():
            return None
        h, w = frame or (height, width)
        scale = (height / h, width / w)
        if self.place[i].any():
            outline = self._outline(*self.place[i].tolist())
            if isinstance(outline, dict):
                mask = run_length_mask(outline, frame, height, width)
            else:
                mask = polygon_mask(outline, scale, height, width)
            if mask.any():
                return mask
        if np.isnan(self.box[i]).any():
            return None
        x, y, across, down = self.box[i].tolist()
        return box_mask(
            x * scale[1],
            y * scale[0],
            (x + across) * scale[1],
            (y + down) * scale[0],
            height,
            width,
        )

    def _outline(self, first: int, end: int) -> Any:
        try:
            if _state(self.path) != self.state:
                raise bad_file(self.path, "a file that changed after it was read")
            with open_regular(self.path) as stream:
                stream.seek(first)
                text = stream.read(end - first)
        except OSError as error:
            raise bad_file(self.path, f"{type(error).__name__}: {error}") from error
        return parse_json(text.decode("utf-8"))


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns

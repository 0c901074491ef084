"""What annotation files in COCO's format say: labels and masks; and a dataset of one such file.

COCO 2014 itself (`coco.py`) is two such files, of which the official categories are asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.coco_reader import ANY, Layout, Rows, places, read_carefully
from mlfsic_bench.data.dataset import Annotations
from mlfsic_bench.data.kept_labels import LabelTable, kept_table
from mlfsic_bench.data.listed import ListedImages
from mlfsic_bench.data.masks import (
    BROKEN,
    Mask,
    box_mask,
    masks_of_labels,
    polygon_mask,
    run_length_mask,
)
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular, parse_json
from mlfsic_bench.progress import LOG

SAID_BYTES = 32 << 20  # a file above this takes a while to read, and is named before


@dataclass(frozen=True, eq=False)
class Instances:
    """The annotations of one `instances_*.json`; outlines stay in the file.

    Attributes
    ----------
    path, state: the file, and its size and time of change when it was read.
    layout: what was asked of it.
    rows: what it says.
    """

    path: Path
    state: tuple[int, int]
    layout: Layout
    rows: Rows

    @staticmethod
    def read(path: Path, layout: Layout = ANY) -> Instances:
        """Read the annotation file; BenchError as `read_carefully`."""
        from mlfsic_bench.data.coco_plain import read_plain  # here: kept labels need none of it

        try:
            state = _state(path)
        except OSError as error:
            raise layout.bad_file(path, f"{type(error).__name__}: {error}") from error
        if state[0] > SAID_BYTES:
            LOG.info("reading %s, %d MiB", path, state[0] >> 20)
        rows = read_plain(path, layout) or read_carefully(path, layout)
        return Instances(path, state, layout, rows)

    def tables(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Present and shown, bool [images, categories] each, in the order of the file and the ids.

        A label is present when a non-crowd annotation has it whose box (or, without a box, area) is
        positive, or that says nothing of either; it is shown when any annotation has it.
        """
        found = self.rows
        column = np.searchsorted(list(found.categories), found.category)  # the ids are sorted
        shown = np.zeros((len(found.names), len(found.categories)), np.bool_)
        present = np.zeros_like(shown)
        shown[found.row, column] = True
        present[found.row[found.positive], column[found.positive]] = True
        return present, shown

    def masks(self, name: str, height: int, width: int) -> dict[str, Mask]:
        """Label -> bool [height, width]: where the image `name` shows its objects.

        The image is as it was decoded; outlines are stretched to it from the size the file gives,
        or taken as they are where it gives none. What counts is `positive` (`masks_of_labels`); a
        crowd of such a label belongs to its mask. Raises BenchError for a broken outline and for an
        image the file does not list.
        """
        known = self.rows
        row = known.names.get(name)
        if row is None:
            raise BenchError(
                f"{self.path} does not list the image {name}",
                expected="an image of the file",
                found=repr(name),
                remedy="check which dataset the split was made of",
            )
        size = (int(known.sizes[row, 0]), int(known.sizes[row, 1]))
        frame = size if all(size) else None
        found: list[tuple[str, bool, Mask | None]] = []
        first, order = self._by_image
        for i in order[first[row] : first[row + 1]].tolist():
            label = known.categories[int(known.category[i])]
            try:
                mask = self._mask(i, frame, height, width)
                found.append((label, bool(known.positive[i]), mask))
            except BROKEN as error:
                number = known.number[i]
                which = f", annotation {number}" if number >= 0 else ""
                raise BenchError(
                    f"the image {name} has a broken outline of {label!r} in {self.path}{which}",
                    expected="polygons, run lengths or a box of finite numbers",
                    found=f"{type(error).__name__}: {error}",
                    remedy=self.layout.remedy,
                ) from error
        return masks_of_labels(found)

    @cached_property
    def _by_image(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where the annotations of each image begin in the second array, which has their rows."""
        order = np.argsort(self.rows.row, kind="stable")
        return np.searchsorted(self.rows.row[order], np.arange(len(self.rows.files) + 1)), order

    @cached_property
    def _place(self) -> npt.NDArray[np.int64]:
        if self.rows.place is not None:
            return self.rows.place
        return places(self.path, self.layout, self.rows.outlined)

    def _mask(self, i: int, frame: tuple[int, int] | None, height: int, width: int) -> Mask | None:
        # None: nothing says where it is, or it is an empty box, which is nowhere.
        box = self.rows.box[i]
        if (box[2:] <= 0).any():
            return None
        h, w = frame or (height, width)
        scale = (height / h, width / w)
        if self.rows.outlined[i]:
            outline = self._outline(i)
            if isinstance(outline, dict):
                mask = run_length_mask(outline, frame, height, width)
            else:
                mask = polygon_mask(outline, scale, height, width)
            if mask.any():
                return mask
        if np.isnan(box).any():
            return None
        x, y, across, down = box.tolist()
        return box_mask(
            x * scale[1],
            y * scale[0],
            (x + across) * scale[1],
            (y + down) * scale[0],
            height,
            width,
        )

    def _outline(self, i: int) -> Any:
        try:
            if _state(self.path) != self.state:
                raise self.layout.bad_file(self.path, "a file that changed after it was read")
            first, end = self._place[i].tolist()
            with open_regular(self.path) as stream:
                stream.seek(first)
                text = stream.read(end - first)
        except OSError as error:
            raise self.layout.bad_file(self.path, f"{type(error).__name__}: {error}") from error
        return parse_json(text.decode("utf-8"))


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


class CocoFormat(ListedImages):
    """The images of one annotation file in COCO's format, with the file's own categories.

    Labels are in the order of the category ids, and count as those of COCO 2014 do
    (`Instances.tables`). An image's id is its `file_name` without the ending.

    Parameters
    ----------
    file: the annotation file.
    root: the folder that its file names start from; None: the file's own.
    name: the dataset's name.
    """

    def __init__(self, file: Path, root: Path | None, name: str) -> None:
        super().__init__(root if root is not None else file.parent)
        self.name = name
        self._file = file
        self._instances: Instances | None = None

    def annotations(self) -> Annotations:
        """The labels of the file's categories, its images sorted by id."""
        return self._table.annotations

    def masks(self, image_id: str) -> dict[str, Mask]:
        """Label -> bool [H, W]: the pixels of the image (as decoded) where its objects are seen."""
        width, height = self.open_image(image_id).size
        return self._read().masks(image_id, height, width)

    def _paths(self) -> dict[str, str]:
        return self._table.files()

    @cached_property
    def _table(self) -> LabelTable:
        return kept_table("coco-format", [self._file], self._make_table)

    def _make_table(self) -> LabelTable:
        found = self._read()
        present, shown = found.tables()
        labels = tuple(found.rows.categories.values())
        return LabelTable.of(labels, found.rows.files, present, shown)

    def _read(self) -> Instances:
        if self._instances is None:
            self._instances = Instances.read(self._file)
        return self._instances

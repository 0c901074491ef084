"""COCO's annotation format, with any categories: its strict reader, and a dataset of one file.

COCO 2014 itself (`coco.py`) is two such files, of which the official categories are asked.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.dataset import Annotations
from mlfsic_bench.data.listed import ListedImages, image_id_of
from mlfsic_bench.data.masks import (
    BROKEN,
    Mask,
    box_mask,
    masks_of_labels,
    polygon_mask,
    run_length_mask,
)
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular, parse_json, read_limited
from mlfsic_bench.progress import LOG, tracked
from mlfsic_bench.schema import label_problem

MAX_BYTES = 2 << 30
SAID_BYTES = 32 << 20  # a file above this takes seconds to read, and is named before
_LARGEST_SIDE = 1 << 20
_LARGEST_ID = (1 << 63) - 1
# Polygons are nine tenths of the official files; leaving them out before parsing saves gigabytes of
# Python floats. Inside a JSON string the key's quotes would be escaped, so the pattern can match
# only a key.
_SEGMENTATION = re.compile(rb'"segmentation"\s*:\s*(\[[0-9eE+\-.,\s\[\]]*\]|\{[^{}]*\})')
_Box = tuple[float, float, float, float]
_NO_BOX: _Box = (math.nan, math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Layout:
    """What a file in this format must be like beyond the format.

    Attributes
    ----------
    what, expected, remedy: for the error about a file that is none of these.
    categories: category id -> label, in the order of the ids; None: those of the file.
    file_name: what a file name looks like; None: any that gives an image id (`image_id_of`).
    """

    what: str
    expected: str
    remedy: str
    categories: Mapping[int, str] | None = None
    file_name: re.Pattern[str] | None = None

    def bad_file(self, path: Path, found: str) -> BenchError:
        """The error for a file that is none of these."""
        return BenchError(
            f"{path} is not {self.what}", expected=self.expected, found=found, remedy=self.remedy
        )

    def name_of(self, file_name: Any) -> str:
        """The image's name of a file name; ValueError for one that can't be."""
        if self.file_name is None:
            return image_id_of(file_name)
        if not isinstance(file_name, str) or not self.file_name.fullmatch(file_name):
            raise ValueError(f"the file name {file_name!r:.200}")
        return file_name.rpartition(".")[0]


ANY = Layout(
    what="an annotation file in COCO's format",
    expected="JSON with images, annotations and categories, every annotation naming an image and a "
    "category of the file",
    remedy="correct the file (docs/datasets.md)",
)


@dataclass(frozen=True, eq=False)
class Instances:
    """The annotations of one `instances_*.json`, sorted by image; outlines stay in the file.

    Every field that is used is checked. A field of a wrong type is an error that names the
    annotation: taken for a number, `true` or "12" would move a label to another category or let it
    vanish without a word.

    Attributes
    ----------
    path, state: the file, and its size and time of change when it was read.
    layout: what was asked of it.
    categories: category id -> label, in the order of the ids.
    names: name of each image (its file without its ending), in the file's order -> its row.
    files: the file name of each image.
    first: int64 [images + 1]; the annotations of an image are first[row] to first[row + 1].
    sizes: int64 [images, 2]; height and width as the file says, 0 where it does not.
    number: int64 [n]; id of each annotation, -1 without one.
    category: int64 [n]; category id.
    positive: bool [n]; whether it makes its label present: no crowd, no box or area of zero.
    box: float64 [n, 4]; x, y, width, height, NaN without a box.
    place: int64 [n, 2]; first and last byte + 1 of its segmentation in the file, 0 0 without one.
    """

    path: Path
    state: tuple[int, int]
    layout: Layout
    categories: dict[int, str]
    names: dict[str, int]
    files: tuple[str, ...]
    first: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    number: npt.NDArray[np.int64]
    category: npt.NDArray[np.int64]
    positive: npt.NDArray[np.bool_]
    box: npt.NDArray[np.float64]
    place: npt.NDArray[np.int64]

    @staticmethod
    def read(path: Path, layout: Layout = ANY) -> Instances:
        """Read the annotation file; BenchError for what `layout` refuses, naming the annotation.

        JSON is strict (`parse_json`). Ids are whole numbers, each once; `iscrowd` is 0, 1, false or
        true; boxes and areas are finite numbers. Without a box (none, null or []) the area decides.
        """
        try:
            state = _state(path)
        except OSError as error:
            raise layout.bad_file(path, f"{type(error).__name__}: {error}") from error
        data = _parse(path, layout)
        categories = _categories(path, data["categories"], layout)
        images = [_image(path, i, entry, layout) for i, entry in enumerate(data["images"])]
        row_of = {image.number: row for row, image in enumerate(images)}
        if len(row_of) != len(images) or len({image.name for image in images}) != len(images):
            raise layout.bad_file(path, "an image id or file name that stands twice")
        number, row, category, place = (array("q") for _ in range(4))
        positive, box = array("b"), array("d")
        seen: set[int] = set()
        annotations = tracked(data["annotations"], f"reading {path.name}", unit="annotations")
        for i, entry in enumerate(annotations):
            try:
                found = _annotation(entry, row_of, categories)
                if found.number in seen:
                    raise ValueError("its id stands twice")
            except ValueError as error:
                raise layout.bad_file(path, f"{_named(entry, i)}: {error}") from error
            if found.number >= 0:
                seen.add(found.number)
            number.append(found.number)
            row.append(found.row)
            category.append(found.category)
            positive.append(found.positive)
            box.extend(found.box)
            place.extend(found.place)
        rows = np.array(row, np.int64)
        order = np.argsort(rows, kind="stable")
        return Instances(
            path=path,
            state=state,
            layout=layout,
            categories=categories,
            names={image.name: at for at, image in enumerate(images)},
            files=tuple(image.file for image in images),
            first=np.searchsorted(rows[order], np.arange(len(images) + 1)),
            sizes=np.array([image.size for image in images], np.int64).reshape(-1, 2),
            number=np.array(number, np.int64)[order],
            category=np.array(category, np.int64)[order],
            positive=np.array(positive, np.bool_)[order],
            box=np.array(box, np.float64).reshape(-1, 4)[order],
            place=np.array(place, np.int64).reshape(-1, 2)[order],
        )

    @property
    def row(self) -> npt.NDArray[np.int64]:
        """int64 [n]: the image of each annotation, as a place in `names`."""
        return np.repeat(np.arange(len(self.names)), np.diff(self.first))

    def tables(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Present and shown, bool [images, categories] each, in the order of the file and the ids.

        A label is present when a non-crowd annotation has it whose box (or, without a box, area) is
        positive, or that says nothing of either; it is shown when any annotation has it.
        """
        column = np.searchsorted(list(self.categories), self.category)  # the ids are sorted
        shown = np.zeros((len(self.names), len(self.categories)), np.bool_)
        present = np.zeros_like(shown)
        shown[self.row, column] = True
        present[self.row[self.positive], column[self.positive]] = True
        return present, shown

    def masks(self, name: str, height: int, width: int) -> dict[str, Mask]:
        """Label -> bool [height, width]: where the image `name` shows its objects.

        The image is as it was decoded; outlines are stretched to it from the size the file gives,
        or taken as they are where it gives none. What counts is `positive` (`masks_of_labels`); a
        crowd of such a label belongs to its mask. Raises BenchError for a broken outline and for an
        image the file does not list.
        """
        row = self.names.get(name)
        if row is None:
            raise BenchError(
                f"{self.path} does not list the image {name}",
                expected="an image of the file",
                found=repr(name),
                remedy="check which dataset the split was made of",
            )
        size = (int(self.sizes[row, 0]), int(self.sizes[row, 1]))
        frame = size if all(size) else None
        found: list[tuple[str, bool, Mask | None]] = []
        for i in range(int(self.first[row]), int(self.first[row + 1])):
            label = self.categories[int(self.category[i])]
            try:
                mask = self._mask(i, frame, height, width)
                found.append((label, bool(self.positive[i]), mask))
            except BROKEN as error:
                known = f", annotation {self.number[i]}" if self.number[i] >= 0 else ""
                raise BenchError(
                    f"the image {name} has a broken outline of {label!r} in {self.path}{known}",
                    expected="polygons, run lengths or a box of finite numbers",
                    found=f"{type(error).__name__}: {error}",
                    remedy=self.layout.remedy,
                ) from error
        return masks_of_labels(found)

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
                raise self.layout.bad_file(self.path, "a file that changed after it was read")
            with open_regular(self.path) as stream:
                stream.seek(first)
                text = stream.read(end - first)
        except OSError as error:
            raise self.layout.bad_file(self.path, f"{type(error).__name__}: {error}") from error
        return parse_json(text.decode("utf-8"))


def _parse(path: Path, layout: Layout) -> dict[str, Any]:
    """The file's object, each `segmentation` replaced by the place of its text, [first, end]."""
    try:
        if (size := _state(path)[0]) > SAID_BYTES:
            LOG.info("reading %s, %d MiB", path, size >> 20)
        text = read_limited(path, MAX_BYTES)
        text = _SEGMENTATION.sub(lambda m: b'"segmentation":[%d,%d]' % m.span(1), text)
        data = parse_json(text.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise layout.bad_file(path, f"{type(error).__name__}: {error}") from error
    keys = ("images", "annotations", "categories")
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in keys):
        raise layout.bad_file(path, f"no object with the lists {', '.join(keys)}")
    return data


def _categories(path: Path, categories: list[Any], layout: Layout) -> dict[int, str]:
    """Category id -> label, sorted by id."""
    found = [
        (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, repr(entry))
        for entry in categories
    ]
    official = layout.categories
    if official is not None:
        right = [
            type(number) is int and isinstance(name, str) and official.get(number) == name
            for number, name in found
        ]
        lacking = [pair for pair in official.items() if pair not in found]
        if not all(right) or lacking or len(found) != len(official):
            wrong = [pair for pair, ok in zip(found, right, strict=True) if not ok] + lacking
            raise layout.bad_file(
                path,
                f"{len(found)} categories that differ from the official {len(official)} in: "
                f"{wrong[:4]!r:.200}",
            )
        return dict(official)
    known: dict[int, str] = {}
    for i, (number, name) in enumerate(found):
        try:
            problem = label_problem(name)
            if problem:
                raise ValueError(f"its name is {name!r:.120}, not {problem}")
            key, label = _id(number, "id"), str(name)
            if key in known or label in known.values():
                raise ValueError(f"its id {key} or its name {label!r} stands twice")
        except ValueError as error:
            raise layout.bad_file(path, f"category number {i + 1} of the file: {error}") from error
        known[key] = label
    if not known:
        raise layout.bad_file(path, "no category")
    return dict(sorted(known.items()))


class _Image(NamedTuple):
    """An image of the file; `size` is (height, width), or (0, 0) where the file does not say."""

    number: int
    name: str
    file: str
    size: tuple[int, int]


def _image(path: Path, i: int, entry: Any, layout: Layout) -> _Image:
    try:
        number = _id(_field(entry, "id"), "id")
        file = _field(entry, "file_name")
        name = layout.name_of(file)
        if "height" not in entry and "width" not in entry:
            return _Image(number, name, file, (0, 0))
        size = _field(entry, "height"), _field(entry, "width")
        if any(type(side) is not int or not 0 < side <= _LARGEST_SIDE for side in size):
            raise ValueError(f"its height and width are {list(size)!r:.80}")
    except ValueError as error:
        raise layout.bad_file(path, f"image number {i + 1} of the file: {error}") from error
    return _Image(number, name, file, size)


class _Annotation(NamedTuple):
    """One row of `Instances`."""

    number: int
    row: int
    category: int
    positive: bool
    box: _Box
    place: tuple[int, int]


def _annotation(entry: Any, row_of: dict[int, int], categories: Mapping[int, str]) -> _Annotation:
    """The row of an annotation; ValueError saying which of its fields is wrong."""
    image = _id(_field(entry, "image_id"), "image_id")
    category = _id(_field(entry, "category_id"), "category_id")
    number = _id(entry["id"], "id") if "id" in entry else -1
    if category not in categories:
        raise ValueError(f"the unknown category {category}")
    if image not in row_of:
        raise ValueError(f"the missing image {image}")
    crowd = entry.get("iscrowd", 0)
    if type(crowd) not in (int, bool) or crowd not in (0, 1):
        raise ValueError(f"its iscrowd is {crowd!r:.80}, not 0, 1, false or true")
    area = entry.get("area")
    if area is not None and not _is_finite(area):
        raise ValueError(f"its area is {area!r:.80}, not a finite number")
    box = _box(entry.get("bbox"))
    has_box = box is not _NO_BOX
    flat = min(box[2:]) <= 0 if has_box else area is not None and area <= 0
    place = _place(entry.get("segmentation"))
    return _Annotation(number, row_of[image], category, not (crowd or flat), box, place)


def _field(entry: Any, key: str) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise ValueError(f"it has no {key}")
    return entry[key]


def _id(value: Any, key: str) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST_ID:
        raise ValueError(f"its {key} is {value!r:.80}, not a whole number from 0")
    return value


def _box(value: Any) -> _Box:
    if value is None or value == []:  # some exporters write [] for none
        return _NO_BOX
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_finite, value)):
        raise ValueError(f"its bbox is {value!r:.80}, not four finite numbers")
    x, y, width, height = map(float, value)
    return x, y, width, height


def _is_finite(value: Any) -> bool:
    return (type(value) is float and math.isfinite(value)) or (
        type(value) is int and abs(value) < 1 << 1000  # float() raises beyond its range
    )


def _place(value: Any) -> tuple[int, int]:
    if value is None:
        return 0, 0
    # Anything else is an outline that the pattern of `_parse` did not know as one.
    if (
        not isinstance(value, list)
        or [type(offset) for offset in value] != [int, int]
        or not 0 < value[0] < value[1]
    ):
        raise ValueError(f"its segmentation is {value!r:.80}, not polygons or run lengths")
    return value[0], value[1]


def _named(entry: Any, i: int) -> str:
    number = entry.get("id") if isinstance(entry, dict) else None
    if type(number) is int and number >= 0:
        return f"annotation {number}"
    return f"annotation number {i + 1} of the file"


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
        self._read: Instances | None = None
        self._annotations: Annotations | None = None

    def annotations(self) -> Annotations:
        """The labels of the file's categories, its images sorted by id."""
        if self._annotations is None:
            found = self._instances()
            present, shown = found.tables()
            names = list(found.names)
            order = sorted(range(len(names)), key=names.__getitem__)
            self._annotations = Annotations(
                labels=tuple(found.categories.values()),
                image_ids=tuple(names[row] for row in order),
                present=present[order],
                shown=shown[order],
            )
        return self._annotations

    def masks(self, image_id: str) -> dict[str, Mask]:
        """Label -> bool [H, W]: the pixels of the image (as decoded) where its objects are seen."""
        width, height = self.open_image(image_id).size
        return self._instances().masks(image_id, height, width)

    def _paths(self) -> dict[str, str]:
        found = self._instances()
        return dict(zip(found.names, found.files, strict=True))

    def _instances(self) -> Instances:
        if self._read is None:
            self._read = Instances.read(self._file)
        return self._read

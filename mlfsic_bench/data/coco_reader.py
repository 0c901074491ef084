"""Reading annotation files in COCO's format, strictly, with any categories.

There are two ways to read one. Files written as the official ones are go the fast way, with types
and in pieces (`coco_plain`). What is not plain in this sense goes the careful way, here: entry by
entry. It decides what a file says, and its errors name the annotation.
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

from mlfsic_bench.data.listed import image_id_of
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import parse_json, read_limited
from mlfsic_bench.progress import tracked
from mlfsic_bench.schema import label_problem

MAX_BYTES = 2 << 30
LARGEST_SIDE = 1 << 20
_LARGEST_ID = (1 << 63) - 1
# Polygons are nine tenths of the official files; leaving them out before parsing saves gigabytes of
# Python floats. Inside a JSON string the key's quotes would be escaped, so the pattern can match
# only a key.
_SEGMENTATION = re.compile(rb'"segmentation"\s*:\s*(\[[0-9eE+\-.,\s\[\]]*\]|\{[^{}]*\})')
_Box = tuple[float, float, float, float]
NO_BOX: _Box = (math.nan, math.nan, math.nan, math.nan)


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
class Rows:
    """What an annotation file says, image by image and annotation by annotation, in its order.

    Attributes
    ----------
    categories: category id -> label, in the order of the ids.
    names: name of each image (its file without its ending) -> its row.
    files: the file name of each image.
    sizes: int64 [images, 2]; height and width as the file says, 0 where it does not.
    number: int64 [n]; id of each annotation, -1 without one.
    row: int64 [n]; the image's row.
    category: int64 [n]; category id.
    positive: bool [n]; whether it makes its label present: no crowd, no box or area of zero.
    box: float64 [n, 4]; x, y, width, height, NaN without a box.
    outlined: bool [n]; whether it has a segmentation.
    place: int64 [n, 2]; first and last byte + 1 of its segmentation in the file, 0 0 without one.
        None after the fast way: `places` finds them.
    """

    categories: dict[int, str]
    names: dict[str, int]
    files: tuple[str, ...]
    sizes: npt.NDArray[np.int64]
    number: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    category: npt.NDArray[np.int64]
    positive: npt.NDArray[np.bool_]
    box: npt.NDArray[np.float64]
    outlined: npt.NDArray[np.bool_]
    place: npt.NDArray[np.int64] | None = None


def read_carefully(path: Path, layout: Layout) -> Rows:
    """Read an annotation file; BenchError for what `layout` refuses, naming the annotation.

    JSON is strict (`parse_json`). Ids are whole numbers, each once; `iscrowd` is 0, 1, false or
    true; boxes and areas are finite numbers. Without a box (none, null or []) the area decides.
    A field of a wrong type is an error: taken for a number, `true` or "12" would move a label to
    another category or let it vanish without a word.
    """
    data = _parse(path, layout)
    categories = categories_of(path, data["categories"], layout)
    images = [_image(path, i, entry, layout) for i, entry in enumerate(data["images"])]
    row_of = {image.number: row for row, image in enumerate(images)}
    names = {image.name: row for row, image in enumerate(images)}
    if len(row_of) != len(images) or len(names) != len(images):
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
    places = np.array(place, np.int64).reshape(-1, 2)
    return Rows(
        categories=categories,
        names=names,
        files=tuple(image.file for image in images),
        sizes=np.array([image.size for image in images], np.int64).reshape(-1, 2),
        number=np.array(number, np.int64),
        row=np.array(row, np.int64),
        category=np.array(category, np.int64),
        positive=np.array(positive, np.bool_),
        box=np.array(box, np.float64).reshape(-1, 4),
        outlined=places[:, 1] > 0,
        place=places,
    )


def places(path: Path, layout: Layout, outlined: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """int64 [n, 2]: `Rows.place` of a file that went the fast way; BenchError as `read_carefully`.

    There all segmentations are those of annotations, in their order.
    """
    try:
        text = read_limited(path, MAX_BYTES)
    except OSError as error:
        raise layout.bad_file(path, f"{type(error).__name__}: {error}") from error
    spans = array("q")
    for match in _SEGMENTATION.finditer(text):
        spans.extend(match.span(1))
    if len(spans) != 2 * outlined.sum():  # a key that is spelled with an escape
        found = read_carefully(path, layout).place
        assert found is not None
        return found
    place = np.zeros((len(outlined), 2), np.int64)
    place[outlined] = np.array(spans, np.int64).reshape(-1, 2)
    return place


def _parse(path: Path, layout: Layout) -> dict[str, Any]:
    """The file's object, each `segmentation` replaced by the place of its text, [first, end]."""
    try:
        text = read_limited(path, MAX_BYTES)
        text = _SEGMENTATION.sub(lambda m: b'"segmentation":[%d,%d]' % m.span(1), text)
        data = parse_json(text.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise layout.bad_file(path, f"{type(error).__name__}: {error}") from error
    keys = ("images", "annotations", "categories")
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in keys):
        raise layout.bad_file(path, f"no object with the lists {', '.join(keys)}")
    return data


def categories_of(path: Path, categories: list[Any], layout: Layout) -> dict[int, str]:
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
        if any(type(side) is not int or not 0 < side <= LARGEST_SIDE for side in size):
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
    has_box = box is not NO_BOX
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
        return NO_BOX
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

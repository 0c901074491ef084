"""COCO 2014: the official `instances_{train,val}2014.json`, with or without boxes."""

from __future__ import annotations

import math
import os
import re
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data import coco_counts
from mlfsic_bench.data.dataset import Annotations
from mlfsic_bench.data.images import ImageFiles
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
from mlfsic_bench.paths import is_file, is_folder
from mlfsic_bench.progress import LOG, tracked

_TABLE = """
1 person, 2 bicycle, 3 car, 4 motorcycle, 5 airplane, 6 bus, 7 train, 8 truck, 9 boat,
10 traffic light, 11 fire hydrant, 13 stop sign, 14 parking meter, 15 bench, 16 bird, 17 cat,
18 dog, 19 horse, 20 sheep, 21 cow, 22 elephant, 23 bear, 24 zebra, 25 giraffe, 27 backpack,
28 umbrella, 31 handbag, 32 tie, 33 suitcase, 34 frisbee, 35 skis, 36 snowboard, 37 sports ball,
38 kite, 39 baseball bat, 40 baseball glove, 41 skateboard, 42 surfboard, 43 tennis racket,
44 bottle, 46 wine glass, 47 cup, 48 fork, 49 knife, 50 spoon, 51 bowl, 52 banana, 53 apple,
54 sandwich, 55 orange, 56 broccoli, 57 carrot, 58 hot dog, 59 pizza, 60 donut, 61 cake,
62 chair, 63 couch, 64 potted plant, 65 bed, 67 dining table, 70 toilet, 72 tv, 73 laptop,
74 mouse, 75 remote, 76 keyboard, 77 cell phone, 78 microwave, 79 oven, 80 toaster, 81 sink,
82 refrigerator, 84 book, 85 clock, 86 vase, 87 scissors, 88 teddy bear, 89 hair drier,
90 toothbrush
"""

COCO_CATEGORIES: dict[int, str] = {
    int(number): name
    for number, _, name in (entry.strip().partition(" ") for entry in _TABLE.split(","))
}

MAX_BYTES = 2 << 30
SAID_BYTES = 32 << 20  # a file above this takes seconds to read, and is named before
_LARGEST_SIDE = 1 << 20
_LARGEST_ID = (1 << 63) - 1
_FILE_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}\.jpg")
# Polygons are nine tenths of the official files; leaving them out before parsing saves gigabytes of
# Python floats. Inside a JSON string the key's quotes would be escaped, so the pattern can match
# only a key.
_SEGMENTATION = re.compile(rb'"segmentation"\s*:\s*(\[[0-9eE+\-.,\s\[\]]*\]|\{[^{}]*\})')
_Box = tuple[float, float, float, float]
_NO_BOX: _Box = (math.nan, math.nan, math.nan, math.nan)


@dataclass(frozen=True, eq=False)
class Instances:
    """The annotations of one `instances_*.json`, sorted by image; outlines stay in the file.

    Every field that is used is checked. A field of a wrong type is an error that names the
    annotation: taken for a number, `true` or "12" would move a label to another category or let it
    vanish without a word.

    Attributes
    ----------
    path, state: the file, and its size and time of change when it was read.
    names: file name of each image without `.jpg`, in the file's order -> its row.
    first: int64 [images + 1]; the annotations of an image are first[row] to first[row + 1].
    sizes: int64 [images, 2]; height and width as the file says, 0 where it does not.
    number: int64 [n]; id of each annotation, -1 without one.
    category: int64 [n]; official category id.
    positive: bool [n]; whether it makes its label present: no crowd, no box or area of zero.
    box: float64 [n, 4]; x, y, width, height, NaN without a box.
    place: int64 [n, 2]; first and last byte + 1 of its segmentation in the file, 0 0 without one.
    """

    path: Path
    state: tuple[int, int]
    names: dict[str, int]
    first: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    number: npt.NDArray[np.int64]
    category: npt.NDArray[np.int64]
    positive: npt.NDArray[np.bool_]
    box: npt.NDArray[np.float64]
    place: npt.NDArray[np.int64]

    @staticmethod
    def read(path: Path) -> Instances:
        """Read the annotation file; BenchError for what is not COCO 2014's, naming the annotation.

        JSON is strict (`parse_json`). Ids are whole numbers, each once; `iscrowd` is 0, 1, false or
        true; boxes and areas are finite numbers. Without a box (none, null or []) the area decides.
        """
        try:
            state = _state(path)
        except OSError as error:
            raise bad_file(path, f"{type(error).__name__}: {error}") from error
        data = _parse(path)
        _check_categories(path, data["categories"])
        images = [_image(path, i, entry) for i, entry in enumerate(data["images"])]
        row_of = {number: row for row, (number, _, _) in enumerate(images)}
        if len(row_of) != len(images) or len({name for _, name, _ in images}) != len(images):
            raise bad_file(path, "an image id or file name that stands twice")
        number, row, category, place = (array("q") for _ in range(4))
        positive, box = array("b"), array("d")
        seen: set[int] = set()
        annotations = tracked(data["annotations"], f"reading {path.name}", unit="annotations")
        for i, entry in enumerate(annotations):
            try:
                found = _annotation(entry, row_of)
                if found.number in seen:
                    raise ValueError("its id stands twice")
            except ValueError as error:
                raise bad_file(path, f"{_named(entry, i)}: {error}") from error
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
            names={name: at for at, (_, name, _) in enumerate(images)},
            first=np.searchsorted(rows[order], np.arange(len(images) + 1)),
            sizes=np.array([size for _, _, size in images], np.int64).reshape(-1, 2),
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
            label = COCO_CATEGORIES[int(self.category[i])]
            try:
                mask = self._mask(i, frame, height, width)
                found.append((label, bool(self.positive[i]), mask))
            except BROKEN as error:
                known = f", annotation {self.number[i]}" if self.number[i] >= 0 else ""
                raise BenchError(
                    f"the image {name} has a broken outline of {label!r} in {self.path}{known}",
                    expected="polygons, run lengths or a box of finite numbers",
                    found=f"{type(error).__name__}: {error}",
                    remedy="unpack the official annotations_trainval2014.zip again",
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
                raise bad_file(self.path, "a file that changed after it was read")
            with open_regular(self.path) as stream:
                stream.seek(first)
                text = stream.read(end - first)
        except OSError as error:
            raise bad_file(self.path, f"{type(error).__name__}: {error}") from error
        return parse_json(text.decode("utf-8"))


def _parse(path: Path) -> dict[str, Any]:
    """The file's object, each `segmentation` replaced by the place of its text, [first, end]."""
    try:
        with open_regular(path) as stream:
            if (size := os.fstat(stream.fileno()).st_size) > SAID_BYTES:
                LOG.info("reading %s, %d MiB", path, size >> 20)
            text = stream.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise bad_file(path, f"more than {MAX_BYTES} bytes")
        text = _SEGMENTATION.sub(lambda m: b'"segmentation":[%d,%d]' % m.span(1), text)
        data = parse_json(text.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise bad_file(path, f"{type(error).__name__}: {error}") from error
    keys = ("images", "annotations", "categories")
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in keys):
        raise bad_file(path, f"no object with the lists {', '.join(keys)}")
    return data


def _check_categories(path: Path, categories: list[Any]) -> None:
    found = [
        (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, repr(entry))
        for entry in categories
    ]
    official = [
        (type(number) is int and isinstance(name, str) and COCO_CATEGORIES.get(number) == name)
        for number, name in found
    ]
    lacking = [pair for pair in COCO_CATEGORIES.items() if pair not in found]
    if not all(official) or lacking or len(found) != len(COCO_CATEGORIES):
        wrong = [pair for pair, right in zip(found, official, strict=True) if not right] + lacking
        raise bad_file(
            path,
            f"{len(found)} categories that differ from the official 80 in: {wrong[:4]!r:.200}",
        )


def _image(path: Path, i: int, entry: Any) -> tuple[int, str, tuple[int, int]]:
    """Id, file name without its ending, and (height, width) or (0, 0) of an image."""
    try:
        number = _id(_field(entry, "id"), "id")
        name = _field(entry, "file_name")
        if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
            raise ValueError(f"the file name {name!r:.200}")
        if "height" not in entry and "width" not in entry:
            return number, name[:-4], (0, 0)
        size = _field(entry, "height"), _field(entry, "width")
        if any(type(side) is not int or not 0 < side <= _LARGEST_SIDE for side in size):
            raise ValueError(f"its height and width are {list(size)!r:.80}")
    except ValueError as error:
        raise bad_file(path, f"image number {i + 1} of the file: {error}") from error
    return number, name[:-4], size


class _Annotation(NamedTuple):
    """One row of `Instances`."""

    number: int
    row: int
    category: int
    positive: bool
    box: _Box
    place: tuple[int, int]


def _annotation(entry: Any, row_of: dict[int, int]) -> _Annotation:
    """The row of an annotation; ValueError saying which of its fields is wrong."""
    image = _id(_field(entry, "image_id"), "image_id")
    category = _id(_field(entry, "category_id"), "category_id")
    number = _id(entry["id"], "id") if "id" in entry else -1
    if category not in COCO_CATEGORIES:
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


def bad_file(path: Path, found: str) -> BenchError:
    """The error for a file that is not COCO's."""
    return BenchError(
        f"{path} is not the annotation file of COCO 2014",
        expected="JSON with images, annotations and the 80 official categories, "
        "every annotation naming an image and a category of the file",
        found=found,
        remedy="unpack the official annotations_trainval2014.zip again",
    )


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


FOLDERS = ("train2014", "val2014")


class Coco(ImageFiles):
    """COCO 2014, train and val together; ids are `train2014/COCO_train2014_000000000009`.

    A label is present when a non-crowd annotation has it whose box (or, without a box, area) is
    positive, or that says nothing of either; it is shown when any annotation has it.
    """

    name = "coco"
    title = "COCO 2014"
    anchors = coco_counts.ANCHORS
    image_id = re.compile(r"(train2014|val2014)/[A-Za-z0-9_-]{1,100}")
    example = "train2014/COCO_train2014_000000000009"
    unpack = "unpack train2014.zip and val2014.zip"

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
        super().__init__({name: found / name for name in FOLDERS})
        self.folder = found
        self._annotations: Annotations | None = None
        self._order: dict[str, tuple[str, ...]] = {}
        self._counts: dict[str, int] = {}
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
            val = parts[FOLDERS.index("val2014")][2].sum(axis=0).tolist()
            self._counts = coco_counts.named(
                {f: len(part[0]) for f, part in zip(FOLDERS, parts, strict=True)},
                {f: part[3] for f, part in zip(FOLDERS, parts, strict=True)},
                dict(zip(COCO_CATEGORIES.values(), val, strict=True)),
            )
            ids = [image for part in parts for image in part[0]]
            order = sorted(range(len(ids)), key=ids.__getitem__)
            self._annotations = Annotations(
                labels=tuple(COCO_CATEGORIES.values()),
                image_ids=tuple(ids[i] for i in order),
                present=np.concatenate([part[1] for part in parts])[order],
                shown=np.concatenate([part[2] for part in parts])[order],
            )
        return self._annotations

    def counts(self) -> dict[str, int]:
        """Images and annotations of each file, images of val2014 with each label."""
        self.annotations()
        return self._counts

    def file_order(self, folder: str) -> tuple[str, ...]:
        """The ids of one year's images in the order in which its annotation file lists them."""
        self.annotations()
        return self._order[folder]

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
) -> tuple[list[str], npt.NDArray[np.bool_], npt.NDArray[np.bool_], int]:
    """Image ids, present and shown (bool [n, 80]), number of annotations of one file."""
    found = Instances.read(path)
    column = np.searchsorted(list(COCO_CATEGORIES), found.category)  # the ids are sorted
    shown = np.zeros((len(found.names), len(COCO_CATEGORIES)), np.bool_)
    present = np.zeros_like(shown)
    shown[found.row, column] = True
    present[found.row[found.positive], column[found.positive]] = True
    return [f"{folder}/{name}" for name in found.names], present, shown, len(found.category)

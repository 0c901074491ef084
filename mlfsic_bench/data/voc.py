"""PASCAL VOC 2007 (trainval and test) and 2012 (trainval): class lists or XML annotations.

Labels come from the class lists, or from the XML where these are lacking; where objects are comes
from the boxes in the XML, which is read without trusting it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.dataset import Annotations
from mlfsic_bench.data.images import ImageFiles
from mlfsic_bench.data.masks import BROKEN, Mask, box_mask, masks_of_labels
from mlfsic_bench.errors import BenchError, nearest
from mlfsic_bench.files import open_regular, read_decimal, read_limited
from mlfsic_bench.paths import exists, is_file, is_folder
from mlfsic_bench.progress import tracked

VOC_LABELS = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
SETS = (("VOC2007", "trainval"), ("VOC2007", "test"), ("VOC2012", "trainval"))


class Voc(ImageFiles):
    """VOC 2007 trainval and test with VOC 2012 trainval; ids are `VOC2007/000005`.

    A label is present when the image has a non-difficult object of it, shown when it has any. Both
    come from ImageSets/Main (1 present, 0 difficult only, -1 absent), or, where those class
    lists are absent, from Annotations/*.xml.
    """

    name = "voc"
    title = "VOC"
    bibtex = """\
@article{everingham2010pascal,
  title = {The {PASCAL} Visual Object Classes ({VOC}) Challenge},
  author = {Everingham, Mark and Van Gool, Luc and Williams, Christopher K. I. and Winn, John
    and Zisserman, Andrew},
  journal = {International Journal of Computer Vision},
  volume = {88}, number = {2}, pages = {303--338}, year = {2010}
}"""
    image_id = re.compile(r"(VOC2007|VOC2012)/[0-9_]{1,40}")
    example = "VOC2007/000005"
    unpack = "unpack the official VOC archives"

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
        super().__init__({year: found / year / "JPEGImages" for year in years})
        self.folder = found
        self._annotations: Annotations | None = None

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

    def masks(self, image_id: str) -> dict[str, npt.NDArray[np.bool_]]:
        """Label -> bool [H, W]: the boxes of its objects in the image as decoded.

        From Annotations/*.xml; a label is in the dict when it is present and its boxes are known.
        Difficult objects of such a label count as the label.
        """
        width, height = self.open_image(image_id).size
        year, _, name = image_id.partition("/")
        return read_masks(self.folder / year / "Annotations" / f"{name}.xml", height, width)


ARCHIVES = "unpack the official VOC archives there"
_NAME = re.compile(r"[0-9_]{1,40}")


def read_set(
    folder: Path, image_set: str, labels: Sequence[str]
) -> tuple[list[str], npt.NDArray[np.int8]]:
    """Image names and int8 [n, L] (1 present, 0 difficult only, -1 absent) of a set.

    `folder` is a year's (VOC2007), `image_set` `trainval` or `test`. The class lists
    ImageSets/Main/<label>_<set>.txt are read when all are there (`train_trainval.txt` is the label
    `train`), else Annotations/<image>.xml for the images in <set>.txt, which say the same.
    """
    main = folder / "ImageSets" / "Main"
    missing = [label for label in labels if not is_file(main / f"{label}_{image_set}.txt")]
    if not missing:
        return _from_lists(main, image_set, labels)
    xml = folder / "Annotations"
    names_file = main / f"{image_set}.txt"
    if not is_file(names_file) or not is_folder(xml):
        lists = f"{len(missing)} of the {len(labels)} class lists in {main}, such as "
        raise BenchError(
            f"half a data set: {folder} lacks the {image_set} set",
            expected=f"{main}/<label>_{image_set}.txt for each label, "
            f"or {names_file} with {xml}/<image>.xml",
            found=f"missing: {lists}{missing[0]}_{image_set}.txt; and "
            + (f"no folder {xml}" if is_file(names_file) else f"no file {names_file}"),
            remedy=ARCHIVES,
        )
    names = [fields[0] for fields in _lines(names_file, columns=1)]
    return names, _from_xml(xml, names, labels)


def _from_lists(
    main: Path, image_set: str, labels: Sequence[str]
) -> tuple[list[str], npt.NDArray[np.int8]]:
    columns: list[list[int]] = []
    names: list[str] = []
    for label in labels:
        path = main / f"{label}_{image_set}.txt"
        lines = _lines(path, columns=2)
        found = [fields[0] for fields in lines]
        names = names or found
        if found != names:
            raise BenchError(
                f"{path} does not list the images of the other class lists",
                expected=f"the {len(names)} images of {labels[0]}_{image_set}.txt in that order",
                found=f"{len(found)} images, {len(set(found) ^ set(names))} of them in one only",
                remedy=ARCHIVES + " again",
            )
        columns.append([int(fields[1]) for fields in lines])
    return names, np.array(columns, np.int8).T


def _lines(path: Path, columns: int) -> list[list[str]]:
    try:
        with open_regular(path) as stream:
            text = stream.read().decode("ascii")
        lines = [line.split() for line in text.splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_list(path, str(error)) from error
    seen: set[str] = set()
    for fields in lines:
        sound = len(fields) == columns and _NAME.fullmatch(fields[0]) and fields[0] not in seen
        if not sound or (columns == 2 and fields[1] not in ("1", "0", "-1")):
            raise _bad_list(path, f"the line {' '.join(fields)!r:.200}")
        seen.add(fields[0])
    if not lines:
        raise _bad_list(path, "an empty file")
    return lines


def _bad_list(path: Path, found: str) -> BenchError:
    return BenchError(
        f"{path} is not an image list of VOC",
        expected="one image a line, each once, in class lists followed by 1, 0 or -1",
        found=found,
        remedy=ARCHIVES + " again",
    )


def _from_xml(folder: Path, names: list[str], labels: Sequence[str]) -> npt.NDArray[np.int8]:
    index = {label: i for i, label in enumerate(labels)}
    table = np.full((len(names), len(labels)), -1, np.int8)
    for row, name in enumerate(tracked(names, f"reading {folder}", unit="files")):
        path = folder / f"{name}.xml"
        for label, difficult in read_annotation(path).objects:
            if label not in index:
                raise BenchError(
                    f"{path} names an object that is no label of VOC",
                    expected=", ".join(labels),
                    found=repr(label),
                    remedy=f"did you mean {nearest(label, labels)!r}?",
                )
            column = index[label]
            table[row, column] = max(table[row, column], 0 if difficult else 1)
    return table


_SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_masks(path: Path, height: int, width: int) -> dict[str, Mask]:
    """Label -> bool [height, width]: the boxes of its objects in the image as it was decoded.

    Boxes are stretched from the size the file gives, or taken as they are where it gives none.
    Coordinates count pixels from 1, both ends included. Objects that are not difficult count
    (`masks_of_labels`); the difficult ones of such a label belong to its mask. No file: an empty
    dict. Raises BenchError for a broken file or box.
    """
    if not exists(path):
        return {}
    found = read_annotation(path)
    objects: list[tuple[str, bool, Mask | None]] = []
    try:
        h, w = _frame(found.size) or (height, width)
        for (label, difficult), box in zip(found.objects, found.boxes, strict=True):
            if not any(side in box for side in _SIDES):
                objects.append((label, not difficult, None))
                continue
            left, top, right, bottom = (_number(box[side]) for side in _SIDES)
            mask = box_mask(
                (left - 1) * width / w,
                (top - 1) * height / h,
                right * width / w,
                bottom * height / h,
                height,
                width,
            )
            objects.append((label, not difficult, mask))
    except BROKEN as error:
        raise BenchError(
            f"{path} has a broken box",
            expected="a size, and boxes of four finite numbers: xmin, ymin, xmax, ymax",
            found=f"{type(error).__name__}: {error}",
            remedy="unpack the official VOC archives again",
        ) from error
    return masks_of_labels(objects)


def _frame(size: dict[str, str]) -> tuple[int, int] | None:
    if "height" not in size and "width" not in size:
        return None
    sides = size["height"].strip(), size["width"].strip()
    if not all(side.isascii() and side.isdigit() for side in sides):
        raise ValueError(f"an image of the size {list(sides)!r:.80}")
    h, w = map(int, sides)
    return (h, w) if h and w else None  # 0 says nothing


def _number(text: str) -> float:
    number = read_decimal(text.strip().encode())
    if number is None:
        raise ValueError(f"{text!r:.80} is not a number")
    return number


MAX_BYTES = 4 << 20
MAX_DEPTH = 32
# What is read: below annotation/object, annotation/object/bndbox and annotation/size. Each may
# stand once: of two, neither is the right one.
_READ = {
    ("object",): ("name", "difficult", "bndbox"),
    ("object", "bndbox"): ("xmin", "ymin", "xmax", "ymax"),
    ("size",): ("width", "height"),
}


class _RefusedError(Exception):
    """The XML has something no VOC annotation has."""


@dataclass(frozen=True)
class VocAnnotation:
    """What a VOC XML file says.

    Attributes
    ----------
    objects: (name, difficult) of each object, in the file's order.
    boxes: the text of each object's xmin, ymin, xmax, ymax; without those that it lacks.
    size: the text of the image's width and height; without those that are lacking.
    """

    objects: list[tuple[str, bool]] = field(default_factory=list)
    boxes: list[dict[str, str]] = field(default_factory=list)
    size: dict[str, str] = field(default_factory=dict)


def read_annotation(path: Path) -> VocAnnotation:
    """All that is used of a VOC XML file.

    Parts of an object (head, hand, foot) are no objects, and their boxes not the object's. Document
    types, entities, files above 4 MiB, malformed XML, a field that stands twice and a `difficult`
    other than 0 and 1 raise BenchError.
    """
    try:
        text = read_limited(path, MAX_BYTES)
        reader = _Reader()
        reader.parser.Parse(text, True)
    except (OSError, expat.ExpatError, LookupError, ValueError, _RefusedError) as error:
        raise BenchError(
            f"{path} is not a readable VOC annotation",
            expected="well-formed XML <annotation> without document type or entities, "
            "each object with a name",
            found=f"{type(error).__name__.strip('_')}: {error}",
            remedy="unpack the official VOC archives again",
        ) from error
    return reader.found


class _Reader:
    """Collects annotation/object/{name,difficult,bndbox} and annotation/size as expat walks."""

    def __init__(self) -> None:
        self.found = VocAnnotation()
        self._path: list[str] = []
        self._fields: dict[str, str] = {}
        self._box: dict[str, str] = {}
        self._size = self.found.size
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.EntityDeclHandler = self._refuse

    def _refuse(self, *_: Any) -> None:
        raise _RefusedError("a document type or entity declaration")

    def _start(self, tag: str, _: dict[str, str]) -> None:
        self._path.append(tag)
        if self._path[0] != "annotation" or len(self._path) > MAX_DEPTH:
            raise _RefusedError(f"the element {'/'.join(self._path)[:200]}")
        if self._path == ["annotation", "object"]:
            self._fields, self._box = {}, {}
        fields = self._open()
        if fields is not None:
            if tag in fields:
                raise _RefusedError(f"the element {'/'.join(self._path)} twice")
            fields[tag] = ""

    def _text(self, text: str) -> None:
        fields = self._open()
        if fields is not None:
            fields[self._path[-1]] += text

    def _open(self) -> dict[str, str] | None:
        """Where the text of the innermost open element belongs; None when it is not read."""
        above = tuple(self._path[1:-1])
        if self._path[-1] not in _READ.get(above, ()):
            return None
        return {1: self._fields, 2: self._box}[len(above)] if above[0] == "object" else self._size

    def _end(self, _: str) -> None:
        if self._path == ["annotation", "object"]:
            name = self._fields.get("name", "").strip()
            difficult = self._fields.get("difficult", "0").strip()
            if not name or difficult not in ("0", "1"):
                raise _RefusedError(f"an object with name {name!r}, difficult {difficult!r}")
            self.found.objects.append((name, difficult == "1"))
            self.found.boxes.append(self._box)
        self._path.pop()

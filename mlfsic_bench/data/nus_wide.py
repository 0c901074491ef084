"""NUS-WIDE: 269,648 Flickr images with 81 concepts, in the layout in which it was published."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.dataset import Annotations
from mlfsic_bench.data.kept_labels import LabelTable, kept_table
from mlfsic_bench.data.listed import ListedImages, image_id_of
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import read_limited
from mlfsic_bench.paths import is_file, is_folder
from mlfsic_bench.progress import tracked
from mlfsic_bench.schema import label_problem

CONCEPTS = 81
MAX_BYTES = 256 << 20
# What stands before the ending in the names of a list of images and of the labels of its images.
SETS = (("Imagelist", "AllLabels", ""), ("TrainImagelist", "TrainTestLabels", "_Train"),
        ("TestImagelist", "TrainTestLabels", "_Test"))  # fmt: skip
ARCHIVES = "unpack the official ConceptsList.zip, ImageList.zip and Groundtruth.zip there"


class NusWide(ListedImages):
    """NUS-WIDE; ids are `actor/0001_2124494179`.

    The labels are the concepts of Concepts81.txt in its order; an image has those that people
    found in it. They come from Groundtruth/AllLabels for the images in ImageList/Imagelist.txt, or,
    where these are absent, from Groundtruth/TrainTestLabels for those in the lists of train and
    test. Images are read from Flickr/<folder>/ or <folder>/. Flickr has withdrawn many of them, and
    papers differ in which are left: results on NUS-WIDE compare only on the same split file.
    """

    name = "nus-wide"
    title = "NUS-WIDE"
    bibtex = """\
@inproceedings{chua2009nuswide,
  title = {{NUS-WIDE}: A Real-World Web Image Database from {National University of Singapore}},
  author = {Chua, Tat-Seng and Tang, Jinhui and Hong, Richang and Li, Haojie and Luo, Zhiping
    and Zheng, Yantao},
  booktitle = {ACM International Conference on Image and Video Retrieval (CIVR)}, year = {2009}
}"""
    needs_root = True

    def __init__(self, root: Path) -> None:
        """Find the data in ROOT/nus-wide, ROOT/NUS-WIDE or ROOT."""
        places = [root / name for name in ("nus-wide", "NUS-WIDE")] + [root]
        found = next((place for place in places if is_folder(place / "ImageList")), None)
        if found is None:
            raise BenchError(
                f"there is no NUS-WIDE below {root}",
                expected="the folders ImageList, Groundtruth and ConceptsList (or Concepts81.txt)",
                found=f"no folder ImageList in {' or '.join(map(str, places))}",
                remedy=f"{ARCHIVES}, or name another --data-root",
            )
        images = found / "Flickr"
        super().__init__(images if is_folder(images) else found)
        self.folder = found
        self._names: dict[str, str] = {}

    def annotations(self) -> Annotations:
        """The 81 concepts in the order of Concepts81.txt, images sorted by id."""
        return self._table.annotations

    def _paths(self) -> dict[str, str]:
        return self._table.files()

    @cached_property
    def _table(self) -> LabelTable:
        lists = self.folder / "ImageList"
        sets = SETS[:1] if is_file(lists / f"{SETS[0][0]}.txt") else SETS[1:]
        labels = self._concepts()
        truth = self.folder / "Groundtruth"
        # the list of images of each set, and the file of each label
        parts = [
            (lists / f"{name}.txt", [truth / folder / f"Labels_{x}{suffix}.txt" for x in labels])
            for name, folder, suffix in sets
        ]

        def make() -> LabelTable:
            ids: list[str] = []
            tables = []
            for images, columns in parts:
                read = self._images(images)
                title = f"reading {columns[0].parent}"
                found = [_column(p, len(read)) for p in tracked(columns, title, unit="concepts")]
                ids += read
                tables.append(np.stack(found, axis=1))
            table = np.concatenate(tables)
            return LabelTable.of(labels, [self._names[image_id] for image_id in ids], table, table)

        return kept_table("nus-wide", [p for one, more in parts for p in (one, *more)], make)

    def _concepts(self) -> tuple[str, ...]:
        places = (self.folder / "ConceptsList" / "Concepts81.txt", self.folder / "Concepts81.txt")
        path = next((place for place in places if is_file(place)), places[0])
        labels = tuple(line.strip() for line in _lines(path) if line.strip())
        odd = [label for label in labels if label_problem(label) or "/" in label]
        if len(set(labels)) != CONCEPTS or len(labels) != CONCEPTS or odd:
            found = repr(odd[0]) if odd else f"{len(labels)} lines, {len(set(labels))} different"
            raise _bad_file(path, f"{CONCEPTS} concepts, one a line", found)
        return labels

    def _images(self, path: Path) -> list[str]:
        """The ids of a list's images, in its order."""
        ids: list[str] = []
        for number, line in enumerate(_lines(path), start=1):
            name = line.strip().replace("\\", "/")  # as published: actor\0001_2124494179.jpg
            if not name:
                continue
            try:
                image_id = image_id_of(name)
                if image_id in self._names:
                    raise ValueError(f"the image {image_id!r} stands twice")
            except ValueError as error:
                raise _bad_file(
                    path, "one image a line, each once", f"line {number}: {error}"
                ) from error
            self._names[image_id] = name
            ids.append(image_id)
        if not ids:
            raise _bad_file(path, "one image a line", "none")
        return ids


def _column(path: Path, images: int) -> npt.NDArray[np.bool_]:
    """bool [images]: the lines of 0 and 1 of a concept's file."""
    lines = _read(path).translate(None, b" \t\r").rstrip(b"\n")
    values = np.frombuffer(lines + b"\n", np.uint8)
    sound = len(values) == 2 * images and (values[1::2] == ord("\n")).all()
    if not sound or not np.isin(values[::2], (ord("0"), ord("1"))).all():
        expected = f"{images} lines of 0 or 1, one for each image of the list"
        raise _bad_file(path, expected, f"{lines.count(10) + 1} lines, or other content")
    found: npt.NDArray[np.bool_] = values[::2] == ord("1")
    return found


def _lines(path: Path) -> list[str]:
    try:
        return _read(path).decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise _bad_file(path, "text in ASCII", str(error)) from error


def _read(path: Path) -> bytes:
    try:
        return read_limited(path, MAX_BYTES)
    except OSError as error:
        raise _bad_file(path, "the file as published", error.strerror or str(error)) from error


def _bad_file(path: Path, expected: str, found: str) -> BenchError:
    return BenchError(
        f"{path} is not the file of NUS-WIDE", expected=expected, found=found,
        remedy=f"{ARCHIVES} again",
    )  # fmt: skip

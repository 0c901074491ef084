"""Visual Genome: objects that people named freely, of which the labels are a list or the commonest.

Papers take different lists, and of the few-shot ones none has published a list we could find
(docs/datasets.md). So the list is a file of the user, or the 500 names that most images have.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mlfsic_bench.data.dataset import Annotations
from mlfsic_bench.data.kept_labels import LabelTable, kept_table
from mlfsic_bench.data.listed import ListedImages
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import parse_json, read_limited
from mlfsic_bench.paths import is_file
from mlfsic_bench.progress import LOG, tracked
from mlfsic_bench.schema import label_problem

COMMONEST = 500  # as many labels as multi-label papers take that use Visual Genome as "VG-500"
LIST = "labels.txt"
MAX_BYTES = 2 << 30
ARCHIVES = "unpack the official image_data.json.zip and objects.json.zip there"
_FOLDER = re.compile(r"/(VG_100K(?:_2)?)/([0-9]{1,12})\.jpg$")


class VisualGenome(ListedImages):
    """Visual Genome; ids are `VG_100K/2`.

    An image's labels are the first names of its objects, in lower case and without blanks around
    them. Of these count the labels in the file `labels.txt` beside the annotations, one a line, in
    its order; without that file, the COMMONEST names that most images have, in alphabetical order
    (of two that equally many have, the one that comes first in it). Names are not merged: `man` and
    `person` are two labels.
    """

    name = "visual-genome"
    title = "Visual Genome"
    bibtex = """\
@article{krishna2017visual,
  title = {{Visual Genome}: Connecting Language and Vision Using Crowdsourced Dense Image
    Annotations},
  author = {Krishna, Ranjay and Zhu, Yuke and Groth, Oliver and Johnson, Justin and Hata, Kenji
    and Kravitz, Joshua and Chen, Stephanie and Kalantidis, Yannis and Li, Li-Jia and Shamma,
    David A. and Bernstein, Michael S. and Fei-Fei, Li},
  journal = {International Journal of Computer Vision},
  volume = {123}, number = {1}, pages = {32--73}, year = {2017}
}"""
    needs_root = True

    def __init__(self, root: Path) -> None:
        """Find the data in ROOT/visual-genome or ROOT."""
        places = (root / "visual-genome", root)
        found = next((place for place in places if is_file(place / "objects.json")), None)
        if found is None:
            raise BenchError(
                f"there is no Visual Genome below {root}",
                expected="objects.json and image_data.json, VG_100K/ and VG_100K_2/",
                found=f"no objects.json in {' or '.join(map(str, places))}",
                remedy=f"{ARCHIVES}, or name another --data-root",
            )
        super().__init__(found)

    def annotations(self) -> Annotations:
        """The labels of the list, or the commonest names; images sorted by id."""
        return self._table.annotations

    def _paths(self) -> dict[str, str]:
        return self._table.files()

    @cached_property
    def _table(self) -> LabelTable:
        files = [self.root / "image_data.json", self.root / "objects.json", self.root / LIST]
        listed = files if is_file(files[-1]) else files[:-1]
        return kept_table(f"visual-genome {COMMONEST}", listed, self._make_table)

    def _make_table(self) -> LabelTable:
        id_of = self._images()
        names_of = self._objects(id_of)
        labels = self._labels(names_of)
        column_of = {label: column for column, label in enumerate(labels)}
        row_of = {image_id: row for row, image_id in enumerate(id_of.values())}
        table = np.zeros((len(row_of), len(labels)), np.bool_)
        for image_id, names in names_of.items():
            columns = [column_of[name] for name in names if name in column_of]
            table[row_of[image_id], columns] = True
        return LabelTable.of(labels, [f"{image_id}.jpg" for image_id in row_of], table, table)

    def _images(self) -> dict[int, str]:
        """Number -> id of each image; its folder is the one in its address."""
        path = self.root / "image_data.json"
        found: dict[int, str] = {}
        for i, entry in enumerate(_list(path)):
            url = entry.get("url") if isinstance(entry, dict) else None
            match = _FOLDER.search(url) if isinstance(url, str) else None
            number = entry.get("image_id") if isinstance(entry, dict) else None
            if match is None or type(number) is not int or number in found:
                expected = "images with an image_id, each once, and a url .../VG_100K/ID.jpg"
                raise _bad_file(path, expected, f"image {i + 1} of the file: {entry!r:.120}")
            found[number] = f"{match[1]}/{match[2]}"
        if len(set(found.values())) != len(found):
            raise _bad_file(path, "each image file once", "a url that stands twice")
        return found

    def _objects(self, id_of: dict[int, str]) -> dict[str, set[str]]:
        """Image id -> the names of its objects."""
        path = self.root / "objects.json"
        found: dict[str, set[str]] = {}
        for i, entry in enumerate(tracked(_list(path), f"reading {path.name}", unit="images")):
            try:
                image_id = id_of[entry["image_id"]]
                if image_id in found:
                    raise ValueError(f"the image {image_id} stands twice")
                found[image_id] = {_name(one["names"][0]) for one in entry["objects"]} - {""}
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                expected = "for each image of image_data.json once, its objects, each with names"
                what = f"entry {i + 1} of the file: {type(error).__name__}: {error}"
                raise _bad_file(path, expected, what) from error
        return found

    def _labels(self, names_of: dict[str, set[str]]) -> tuple[str, ...]:
        path = self.root / LIST
        counts = Counter(name for names in names_of.values() for name in names)
        if not is_file(path):
            usable = [name for name in counts if not label_problem(name)]
            commonest = sorted(usable, key=lambda name: (-counts[name], name))[:COMMONEST]
            return tuple(sorted(commonest))
        lines = _read(path).decode("utf-8", "replace").split("\n")
        labels = [line.strip() for line in lines if line.strip()]
        for label in labels:
            problem = label_problem(label) or ("a name of an object" if label not in counts else "")
            if problem or labels.count(label) > 1:
                raise _bad_file(path, problem or "each label once", repr(label))
        if not labels:
            raise _bad_file(path, "one label a line", "none")
        return tuple(labels)


def _name(text: str) -> str:
    return text.strip().lower()


def _list(path: Path) -> list[Any]:
    try:
        value = parse_json(_read(path).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _bad_file(path, "a list in JSON", f"{type(error).__name__}: {error}") from error
    if not isinstance(value, list) or not value:
        raise _bad_file(path, "a list in JSON", type(value).__name__)
    return value


def _read(path: Path) -> bytes:
    try:
        LOG.info("reading %s", path)
        return read_limited(path, MAX_BYTES)
    except OSError as error:
        raise _bad_file(path, "the file as published", error.strerror or str(error)) from error


def _bad_file(path: Path, expected: str, found: str) -> BenchError:
    return BenchError(
        f"{path} is not a file of Visual Genome", expected=expected, found=found,
        remedy=f"{ARCHIVES} again" if path.name != LIST else "correct the list",
    )  # fmt: skip

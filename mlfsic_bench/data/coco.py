"""COCO 2014: the official `instances_{train,val}2014.json`, with or without boxes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data import coco_counts
from mlfsic_bench.data.coco_format import Instances
from mlfsic_bench.data.coco_reader import Layout
from mlfsic_bench.data.dataset import Annotations
from mlfsic_bench.data.images import ImageFiles
from mlfsic_bench.data.kept_labels import LabelTable, kept_table
from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import is_file, is_folder

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

FOLDERS = ("train2014", "val2014")
OFFICIAL = Layout(
    what="the annotation file of COCO 2014",
    expected="JSON with images, annotations and the 80 official categories, "
    "every annotation naming an image and a category of the file",
    remedy="unpack the official annotations_trainval2014.zip again",
    categories=COCO_CATEGORIES,
    file_name=re.compile(r"[A-Za-z0-9_-]{1,100}\.jpg"),
)


class Coco(ImageFiles):
    """COCO 2014, train and val together; ids are `train2014/COCO_train2014_000000000009`.

    Which labels are present and which are shown: `Instances.tables`.
    """

    name = "coco"
    title = "COCO"
    bibtex = """\
@inproceedings{lin2014microsoft,
  title = {Microsoft {COCO}: Common Objects in Context},
  author = {Lin, Tsung-Yi and Maire, Michael and Belongie, Serge and Hays, James and Perona,
    Pietro and Ramanan, Deva and Doll{\\'a}r, Piotr and Zitnick, C. Lawrence},
  booktitle = {European Conference on Computer Vision (ECCV)},
  pages = {740--755}, year = {2014}
}"""
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
        self._kept: LabelTable | None = None
        self._objects: dict[str, Instances] = {}

    def annotations(self) -> Annotations:
        """The 80 labels in the order of their category ids, both years' images sorted by id."""
        return self._table().annotations

    def counts(self) -> dict[str, int]:
        """Images and annotations of each file, images of val2014 with each label."""
        return self._table().counts

    def file_order(self, folder: str) -> tuple[str, ...]:
        """The ids of one year's images in the order in which its annotation file lists them."""
        listed = self._table().in_file_order()
        return tuple(image_id for image_id in listed if image_id.startswith(f"{folder}/"))

    def _table(self) -> LabelTable:
        if self._kept is None:
            files = [self.folder / "annotations" / f"instances_{f}.json" for f in FOLDERS]
            missing = [str(path) for path in files if not is_file(path)]
            if missing:
                raise BenchError(
                    f"COCO 2014 in {self.folder} is incomplete",
                    expected=" and ".join(map(str, files)),
                    found=f"no file {' and no file '.join(missing)}",
                    remedy="unpack the official annotations_trainval2014.zip there",
                )
            self._kept = kept_table("coco", files, lambda: _read(files))
        return self._kept

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
            self._objects[folder] = Instances.read(path, OFFICIAL)
        return self._objects[folder].masks(name, height, width)


def _read(files: list[Path]) -> LabelTable:
    """The labels of both files, and the counts that `Coco.counts` gives."""
    names: list[str] = []
    tables = []
    images, annotations = {}, {}
    for folder, path in zip(FOLDERS, files, strict=True):
        found = Instances.read(path, OFFICIAL)
        names += [f"{folder}/{file}" for file in found.rows.files]
        tables.append(found.tables())
        images[folder], annotations[folder] = len(found.rows.files), len(found.rows.category)
    val = tables[FOLDERS.index("val2014")][1].sum(axis=0).tolist()
    labels = tuple(COCO_CATEGORIES.values())
    counts = coco_counts.named(images, annotations, dict(zip(labels, val, strict=True)))
    present, shown = (np.concatenate(pair) for pair in zip(*tables, strict=True))
    return LabelTable.of(labels, names, present, shown, counts)

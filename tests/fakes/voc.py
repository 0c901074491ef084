"""A tiny VOC 2007 + 2012 in the official layout: class lists, XML annotations, JPEG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlfsic_bench.data.voc import VOC_LABELS
from tests.fakes.jpeg import jpeg

# (label, difficult) of each object
Objects = Sequence[tuple[str, bool]]
Contents = Mapping[tuple[str, str], Mapping[str, Objects]]

CONTENTS: Contents = {
    ("VOC2007", "trainval"): {
        "000005": [("chair", False), ("chair", True)],
        "000007": [("car", False)],
        "000009": [("horse", False), ("person", False), ("bird", True)],
        "000012": [("train", False), ("person", False)],
    },
    ("VOC2007", "test"): {
        "000001": [("dog", False), ("person", False)],
        "000002": [("train", False)],
        "000003": [("sofa", True)],
    },
    ("VOC2012", "trainval"): {
        "2008_000002": [("tvmonitor", False), ("cow", False)],
        "2008_000003": [("cow", False), ("car", True)],
        "2008_000007": [("cat", True), ("boat", False)],
    },
}


def xml(objects: Objects) -> str:
    """A VOC annotation; persons carry a `part` whose name is no object."""
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    body = "".join(
        f"<object><name>{label}</name><pose>Left</pose><difficult>{int(difficult)}</difficult>"
        f"<bndbox><xmin>1</xmin></bndbox>{part if label == 'person' else ''}</object>"
        for label, difficult in objects
    )
    return f"<annotation><source><name>x</name></source>{body}</annotation>\n"


def write_voc(
    root: Path,
    contents: Contents = CONTENTS,
    *,
    lists: bool = True,
    xmls: bool = True,
    without: Sequence[str] = (),
) -> Path:
    """Write VOCdevkit below `root`; `lists` the class lists, `xmls` Annotations/.

    There is no JPEG file for the image names in `without`.
    """
    for seed, ((year, image_set), images) in enumerate(contents.items()):
        folder = root / "VOCdevkit" / year
        main = folder / "ImageSets" / "Main"
        annotations = [folder / "Annotations"] if xmls else []
        for path in (main, folder / "JPEGImages", *annotations):
            path.mkdir(parents=True, exist_ok=True)
        (main / f"{image_set}.txt").write_text("".join(f"{name}\n" for name in images))
        for label in VOC_LABELS if lists else ():
            lines = [f"{name} {_value(label, objects):2d}\n" for name, objects in images.items()]
            (main / f"{label}_{image_set}.txt").write_text("".join(lines))
        for i, (name, objects) in enumerate(images.items()):
            if xmls:
                (folder / "Annotations" / f"{name}.xml").write_text(xml(objects))
            if name not in without:
                (folder / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg(100 * seed + i))
    return root


def _value(label: str, objects: Objects) -> int:
    difficult = [is_difficult for name, is_difficult in objects if name == label]
    return -1 if not difficult else int(not all(difficult))

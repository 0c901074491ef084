"""A tiny NUS-WIDE in the official layout."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.jpeg import jpeg

CONCEPTS = ["airport", "animal", "sky", *(f"concept{i:02d}" for i in range(78))]
# image as the official lists write it -> its concepts
IMAGES = {
    "actor\\0001_2124494179.jpg": ["sky", "animal"],
    "actor\\0002_174174086.jpg": [],
    "zebra\\0003_5.jpg": ["airport"],
    "bee\\0004_7.jpg": ["sky"],
}


def write_nus_wide(root: Path, *, whole: bool = True) -> Path:
    """Write it below `root`; not `whole`: lists and labels of train and test instead of all."""
    folder = root / "nus-wide"
    (folder / "ConceptsList").mkdir(parents=True)
    (folder / "ConceptsList" / "Concepts81.txt").write_text("".join(f"{c}\r\n" for c in CONCEPTS))
    (folder / "ImageList").mkdir()
    names = list(IMAGES)
    sets = [("Imagelist", "AllLabels", "", names)]
    if not whole:
        sets = [("TrainImagelist", "TrainTestLabels", "_Train", names[:3]),
                ("TestImagelist", "TrainTestLabels", "_Test", names[3:])]  # fmt: skip
    for file, labels, suffix, images in sets:
        (folder / "ImageList" / f"{file}.txt").write_text("".join(f"{n}\r\n" for n in images))
        (folder / "Groundtruth" / labels).mkdir(parents=True, exist_ok=True)
        for concept in CONCEPTS:
            lines = "".join(f"{int(concept in IMAGES[name])} \n" for name in images)
            (folder / "Groundtruth" / labels / f"Labels_{concept}{suffix}.txt").write_text(lines)
    for seed, name in enumerate(names[:3]):
        path = folder / "Flickr" / name.replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(seed))
    return root

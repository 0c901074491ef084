"""A tiny Visual Genome in the official layout."""

from __future__ import annotations

import json
from pathlib import Path

from tests.fakes.jpeg import jpeg

# image number, folder -> the names of its objects
IMAGES: dict[tuple[int, str], list[str]] = {
    (1, "VG_100K_2"): ["tree", "Man ", "tree"],
    (2, "VG_100K"): ["man", "car"],
    (10, "VG_100K"): ["car", "odd\tname"],
    (11, "VG_100K"): [],
}


def write_visual_genome(root: Path, labels: str | None = None) -> Path:
    """Write it below `root`, with `labels.txt` where `labels` is its text."""
    folder = root / "visual-genome"
    folder.mkdir(parents=True)
    images, objects = [], []
    for seed, ((number, place), names) in enumerate(IMAGES.items()):
        url = f"https://cs.stanford.edu/people/rak248/{place}/{number}.jpg"
        images.append({"image_id": number, "url": url, "width": 16, "height": 12, "coco_id": None})
        boxes = [{"object_id": i, "x": 1, "y": 1, "w": 5, "h": 5, "names": [name], "synsets": []}
                 for i, name in enumerate(names)]  # fmt: skip
        objects.append({"image_id": number, "objects": boxes, "image_url": url})
        (folder / place).mkdir(exist_ok=True)
        (folder / place / f"{number}.jpg").write_bytes(jpeg(seed))
    (folder / "image_data.json").write_text(json.dumps(images))
    (folder / "objects.json").write_text(json.dumps(objects))
    if labels is not None:
        (folder / "labels.txt").write_text(labels)
    return root

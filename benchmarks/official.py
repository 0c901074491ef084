"""Synthetic files in the layout and size of the official ones: for measuring, in seconds, anywhere.

    python benchmarks/official.py FOLDER [--scale 1.0]

writes all of them into FOLDER:

    coco/annotations/instances_{train,val}2014.json   COCO 2014 with polygons, 482 MB
    glove.txt                                         400,000 words of 300 numbers, 1.0 GB
    word2vec.bin                                      500,000 words of 300 numbers, 0.6 GB
    store/                                            features of 123,287 images, sparse: no disk

The sizes are those at scale 1, and follow the scale. Equal arguments give equal files. Outlines and
vectors are taken from pools of a thousand, so that writing them is fast.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from mlfsic_bench.data.coco import COCO_CATEGORIES
from mlfsic_bench.features.store.manifest import Manifest
from mlfsic_bench.features.store.store import INDEX, LOCAL, POOLED, index_lines

# images and annotations of the official files
SIZES = {"train": (82_783, 604_907), "val": (40_504, 291_875)}
LARGEST_NUMBER = 581_929  # of an image
WORDS, DIMENSION = 400_000, 300  # GloVe 6B
BINARY_WORDS = 500_000
GRID, CHANNELS = (7, 7), 2048  # ResNet-50 at 224 px
_POOL = 1000  # different outlines, or lines of vectors


def write_coco(folder: Path, scale: float = 1.0) -> Path:
    """Write both annotation files below `folder`/coco, no images; `folder`, a data root."""
    place = folder / "coco" / "annotations"
    place.mkdir(parents=True, exist_ok=True)
    numbers = _image_numbers(scale)
    for year, (_, official) in SIZES.items():
        make = random.Random(f"coco {year}")
        with (place / f"instances_{year}2014.json").open("w") as stream:
            stream.write('{"info": {"description": "synthetic, in the layout of COCO 2014"},')
            _write_list(stream, "images", _images(year, numbers[year], make))
            stream.write(",")
            count = max(1, round(official * scale))
            _write_list(stream, "annotations", _annotations(numbers[year], count, make))
            named = ",".join(f'{{"id": {i},"name": "{n}"}}' for i, n in COCO_CATEGORIES.items())
            stream.write(f',"categories": [{named}]}}')
    return folder


def image_ids(scale: float = 1.0) -> list[str]:
    """The ids of the images that `write_coco` lists at this scale, sorted."""
    numbers = _image_numbers(scale)
    return sorted(
        f"{year}2014/COCO_{year}2014_{number:012d}" for year in SIZES for number in numbers[year]
    )


def write_glove(path: Path, scale: float = 1.0) -> Path:
    """Write word vectors in GloVe's text format; the words of COCO's labels are among them."""
    numbers = np.random.default_rng(6).normal(0, 0.4, (_POOL, DIMENSION))
    rows = [" ".join(f"{number:.5f}" for number in row) for row in numbers]
    with path.open("w") as stream:
        for i, word in enumerate(_words(WORDS, scale)):
            stream.write(f"{word} {rows[i % _POOL]}\n")
    return path


def write_word2vec(path: Path, scale: float = 1.0) -> Path:
    """Write word vectors in word2vec's binary format, with the same words first."""
    words = _words(BINARY_WORDS, scale)
    rows = np.random.default_rng(2).normal(0, 0.4, (_POOL, DIMENSION)).astype("<f4")
    with path.open("wb") as stream:
        stream.write(f"{len(words)} {DIMENSION}\n".encode())
        for i, word in enumerate(words):
            stream.write(word.encode() + b" " + rows[i % _POOL].tobytes())
    return path


def write_store(folder: Path, scale: float = 1.0, manifest: Manifest | None = None) -> Path:
    """Write a feature store of all images of `write_coco`, its values zeros that take no disk.

    `manifest` says whose features they are; None: of no network, as large as ResNet-50's.
    """
    if manifest is None:
        manifest = Manifest("coco", "synthetic", "0" * 64, "none", CHANNELS, GRID)
    folder.mkdir(parents=True, exist_ok=True)
    ids = image_ids(scale)
    make = random.Random("store")
    manifest.write(folder)
    widths = {LOCAL: 2 * manifest.locations * manifest.channels, POOLED: 4 * manifest.dim}
    for name, width in widths.items():
        with (folder / name).open("wb") as stream:
            stream.truncate(len(ids) * width)
    (folder / INDEX).write_bytes(index_lines(ids, [f"{make.getrandbits(256):064x}" for _ in ids]))
    return folder


def _image_numbers(scale: float) -> dict[str, list[int]]:
    """The numbers of each year's images, in the order of its file."""
    make = random.Random("images")
    all_numbers = make.sample(range(1, LARGEST_NUMBER + 1), sum(n for n, _ in SIZES.values()))
    found: dict[str, list[int]] = {}
    for year, (images, _) in SIZES.items():
        found[year] = all_numbers[: max(1, round(images * scale))]
        all_numbers = all_numbers[images:]
    return found


def _images(year: str, numbers: list[int], make: random.Random) -> Iterator[str]:
    for number in numbers:
        file = f"COCO_{year}2014_{number:012d}.jpg"
        place = f"{make.randrange(1, 9999)}/{make.randrange(10**9, 10**10)}"
        yield (
            f'{{"license": {make.randrange(1, 9)},"file_name": "{file}",'
            f'"coco_url": "http://images.cocodataset.org/{year}2014/{file}",'
            f'"height": {make.choice((480, 427, 640))},"width": 640,'
            f'"date_captured": "2013-11-{make.randrange(10, 30)} 16:28:13",'
            f'"flickr_url": "http://farm4.staticflickr.com/{place}_{make.getrandbits(40):010x}_z.jpg",'
            f'"id": {number}}}'
        )


def _annotations(numbers: list[int], count: int, make: random.Random) -> Iterator[str]:
    polygons = [f"[[{_points(make, make.choice((20, 30, 40, 60, 110)))}]]" for _ in range(_POOL)]
    runs = [", ".join(str(make.randrange(1, 400)) for _ in range(300)) for _ in range(9)]
    ids = make.sample(range(1, 3 * count + 1), count)
    categories = make.choices(
        list(COCO_CATEGORIES), [1 / (place + 3) for place in range(len(COCO_CATEGORIES))], k=count
    )
    for i in range(count):
        crowd = make.random() < 0.01
        outline = (
            f'{{"counts": [{make.choice(runs)}],"size": [480, 640]}}'
            if crowd
            else make.choice(polygons)
        )
        x, y, width, height = (round(make.random() * 300 + 1, 2) for _ in range(4))
        yield (
            f'{{"segmentation": {outline},"area": {width * height * 0.7},"iscrowd": {int(crowd)},'
            f'"image_id": {make.choice(numbers)},"bbox": [{x},{y},{width},{height}],'
            f'"category_id": {categories[i]},"id": {ids[i]}}}'
        )


def _points(make: random.Random, count: int) -> str:
    return ",".join(f"{make.random() * 480:.2f}" for _ in range(count))


def _write_list(stream: IO[str], key: str, entries: Iterator[str]) -> None:
    stream.write(f'"{key}": [')
    for i, entry in enumerate(entries):
        stream.write(("," if i else "") + entry)
    stream.write("]")


def _words(count: int, scale: float) -> list[str]:
    """The words of COCO's labels, then others."""
    known = list(dict.fromkeys(re.findall("[a-z]+", " ".join(COCO_CATEGORIES.values()))))
    return known + [f"w{i}" for i in range(max(1, round(count * scale)) - len(known))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0)
    said = parser.parse_args()
    said.folder.mkdir(parents=True, exist_ok=True)
    for made in (
        write_coco(said.folder, said.scale),
        write_glove(said.folder / "glove.txt", said.scale),
        write_word2vec(said.folder / "word2vec.bin", said.scale),
        write_store(said.folder / "store", said.scale),
    ):
        print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())

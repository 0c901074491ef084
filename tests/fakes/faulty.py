"""COCO and VOC in the official layout, 1,000 small images each, with faults of every kind."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mlfsic_bench.data.coco import COCO_CATEGORIES
from mlfsic_bench.data.voc import VOC_LABELS
from tests.fakes.coco import image_id, write_coco
from tests.fakes.voc import write_voc

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * '0'}\nsize 12345\n"
END = b"\xff\xd9"


def photo(seed: int, size: tuple[int, int] = (56, 40)) -> Image.Image:
    """A small picture with smooth areas and details, another one for each seed."""
    rng = np.random.default_rng(seed)
    rough = rng.integers(40, 200, (size[1] // 8 + 1, size[0] // 8 + 1, 3), np.uint8)
    noise = rng.integers(0, 24, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(rough.repeat(8, 0).repeat(8, 1)[: size[1], : size[0]] + noise)


def stored(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """The file of an image."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned(orientation: int) -> Image.Exif:
    """An EXIF block that says how to turn the image."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def bordered(seed: int) -> Image.Image:
    """A picture whose lower half is the grey that libjpeg puts in place of lacking data."""
    image = photo(seed)
    image.paste((128, 128, 128), (0, 16, *image.size))
    return image


def cut(data: bytes, share: float = 0.5) -> bytes:
    """The first part of a file, at least its headers."""
    return data[: int(len(data) * share)]


def too_long(data: bytes) -> bytes:
    """A JPEG in whose data a piece stands twice, so that the end is not used."""
    middle = data.index(b"\xff\xda") + 60
    return data[:middle] + data[middle - 40 : middle] + data[middle:]


def huge_png() -> bytes:
    """A PNG that says it has 10^10 pixels, and holds next to none."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 10**5, 10**5, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def wrong_checksum(seed: int) -> bytes:
    """A whole PNG, one byte of which has changed."""
    data = bytearray(stored(photo(seed), "PNG"))
    data[-20] ^= 1  # in the checksum of the pixels
    return bytes(data)


def deep(seed: int) -> Image.Image:
    """A grey image of 16 bits."""
    pixels = np.random.default_rng(seed).integers(0, 1 << 16, (40, 56), np.uint16)
    return Image.fromarray(pixels)


# What lies in the place of an image -> its kinds of findings. Each of these is planted twice.
FILES: tuple[tuple[Callable[[int], bytes], tuple[str, ...]], ...] = (
    (lambda seed: b"", ("empty",)),
    (lambda seed: POINTER.encode(), ("lfs-pointer",)),
    (lambda seed: b"<html>403</html>", ("not-an-image",)),
    (lambda seed: stored(photo(seed), "GIF"), ("not-an-image",)),
    (lambda seed: stored(photo(seed), "BMP"), ("not-an-image",)),
    (lambda seed: huge_png(), ("too-large",)),
    (lambda seed: cut(stored(photo(seed))), ("truncated",)),
    (lambda seed: cut(stored(photo(seed, (240, 200)), quality=97), 0.7), ("truncated",)),
    (lambda seed: cut(stored(photo(seed), progressive=True), 0.7), ("truncated",)),
    (lambda seed: cut(stored(photo(seed), "PNG")), ("truncated",)),
    (lambda seed: cut(stored(photo(seed)), 0.75) + bytes(900), ("truncated",)),
    (lambda seed: cut(stored(photo(seed)), 0.75) + END, ("half-grey",)),
    (lambda seed: cut(stored(photo(seed, (240, 200))), 0.3) + END, ("half-grey",)),
    (lambda seed: cut(stored(photo(seed), restart_marker_rows=1), 0.8) + END, ("half-grey",)),
    (lambda seed: cut(stored(photo(seed), progressive=True), 0.95) + END, ("half-grey",)),
    (lambda seed: cut(stored(photo(seed).convert("L")), 0.9) + END, ("half-grey",)),
    (lambda seed: b"\xff\xd8\xff broken" + END, ("corrupt",)),
    (lambda seed: too_long(stored(photo(seed), quality=95)), ("corrupt",)),
    (wrong_checksum, ("corrupt",)),
    (lambda seed: stored(photo(seed))[:-2] + 50 * b"\xff\xd0", ("no-end",)),
    (lambda seed: stored(photo(seed).convert("CMYK")), ("cmyk",)),
    (lambda seed: stored(photo(seed).convert("L")), ("grey",)),
    (lambda seed: stored(deep(seed), "PNG"), ("16-bit",)),
    (lambda seed: stored(photo(seed), exif=turned(6)), ("rotated",)),
    (lambda seed: stored(photo(seed).convert("L"), exif=turned(3)), ("grey", "rotated")),
    (lambda seed: stored(photo(seed, (56, 20))), ("small",)),
)  # fmt: skip
# What looks like a fault and is none.
SOUND: tuple[Callable[[int], bytes], ...] = (
    lambda seed: stored(photo(seed), progressive=True),
    lambda seed: stored(photo(seed), restart_marker_rows=1),
    lambda seed: stored(photo(seed), quality=100, subsampling=0),
    lambda seed: stored(photo(seed), optimize=True, quality=20),
    lambda seed: stored(photo(seed)) + bytes(500),
    lambda seed: stored(photo(seed)) + b"\n",
    lambda seed: stored(photo(seed), exif=turned(1)),
    lambda seed: stored(bordered(seed)),
    lambda seed: stored(bordered(seed), optimize=True, quality=40),
    lambda seed: stored(bordered(seed), progressive=True),
    lambda seed: stored(photo(seed), "PNG"),
    lambda seed: stored(photo(seed).quantize(64), "PNG"),
    lambda seed: stored(photo(seed).convert("RGBA"), "PNG"),
)

Planted = set[tuple[str, str]]  # image ids and kinds


def write_faulty(root: Path) -> dict[str, Planted]:
    """Write both data sets below `root`; dataset -> what an audit is to find in it."""
    everything = list(COCO_CATEGORIES.values())
    years = {"train": range(1, 601), "val": range(601, 1001)}
    coco = {
        year: {n: [(everything[n % 80], "box")] for n in numbers} for year, numbers in years.items()
    }
    every = [n for numbers in years.values() for n in numbers]
    write_coco(root, coco["train"], coco["val"], without=every)
    sets = {("VOC2007", "trainval"): range(300), ("VOC2007", "test"): range(300, 500),
            ("VOC2012", "trainval"): range(500, 1000)}  # fmt: skip
    voc = {
        (year, name): {
            (f"{n:06d}" if year == "VOC2007" else f"2008_{n:06d}"): [(VOC_LABELS[n % 20], False)]
            for n in numbers
        }
        for (year, name), numbers in sets.items()
    }
    names = [name for images in voc.values() for name in images]
    write_voc(root, voc, xmls=False, without=names)
    coco_ids = [image_id(year, n) for year, numbers in coco.items() for n in numbers]
    voc_ids = [f"{year}/{name}" for (year, _), images in voc.items() for name in images]
    devkit = root / "VOCdevkit"
    return {
        "coco": _plant(coco_ids, lambda image: root / "coco" / f"{image}.jpg", 10_000),
        "voc": _plant(
            voc_ids,
            lambda image: devkit / f"{image.replace('/', '/JPEGImages/')}.jpg",
            20_000,
        ),
    }


def _plant(ids: list[str], path_of: Callable[[str], Path], seed: int) -> Planted:
    seeds = {image: seed + i for i, image in enumerate(ids)}
    for image in ids:
        path_of(image).write_bytes(stored(photo(seeds[image])))
    order = ids[:]
    random.Random(seed).shuffle(order)
    left = iter(order)
    found: Planted = set()
    for make, kinds in (*FILES, *((make, ()) for make in SOUND)):
        for image in (next(left), next(left)):
            path_of(image).write_bytes(make(seeds[image]))
            found.update((image, kind) for kind in kinds)
    found |= _no_files(left, path_of)
    found |= _copies(left, path_of)
    return found | _misplaced(left, ids, path_of)


def _no_files(left: Iterator[str], path_of: Callable[[str], Path]) -> Planted:
    found: Planted = set()
    for kind, make in (
        ("missing", lambda path: None),
        ("dangling-link", lambda path: path.symlink_to("nowhere")),
        ("dangling-link", lambda path: path.symlink_to(path.name)),
        ("unreadable", lambda path: path.mkdir()),
        ("unreadable", os.mkfifo),
    ):
        for image in (next(left), next(left)):
            path_of(image).unlink()
            make(path_of(image))
            found.add((image, kind))
    linked = path_of(next(left))  # a link to an image elsewhere is as good as the image
    linked.rename(linked.parents[1] / "elsewhere")
    linked.symlink_to(linked.parents[1] / "elsewhere")
    return found


def _copies(left: Iterator[str], path_of: Callable[[str], Path]) -> Planted:
    found: Planted = set()
    for copies in (2, 2, 3):  # equal files
        images = sorted(next(left) for _ in range(copies))
        for image in images[1:]:
            path_of(image).write_bytes(path_of(images[0]).read_bytes())
            found.add((image, "duplicate"))
    images = sorted([next(left), next(left)])  # equal pixels in different files
    path_of(images[1]).write_bytes(stored(Image.open(path_of(images[0])), "PNG"))
    return found | {(images[1], "duplicate")}


def _misplaced(left: Iterator[str], ids: list[str], path_of: Callable[[str], Path]) -> Planted:
    found: Planted = set()
    folders = sorted({image.split("/")[0] for image in ids})
    for i, image in enumerate(next(left) for _ in range(6)):
        folder, name = image.split("/")
        other = f"{folders[folders[0] == folder]}/{name}"
        if i % 2:
            path_of(image).rename(path_of(other))
            found.add((image, "missing"))
        else:
            path_of(other).write_bytes(path_of(image).read_bytes())
        found.add((other, "wrong-folder"))
    for folder in folders:
        extra = f"{folder}/999999"
        path_of(extra).write_bytes(stored(photo(len(found))))
        found.add((extra, "unlisted"))
    return found

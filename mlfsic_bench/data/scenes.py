"""The synthetic default data set `scenes`: drawn when asked for, nothing to download.

What a scene shows and where, and the painting of it: all in whole numbers, so that every pixel is
the same on every machine, for ever. Every decision about image `scenes/000123` is drawn from its
own SplitMix64 streams, keyed by the data set's version, the image's number and the purpose. Nothing
depends on how many images there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mlfsic_bench.data.dataset import PART_NAMES, Annotations, Dataset, PartName
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.randomness import splitmix64, splitmix64_array, stream_seed

SHAPES: tuple[str, ...] = ("disc", "triangle", "square", "star", "cross", "ring")
PATTERNS: tuple[str, ...] = ("plain", "striped", "dotted", "halved")
ATTRIBUTES: tuple[str, ...] = (*SHAPES, *PATTERNS)

# The part of each shape's label with each pattern, in the order of PATTERNS. Base has each of the
# six pairs of patterns once, so each shape with two patterns and each pattern with three shapes; a
# val or novel label is a new pair of two things seen before.
GRID: dict[str, tuple[PartName, PartName, PartName, PartName]] = {
    "disc": ("base", "base", "val", "novel"),
    "triangle": ("novel", "base", "base", "val"),
    "square": ("val", "novel", "base", "base"),
    "star": ("base", "val", "novel", "base"),
    "cross": ("base", "val", "base", "novel"),
    "ring": ("val", "base", "novel", "base"),
}


@dataclass(frozen=True)
class Look:
    """What makes a label: a shape and a pattern."""

    shape: str
    pattern: str

    @property
    def name(self) -> str:
        """The label, such as `striped disc`."""
        return f"{self.pattern} {self.shape}"


LOOKS: tuple[Look, ...] = tuple(Look(shape, pattern) for shape in SHAPES for pattern in PATTERNS)
LABELS: tuple[str, ...] = tuple(look.name for look in LOOKS)
PART_OF: tuple[PartName, ...] = tuple(part for shape in SHAPES for part in GRID[shape])


def labels_of(part: PartName) -> tuple[int, ...]:
    """The positions in `LABELS` of a part's labels: 12 for base, 6 for val, 6 for novel."""
    return tuple(label for label, own in enumerate(PART_OF) if own == part)


def label_embeddings(labels: Sequence[str]) -> npt.NDArray[np.float32]:
    """float32 [len(labels), 10]: what each label's object looks like, in `ATTRIBUTES`.

    An attribute the object has is 1, one it has not is 0.
    Raises BenchError for a name that is no label of `scenes`.
    """
    rows = []
    for label in labels:
        if label not in LABELS:
            raise unknown_name("scenes label", label, LABELS)
        look = LOOKS[LABELS.index(label)]
        rows.append([float(name in (look.shape, look.pattern)) for name in ATTRIBUTES])
    return np.asarray(rows, np.float32).reshape(len(rows), len(ATTRIBUTES))


VERSION = 1
SIZE = 112  # pixels each way
ANGLES = 48  # turns of 7.5 degrees
RADII = (14, 22)  # of an object, in pixels, both included
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Thing:
    """An object, or an unlabelled piece of clutter.

    `label` is the position in `LABELS`, or -1 for a pebble and -2 for a stick.
    `x`, `y` and `radius` are in pixels, `angle` in 48ths of a turn, `cell` (the width of a stripe,
    half the distance of dots) in quarters of a pixel.
    """

    label: int
    x: int
    y: int
    radius: int
    angle: int
    cell: int
    ink: Colour
    second_ink: Colour


@dataclass(frozen=True)
class Layout:
    """A scene before it is painted: the ground's mean colour, clutter below, objects above."""

    ground: Colour
    clutter: tuple[Thing, ...]
    objects: tuple[Thing, ...]


class Draws:
    """Whole numbers from one SplitMix64 stream, in order."""

    def __init__(self, *purpose: str | int) -> None:
        self._seed = stream_seed("scenes", VERSION, *purpose)
        self._next = 0

    def below(self, n: int) -> int:
        """A number in [0, n): the high word of the 128-bit product of a stream word and n."""
        word = splitmix64(self._seed, self._next)
        self._next += 1
        return (word * n) >> 64

    def between(self, low: int, high: int) -> int:
        """A number in [low, high]."""
        return low + self.below(high - low + 1)

    def some_of(self, pool: tuple[int, ...], count: int) -> list[int]:
        """`count` distinct members of `pool`, by the first steps of a Fisher-Yates shuffle."""
        rest = list(pool)
        for i in range(count):
            j = self.between(i, len(rest) - 1)
            rest[i], rest[j] = rest[j], rest[i]
        return rest[:count]


def labels_in(number: int, group: PartName) -> tuple[int, ...]:
    """The labels, positions in `LABELS`, of the objects that image `number` of a group shows.

    A base image shows two to four base labels. A val image shows one or two val labels among one
    or two base labels, a novel image one or two novel labels among one or two of base or val: what
    else stands in the picture is not what the part asks for.
    """
    draws = Draws("labels", number)
    if group == "base":
        return tuple(draws.some_of(labels_of("base"), draws.between(2, 4)))
    own = draws.some_of(labels_of(group), draws.between(1, 2))
    others = labels_of("base") if group == "val" else labels_of("base") + labels_of("val")
    return tuple(own + draws.some_of(others, draws.between(1, 2)))


def lay_out(number: int, group: PartName) -> Layout:
    """The scene of image `number`: objects that hardly overlap, clutter anywhere."""
    draws = Draws("layout", number)
    ground = (draws.between(60, 195), draws.between(60, 195), draws.between(60, 195))
    objects: list[Thing] = []
    for label in labels_in(number, group):
        radius = draws.between(*RADII)
        x, y = _free_place(draws, radius, objects)
        objects.append(_thing(draws, label, x, y, radius, ground))
    clutter = []
    for _ in range(draws.between(2, 6)):
        x, y = draws.below(SIZE), draws.below(SIZE)
        kind = -1 - draws.below(2)
        radius = draws.between(2, 5) if kind == -1 else draws.between(6, 16)
        clutter.append(_thing(draws, kind, x, y, radius, ground))
    return Layout(ground, tuple(clutter), tuple(objects))


def _free_place(draws: Draws, radius: int, objects: list[Thing]) -> tuple[int, int]:
    # The first of 40 places that keeps clear of the others, else the clearest of them.
    best, best_room = (SIZE // 2, SIZE // 2), None
    for _ in range(40):
        x, y = draws.between(radius, SIZE - radius), draws.between(radius, SIZE - radius)
        room = min(
            (
                (x - other.x) ** 2 + (y - other.y) ** 2 - (radius + other.radius) ** 2
                for other in objects
            ),
            default=0,
        )
        if room >= 0:
            return x, y
        if best_room is None or room > best_room:
            best, best_room = (x, y), room
    return best


def _thing(draws: Draws, label: int, x: int, y: int, radius: int, ground: Colour) -> Thing:
    angle, cell = draws.below(ANGLES), draws.between(12, 18)
    ink = _colour(draws, (ground,))
    return Thing(label, x, y, radius, angle, cell, ink, _colour(draws, (ground, ink)))


def _colour(draws: Draws, away_from: tuple[Colour, ...]) -> Colour:
    # Colours say nothing of the label; they only have to differ from their surroundings.
    colour: Colour = (0, 0, 0)
    for _ in range(40):
        colour = (draws.below(256), draws.below(256), draws.below(256))
        if all(
            sum(abs(a - b) for a, b in zip(colour, other, strict=True)) >= 170
            for other in away_from
        ):
            break
    return colour


Ints = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

# Painting. Coordinates are in quarters of a pixel: with two samples a pixel each way, sample i lies
# at 2 i + 1. Only the table of sines is computed in floating point, and rounded to 1/1024.
SINE = tuple(round(1024 * math.sin(2 * math.pi * turn / ANGLES)) for turn in range(ANGLES))
ROOT3 = 1774  # 1024 times the square root of 3


def _triangle(u: Ints, v: Ints, r: int) -> Bools:
    slope = (ROOT3 * np.abs(u)) >> 10
    inside: Bools = (v <= r // 2) & (slope - v <= r)
    return inside


# Each says which points (u, v), in the object's own frame, lie inside a shape of radius r.
INSIDE: dict[str, Callable[[Ints, Ints, int], Bools]] = {
    "disc": lambda u, v, r: u * u + v * v <= r * r,
    "triangle": _triangle,
    "square": lambda u, v, r: np.maximum(np.abs(u), np.abs(v)) <= r * 3 // 4,
    "star": lambda u, v, r: _triangle(u, v, r) | _triangle(u, -v, r),
    "cross": lambda u, v, r: (
        (np.maximum(np.abs(u), np.abs(v)) <= r) & (np.minimum(np.abs(u), np.abs(v)) <= r // 3)
    ),
    "ring": lambda u, v, r: (u * u + v * v <= r * r) & (4 * (u * u + v * v) > r * r),
}

# Each says where, in cells of a side given in quarters of a pixel, the second ink goes.
SECOND_INK: dict[str, Callable[[Ints, Ints, int], Bools]] = {
    "plain": lambda u, v, cell: np.zeros(u.shape, np.bool_),
    "striped": lambda u, v, cell: (u // cell) & 1 == 1,
    "dotted": lambda u, v, cell: (
        (u % (2 * cell) - cell) ** 2 + (v % (2 * cell) - cell) ** 2 <= cell * cell * 2 // 5
    ),
    "halved": lambda u, v, cell: u > 0,
}


def paint(layout: Layout, seed: int) -> tuple[npt.NDArray[np.uint8], dict[int, Bools]]:
    """The picture, uint8 [112, 112, 3], and label position -> bool [112, 112], its visible pixels.

    `seed` starts the stream of the ground's texture.
    """
    image = _ground(layout.ground, seed)
    for thing in layout.clutter:
        _lay(image, thing)
    masks: dict[int, Bools] = {}
    for thing in layout.objects:
        mine = _lay(image, thing)
        for other in masks.values():
            other &= ~mine
        masks[thing.label] = mine
    return image.astype(np.uint8), masks


def _lay(image: Ints, thing: Thing) -> Bools:
    # Paint one thing on its window; the pixels it covers by half or more.
    x0, x1 = max(thing.x - thing.radius - 1, 0), min(thing.x + thing.radius + 2, SIZE)
    y0, y1 = max(thing.y - thing.radius - 1, 0), min(thing.y + thing.radius + 2, SIZE)
    x = 2 * np.arange(2 * x0, 2 * x1, dtype=np.int32)[None, :] + 1 - 4 * thing.x
    y = 2 * np.arange(2 * y0, 2 * y1, dtype=np.int32)[:, None] + 1 - 4 * thing.y
    sine, cosine = SINE[thing.angle], SINE[(thing.angle + ANGLES // 4) % ANGLES]
    u, v = (cosine * x + sine * y) >> 10, (cosine * y - sine * x) >> 10
    inside, second = _samples(thing, u, v)
    covered = _per_pixel(inside)[..., None]
    seconds = _per_pixel(inside & second)[..., None]
    window = image[y0:y1, x0:x1]
    ink, second_ink = np.array(thing.ink, np.int32), np.array(thing.second_ink, np.int32)
    window[:] = ((4 - covered) * window + (covered - seconds) * ink + seconds * second_ink + 2) >> 2
    mask = np.zeros((SIZE, SIZE), np.bool_)
    mask[y0:y1, x0:x1] = covered[..., 0] >= 2
    return mask


def _samples(thing: Thing, u: Ints, v: Ints) -> tuple[Bools, Bools]:
    r = 4 * thing.radius
    if thing.label == -1:
        return INSIDE["disc"](u, v, r), SECOND_INK["plain"](u, v, 1)
    if thing.label == -2:
        return (np.abs(u) <= r) & (np.abs(v) <= 3), SECOND_INK["plain"](u, v, 1)
    look = LOOKS[thing.label]
    return INSIDE[look.shape](u, v, r), SECOND_INK[look.pattern](u, v, thing.cell)


def _per_pixel(samples: Bools) -> Ints:
    # How many of a pixel's four samples are set.
    s = samples.view(np.uint8)
    return (s[::2, ::2] + s[1::2, ::2] + s[::2, 1::2] + s[1::2, 1::2]).astype(np.int32)


def _ground(colour: tuple[int, int, int], seed: int) -> Ints:
    # A coarse drift of each channel and a fine grain common to all: value noise on two lattices.
    coarse, fine = SIZE // 16 + 1, SIZE // 4 + 1
    count = 3 * coarse * coarse + fine * fine
    words = splitmix64_array(np.array(seed, np.uint64), np.arange(count, dtype=np.uint64))
    values = (words >> np.uint64(56)).astype(np.int32) - 128
    drift = values[: 3 * coarse * coarse].reshape(3, coarse, coarse)
    grain = values[3 * coarse * coarse :].reshape(fine, fine)
    image = np.stack([_smooth(channel, 16) for channel in drift], axis=-1) * 44
    image += _smooth(grain, 4)[..., None] * 40
    image = (image >> 7) + np.array(colour, np.int32)
    return np.clip(image, 0, 255)


def _smooth(lattice: Ints, step: int) -> Ints:
    # Linear interpolation between lattice points `step` pixels apart, one way and then the other.
    near, weight = _interpolation(step)
    rows: Ints = lattice[near] * (step - weight)[:, None] + lattice[near + 1] * weight[:, None]
    both: Ints = rows[:, near] * (step - weight) + rows[:, near + 1] * weight
    np.floor_divide(both, step * step, out=both)
    return both


@cache
def _interpolation(step: int) -> tuple[Ints, Ints]:
    pixel = np.arange(SIZE, dtype=np.int32)
    return pixel // step, pixel % step


# Where each group's numbers start: a larger group leaves every id and every picture as it was.
FIRST: dict[PartName, int] = {"base": 0, "val": 800_000, "novel": 900_000}
ROOM: dict[PartName, int] = {"base": 800_000, "val": 100_000, "novel": 100_000}


class Scenes(Dataset):
    """Pictures of several patterned shapes on textured ground, with every pixel accounted for.

    Image `scenes/000123` is a function of its number alone: 112 x 112 pixels, RGB. Base images show
    base labels only; val images also show base labels, novel images also base and val labels, as
    under the split rule `open`.

    Parameters
    ----------
    root: not used.
    base_images, val_images, novel_images: how many images of each group there are.
    """

    name = "scenes"
    title = "Scenes"
    needs_root = False

    def __init__(
        self,
        root: Path | None = None,
        *,
        base_images: int = 3000,
        val_images: int = 900,
        novel_images: int = 1500,
    ) -> None:
        self._counts: dict[PartName, int] = {
            "base": base_images,
            "val": val_images,
            "novel": novel_images,
        }
        for group, count in self._counts.items():
            if not 0 <= count <= ROOM[group]:
                raise BenchError(
                    f"scenes cannot have {count} {group} images",
                    expected=f"0 to {ROOM[group]}",
                    found=str(count),
                    remedy="ask for fewer images",
                )

    @cached_property
    def _annotations(self) -> Annotations:
        ids: list[str] = []
        rows: list[tuple[int, ...]] = []
        for group in PART_NAMES:
            for number in range(FIRST[group], FIRST[group] + self._counts[group]):
                ids.append(f"scenes/{number:06d}")
                rows.append(labels_in(number, group))
        present = np.zeros((len(ids), len(LABELS)), np.bool_)
        for i, row in enumerate(rows):
            present[i, list(row)] = True
        return Annotations(LABELS, tuple(ids), present, present)

    def annotations(self) -> Annotations:
        """Every image with its labels; `shown` equals `present`, nothing here is difficult."""
        return self._annotations

    def available(self, image_ids: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """bool [n]: True for every id of the data set, since images are drawn when asked for."""
        return np.array([self._find(image_id) is not None for image_id in image_ids], np.bool_)

    def image_bytes(self, image_id: str) -> bytes:
        """The 37,632 bytes of the picture: row by row, red, green, blue."""
        return self.pixels(image_id).tobytes()

    def open_image(self, image_id: str) -> Image.Image:
        """The picture as an RGB PIL image of 112 x 112 pixels."""
        return Image.fromarray(self.pixels(image_id))

    def pixels(self, image_id: str) -> npt.NDArray[np.uint8]:
        """uint8 [112, 112, 3]: the picture."""
        return _draw(*self._number(image_id))[0].copy()

    def masks(self, image_id: str) -> dict[str, npt.NDArray[np.bool_]]:
        """Label name -> bool [112, 112]: the pixels where its object is seen."""
        masks = _draw(*self._number(image_id))[1]
        return {LABELS[label]: mask.copy() for label, mask in masks.items()}

    def label_embeddings(self, labels: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32 [len(labels), 10]: their attributes (`label_embeddings` of this module)."""
        return label_embeddings(labels)

    def _find(self, image_id: str) -> tuple[int, PartName] | None:
        head, _, digits = image_id.partition("/")
        if head != "scenes" or len(digits) != 6 or not digits.isascii() or not digits.isdigit():
            return None
        number = int(digits)
        for group in PART_NAMES:
            if 0 <= number - FIRST[group] < self._counts[group]:
                return number, group
        return None

    def _number(self, image_id: str) -> tuple[int, PartName]:
        found = self._find(image_id)
        if found is None:
            ranges = ", ".join(
                f"scenes/{FIRST[group]:06d} to scenes/{FIRST[group] + count - 1:06d}"
                for group, count in self._counts.items()
                if count
            )
            raise BenchError(
                f"scenes has no image {image_id!r}",
                expected=ranges,
                found=repr(image_id),
                remedy="take the ids from the data set's annotations",
            )
        return found


class Scenes20k(Scenes):
    """`scenes` with 20,000 base images; the first 3,000 and all others are its own."""

    name = "scenes-20k"
    title = "Scenes 20k"

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(base_images=20_000)


# A feature extraction asks for an image's bytes and then for the image.
@lru_cache(maxsize=8)
def _draw(
    number: int, group: PartName
) -> tuple[npt.NDArray[np.uint8], dict[int, npt.NDArray[np.bool_]]]:
    return paint(lay_out(number, group), stream_seed("scenes", VERSION, "ground", number))

"""What a scene shows and where, decided in whole numbers: the same on every machine, for ever.

Every decision about image `scenes/000123` is drawn from its own SplitMix64 streams, keyed by
the data set's version, the image's number and the purpose. Nothing depends on how many images
there are.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlfsic_bench.data.dataset import PartName
from mlfsic_bench.data.scenes.labels import labels_of
from mlfsic_bench.randomness import splitmix64, stream_seed

VERSION = 1
SIZE = 112  # pixels each way
ANGLES = 48  # turns of 7.5 degrees
RADII = (14, 22)  # of an object, in pixels, both included
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Thing:
    """An object, or an unlabelled piece of clutter.

    `label` is the position in `scenes_labels.LABELS`, or -1 for a pebble and -2 for a stick.
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
    # Colours say nothing of the label; they only have to be told from their surroundings.
    colour: Colour = (0, 0, 0)
    for _ in range(40):
        colour = (draws.below(256), draws.below(256), draws.below(256))
        if all(
            sum(abs(a - b) for a, b in zip(colour, other, strict=True)) >= 170
            for other in away_from
        ):
            break
    return colour

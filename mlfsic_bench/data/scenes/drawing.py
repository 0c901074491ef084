"""Painting a laid-out scene in whole numbers, so that every pixel is the same everywhere.

Coordinates are in quarters of a pixel: with two samples a pixel each way, sample i lies at
2 i + 1. Only the table of sines is computed in floating point, and rounded to 1/1024.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.scenes.labels import LOOKS
from mlfsic_bench.data.scenes.layout import ANGLES, SIZE, Layout, Thing
from mlfsic_bench.randomness import splitmix64_array

Ints = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

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

"""Outlines of objects as masks: boxes, polygons and run lengths, at the size of an image.

What untrusted files say is checked before it is drawn: numbers are finite, points outside the
image are moved to its border, run lengths fill their frame exactly. A ValueError (TypeError,
OverflowError, IndexError from the conversions) means that the outline is broken; the caller knows
which file it came from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.images import MAX_PIXELS

Mask = npt.NDArray[np.bool_]
BROKEN = (ValueError, TypeError, OverflowError, IndexError, KeyError, RecursionError)


def box_mask(left: float, top: float, right: float, bottom: float, height: int, width: int) -> Mask:
    """bool [height, width]: every pixel the box touches, the part outside the image cut off.

    Coordinates are in pixels of the mask, 0 at the upper left corner, `width` at the right edge.
    """
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise ValueError("a box with a coordinate that is not finite")
    mask = np.zeros((height, width), np.bool_)
    x = np.clip((left, right), 0, width)
    y = np.clip((top, bottom), 0, height)
    if x[1] > x[0] and y[1] > y[0]:
        rows = slice(math.floor(y[0]), math.ceil(y[1]))
        mask[rows, math.floor(x[0]) : math.ceil(x[1])] = True
    return mask


def polygon_mask(rings: Any, scale: tuple[float, float], height: int, width: int) -> Mask:
    """bool [height, width]: the pixels inside any of the rings [x0, y0, x1, y1, ...].

    `scale` (down, across) takes a ring's coordinates to the mask's. Rings of fewer than three
    points enclose nothing.
    """
    from pycocotools import mask as coco_mask

    if not isinstance(rings, list):
        raise ValueError("polygons that are not a list")
    kept: list[list[float]] = []
    for ring in rings:
        points = np.asarray(ring, np.float64)
        if points.ndim != 1 or len(points) % 2 or not np.isfinite(points).all():
            raise ValueError("a polygon that is not a list of x, y, x, y, ...")
        if len(points) >= 6:
            points = points.reshape(-1, 2) * (scale[1], scale[0])
            kept.append(np.clip(points, 0, (width, height)).ravel().tolist())
    if not kept:
        return np.zeros((height, width), np.bool_)
    runs = coco_mask.merge(coco_mask.frPyObjects(kept, height, width))
    # Not its decode, which warns under numpy 2.
    counts = runs["counts"].decode("ascii")
    return run_length_mask({"size": [height, width], "counts": counts}, None, height, width)


def run_length_mask(runs: Any, frame: tuple[int, int] | None, height: int, width: int) -> Mask:
    """bool [height, width] from COCO run lengths, a list or a compressed string.

    `runs` is {"size": [h, w], "counts": ...}: lengths of background and object in turn, down the
    columns. `frame` is the size they must have, when known. The mask is stretched to the image:
    each of its pixels takes the value below its centre.
    """
    h, w = runs["size"]
    if type(h) is not int or type(w) is not int or h < 1 or w < 1 or h * w > MAX_PIXELS:
        raise ValueError(f"run lengths of the size {runs['size']!r:.80}")
    if frame is not None and (h, w) != frame:
        raise ValueError(f"run lengths of the size {[h, w]} in an image of {list(frame)}")
    counts = runs["counts"]
    if isinstance(counts, str):
        counts = _decompressed(counts.encode("ascii"))
    if not isinstance(counts, list) or any(type(n) is not int or n < 0 for n in counts):
        raise ValueError("run lengths that are not counts")
    if sum(counts) != h * w:
        raise ValueError(f"run lengths of {sum(counts)} pixels for a size of {[h, w]}")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    at_y = ((np.arange(height) + 0.5) * h / height).astype(np.int64)
    at_x = ((np.arange(width) + 0.5) * w / width).astype(np.int64)
    mask: Mask = flat.reshape(w, h).T[np.ix_(at_y, at_x)]
    return mask


def masks_of_labels(found: Iterable[tuple[str, bool, Mask | None]]) -> dict[str, Mask]:
    """Label -> the union of its objects' masks, of objects (label, whether it counts, mask).

    None: nothing says where the object is. Only labels with an object that counts are in the dict,
    and only when each that counts has a mask; other objects of such a label belong to its mask.
    """
    masks: dict[str, Mask] = {}
    known: set[str] = set()
    unknown: set[str] = set()
    for label, counts, mask in found:
        if counts:
            (known if mask is not None else unknown).add(label)
        if mask is not None and mask.any():
            masks[label] = masks[label] | mask if label in masks else mask
    return {label: mask for label, mask in masks.items() if label in known - unknown}


def _decompressed(text: bytes) -> list[int]:
    # COCO's string: six bits a character from '0' on, five of them a digit of base 32, lowest
    # first, the sixth says that more follow; from the fourth count on the difference to the count
    # before the last. pycocotools trusts the string and writes where it leads, so not used here.
    counts: list[int] = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            digit = text[at] - 48
            if not 0 <= digit < 64 or shift > 60:
                raise ValueError("a run length string with a foreign character")
            value |= (digit & 31) << shift
            shift += 5
            more = bool(digit & 32)
            at += 1
        if digit & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts

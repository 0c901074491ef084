"""Where VOC's objects are: masks from the boxes in Annotations/*.xml."""

from __future__ import annotations

from pathlib import Path

from mlfsic_bench.data.outlines import BROKEN, Mask, box_mask
from mlfsic_bench.data.voc.xml import read_annotation
from mlfsic_bench.decimals import read_decimal
from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import exists

_SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_masks(path: Path, height: int, width: int) -> dict[str, Mask]:
    """Label -> bool [height, width]: the boxes of its objects in the image as it was decoded.

    Boxes are stretched from the size the file gives, or taken as they are where it gives none.
    Coordinates count pixels from 1, both ends included. Only labels with an object that is not
    difficult are in the dict, and only when each such object has a box; the difficult objects of
    such a label belong to its mask. No file: an empty dict. Raises BenchError for a broken file or
    box.
    """
    if not exists(path):
        return {}
    found = read_annotation(path)
    masks: dict[str, Mask] = {}
    counts: set[str] = set()
    unknown: set[str] = set()
    try:
        h, w = _frame(found.size) or (height, width)
        for (label, difficult), box in zip(found.objects, found.boxes, strict=True):
            known = any(side in box for side in _SIDES)
            if not difficult:
                (counts if known else unknown).add(label)
            if not known:
                continue
            left, top, right, bottom = (_number(box[side]) for side in _SIDES)
            mask = box_mask(
                (left - 1) * width / w,
                (top - 1) * height / h,
                right * width / w,
                bottom * height / h,
                height,
                width,
            )
            if mask.any():
                masks[label] = masks[label] | mask if label in masks else mask
    except BROKEN as error:
        raise BenchError(
            f"{path} has a broken box",
            expected="a size, and boxes of four finite numbers: xmin, ymin, xmax, ymax",
            found=f"{type(error).__name__}: {error}",
            remedy="unpack the official VOC archives again",
        ) from error
    return {label: mask for label, mask in masks.items() if label in counts - unknown}


def _frame(size: dict[str, str]) -> tuple[int, int] | None:
    if "height" not in size and "width" not in size:
        return None
    sides = size["height"].strip(), size["width"].strip()
    if not all(side.isascii() and side.isdigit() for side in sides):
        raise ValueError(f"an image of the size {list(sides)!r:.80}")
    h, w = map(int, sides)
    return (h, w) if h and w else None  # 0 says nothing


def _number(text: str) -> float:
    number = read_decimal(text.strip().encode())
    if number is None:
        raise ValueError(f"{text!r:.80} is not a number")
    return number

"""Parsing an `instances_*.json` of COCO without its polygons."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular

MAX_BYTES = 2 << 30
# Polygons are nine tenths of the official files; leaving them out before parsing saves gigabytes of
# Python floats. Inside a JSON string the key's quotes would be escaped, so the pattern can match
# only a key.
_SEGMENTATION = re.compile(rb'"segmentation"\s*:\s*(\[[0-9eE+\-.,\s\[\]]*\]|\{[^{}]*\})')


def parse_instances(path: Path) -> dict[str, Any]:
    """The file's object, each `segmentation` replaced by the place of its text, [first, end].

    Places are offsets in bytes. Raises BenchError for a file that is not JSON with the lists
    images, annotations and categories.
    """
    try:
        with open_regular(path) as stream:
            text = stream.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise bad_file(path, f"more than {MAX_BYTES} bytes")
        data = json.loads(_SEGMENTATION.sub(lambda m: b'"segmentation":[%d,%d]' % m.span(1), text))
    except (OSError, ValueError, RecursionError) as error:
        raise bad_file(path, f"{type(error).__name__}: {error}") from error
    keys = ("images", "annotations", "categories")
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in keys):
        raise bad_file(path, f"no object with the lists {', '.join(keys)}")
    return data


def is_positive(entry: dict[str, Any]) -> bool:
    """Whether an annotation makes its label present: no crowd, no box or area of zero."""
    if entry.get("iscrowd", 0):
        return False
    box = entry.get("bbox")
    if box is not None:
        _, _, width, height = box
        return finite(width) > 0 and finite(height) > 0
    return "area" not in entry or finite(entry["area"]) > 0


def finite(value: Any) -> float:
    """The number as a float; ValueError for NaN and infinity."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number


def bad_file(path: Path, found: str) -> BenchError:
    """The error for a file that is not COCO's."""
    return BenchError(
        f"{path} is not the annotation file of COCO 2014",
        expected="JSON with images, annotations and the 80 official categories, "
        "every annotation naming an image and a category of the file",
        found=found,
        remedy="unpack the official annotations_trainval2014.zip again",
    )

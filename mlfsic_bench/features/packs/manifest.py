"""What a feature pack says of itself, and how its values are rounded.

docs/features.md describes every key of `manifest.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mlfsic_bench.hashing import hash_bytes
from mlfsic_bench.schema import FileSchema, Line, Name, Sha256, Text, Values, Version, Word
from mlfsic_bench.version import __version__

SUFFIX = ".mlfsic-features"
PAGE = "docs/features.md"
MANIFEST, INDEX, SPLIT = "manifest.json", "index.jsonl", "split.json.xz"
MOST_NETWORKS = 16
STEPS = 255  # between the smallest 8-bit value and the largest
Part = Literal["base", "val", "novel", "all"]
Kept = Literal["exact", "fp16", "int8"]
KEPT: tuple[Kept, ...] = ("exact", "fp16", "int8")
TYPES = {
    "exact": {"pooled": "<f4", "local": "<f2"},
    "fp16": {"pooled": "<f2", "local": "<f2"},
    "int8": {"pooled": "|u1", "local": "|u1"},
}
Count = Annotated[int, Field(ge=1, le=100_000_000)]


class PackedSplit(FileSchema):
    """Whose images a pack holds: of which part, or of the first `episodes` novel episodes of it."""

    id: Name
    hash: Sha256
    part: Part
    protocol: Name | None = None
    episodes: Count | None = None


class Change(FileSchema):
    """A metric with features as they were, and with those of the pack; null where undefined."""

    exact: float | None
    packed: float | None


class Measured(FileSchema):
    """What rounding did to every metric, with one method on the novel episodes of the pack."""

    method: Name
    episodes: Count
    metrics: dict[Word, Change]


class PackManifest(FileSchema):
    """Schema version 1 of a pack's `manifest.json`.

    `kept`: `exact` for the values of the store, else what they were rounded to. `networks` has the
    manifest of a store for each network; `weights` is what `--weights` named. `files` has the
    SHA-256 of every other member.
    """

    schema_version: Version = 1
    kind: Literal["mlfsic-bench feature pack"] = "mlfsic-bench feature pack"
    dataset: Name
    split: PackedSplit
    images: Count
    kept: Kept
    maps: bool
    weights: Line
    networks: Annotated[list[Values], Field(min_length=1, max_length=MOST_NETWORKS)]
    measured: Measured | None = None
    made_by: Text = ""
    version: Name = __version__
    files: Annotated[dict[Word, Sha256], Field(max_length=100)]


def rounding_of(manifest: PackManifest) -> str | None:
    """What a run's identity says of values that are not the store's; None for exact ones.

    Values of eight bits depend on the scales, which depend on all images of the pack.
    """
    if manifest.kept != "int8":
        return None if manifest.kept == "exact" else manifest.kept
    files = manifest.files
    scales = sorted((name, files[name]) for name in files if name.endswith("-scale.npy"))
    return f"int8 {hash_bytes(json.dumps(scales).encode())[:16]}"


def scale_of(blocks: Iterator[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """float32 [2, c]: of each channel the smallest value and the step between two 8-bit values.

    `blocks`: arrays whose last axis are the channels.
    """
    lows, highs = [], []
    for block in blocks:
        flat = block.reshape(-1, block.shape[-1])
        lows.append(flat.min(0))
        highs.append(flat.max(0))
    low, high = np.min(lows, 0).astype(np.float64), np.max(highs, 0).astype(np.float64)
    return np.stack([low, (high - low) / STEPS]).astype(np.float32)


def to_bytes(values: npt.NDArray[Any], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """uint8 [..., c]: the nearest of the 256 values of each channel."""
    low, step = scale
    places = (values - low) / np.where(step > 0, step, 1)
    nearest: npt.NDArray[np.uint8] = np.clip(np.rint(places), 0, STEPS).astype(np.uint8)
    return nearest


def from_bytes(packed: npt.NDArray[Any], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """float32 [..., c]: the values that `to_bytes` rounded to."""
    low, step = scale
    values: npt.NDArray[np.float32] = packed.astype(np.float32) * step + low
    return values

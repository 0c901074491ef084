"""What a user asks for: one run with all its options."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mlfsic_bench.embeddings.formats import Form
    from mlfsic_bench.episodes.protocol import Protocol

FeatureMode = Literal["stored", "live", "end-to-end"]
Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
FEATURE_MODES: tuple[FeatureMode, ...] = ("stored", "live", "end-to-end")


@dataclass(frozen=True)
class RunPlan:
    """One run as a user asks for it; the command line's options, one field each.

    Attributes
    ----------
    method: a method's name, or `path/to/file.py:Class`.
    split: a shipped split's id or a split file.
    backbone, weights: as in `mlfsic-bench features`.
    data_root: where the dataset lies; None: the environment variable MLFSIC_DATA.
    embeddings: a file of label embeddings, or None.
    embeddings_format: how that file is written: `text`, `binary`, or `auto` to look at its content.
    available_only, min_pool: limit the split to the images on disk.
    base_images: train on the first so many base images only (`harness.base_images`); None for all.
    preset, settings: the method's parameters, `settings` being name -> text.
    seed: the training seed.
    protocol: how the novel episodes are drawn; None: as `episodes_file` says, else the default.
    episodes: only the first so many episodes of the set; None for all.
    episodes_file: an episode file instead of the split's own episodes.
    features: `stored`, `live`, or `end-to-end` (the backbone is trained too).
    precision: of the backbone that makes stored features, `fp32` or `bf16`.
    device: `auto`, `cpu` or `cuda`.
    cache: where extracted features are kept; None for the user's cache folder.
    batch_size, workers: of the extraction; None for what suits the device.
    out: the run's folder; None for `runs/<method>-<split>[-subset]-<key>`.
    """

    method: str
    split: str
    backbone: str
    weights: str = "default"
    data_root: Path | None = None
    embeddings: Path | None = None
    embeddings_format: Form = "auto"
    available_only: bool = False
    min_pool: int | None = None
    base_images: int | None = None
    preset: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    protocol: Protocol | None = None
    episodes: int | None = None
    episodes_file: Path | None = None
    features: FeatureMode = "stored"
    precision: Precision = "fp32"
    device: str = "auto"
    cache: Path | None = None
    batch_size: int | None = None
    workers: int | None = None
    out: Path | None = None


def default_folder(method: str, split_id: str, subset: bool, key: str) -> Path:
    """`runs/<method>-<split>[-subset]-<first 8 digits of the key>`."""
    parts = [method, split_id, *(["subset"] if subset else []), key[:8]]
    return Path("runs") / "-".join(re.sub(r"[^A-Za-z0-9._-]+", "_", part) for part in parts)

"""The backbones of `scenes`, trained on its base images; their weights are in the package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mlfsic_bench.errors import unknown_name
from mlfsic_bench.features.backbones import scenes_networks
from mlfsic_bench.features.backbones.base import Backbone
from mlfsic_bench.features.backbones.scenes_networks import GRID, INPUT_SIZE
from mlfsic_bench.features.backbones.transforms import Squash
from mlfsic_bench.features.backbones.weights import initialised, load_strictly, read_state_dict


@dataclass(frozen=True)
class Variant:
    """One of the networks.

    Attributes
    ----------
    network: makes it, its weights drawn from torch's generator.
    channels: of its map [n, c, 7, 7].
    weights_file: its trained weights, beside this module.
    """

    network: Callable[[], nn.Module]
    channels: int
    weights_file: str


VARIANTS = {
    "scenes-small": Variant(scenes_networks.small, scenes_networks.SMALL[-1], "scenes_small.npz"),
    "scenes-deep": Variant(scenes_networks.deep, scenes_networks.STAGES[-1][0], "scenes_deep.npz"),
    "scenes-patch": Variant(scenes_networks.patch, scenes_networks.WIDTH, "scenes_patch.npz"),
}


def variant(name: str) -> Variant:
    """The network of this name; BenchError when there is none."""
    if name not in VARIANTS:
        raise unknown_name("backbone of scenes", name, VARIANTS)
    return VARIANTS[name]


def transform() -> Squash:
    """Pixels to [-1, 1]; a scene has the input's size already."""
    return Squash(INPUT_SIZE, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def build(name: str, weights: str) -> Backbone:
    """The backbone with weights `default` (those in the package), `none`, or a state dict's path.

    A path is a file written by `torch.save`. Raises BenchError for weights that do not fit.
    """
    kind = variant(name)
    body = initialised(kind.network, name)
    if weights == "default":
        load_strictly(body, shipped_weights(name), f"the weights of {name} in the package")
    elif weights != "none":
        load_strictly(body, read_state_dict(Path(weights)), weights)
    return Backbone(
        name,
        body,
        channels=kind.channels,
        grid=GRID,
        transform=transform(),
        weights=weights,
    )


def shipped_weights(name: str = "scenes-small") -> dict[str, Tensor]:
    """The weights in the package: stored as float16, used (and hashed) as float32."""
    file = files("mlfsic_bench.features.backbones").joinpath(variant(name).weights_file)
    with np.load(BytesIO(file.read_bytes()), allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key].astype(np.float32)) for key in arrays.files}

"""`scenes-small`: five convolutions trained on the base images of `scenes`; weights included."""

from __future__ import annotations

from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mlfsic_bench.features.backbone import Backbone
from mlfsic_bench.features.transforms import Squash
from mlfsic_bench.features.weights import initialised, load_strictly, read_state_dict

NAME = "scenes-small"
WEIGHTS_FILE = "scenes_small.npz"
INPUT_SIZE = 112
WIDTHS = (24, 48, 80, 128, 128)  # channels after each convolution
STRIDES = (2, 2, 2, 2, 1)  # 112 pixels become 7 cells of 16 pixels; each sees 63 pixels
CHANNELS, GRID = WIDTHS[-1], (7, 7)


def network() -> nn.Sequential:
    """3 x 3 convolutions with batch norm and ReLU: [n, 3, 112, 112] to [n, 128, 7, 7]."""
    layers: list[nn.Module] = []
    for i, (width, stride) in enumerate(zip(WIDTHS, STRIDES, strict=True)):
        before = WIDTHS[i - 1] if i else 3
        layers += [
            nn.Conv2d(before, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def transform() -> Squash:
    """Pixels to [-1, 1]; a scene has the input's size already."""
    return Squash(INPUT_SIZE, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def build(weights: str) -> Backbone:
    """The backbone with weights `default` (those in the package), `none`, or a state dict's path.

    A path is a file written by `torch.save`. Raises BenchError for weights that do not fit.
    """
    body = initialised(network, NAME)
    if weights == "default":
        load_strictly(body, shipped_weights(), f"the weights of {NAME} in the package")
    elif weights != "none":
        load_strictly(body, read_state_dict(Path(weights)), weights)
    return Backbone(
        NAME,
        body,
        channels=CHANNELS,
        grid=GRID,
        transform=transform(),
        weights=weights,
    )


def shipped_weights() -> dict[str, Tensor]:
    """The weights in the package: stored as float16, used as float32."""
    data = files("mlfsic_bench.features").joinpath(WEIGHTS_FILE).read_bytes()
    with np.load(BytesIO(data), allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in arrays.files}

"""The three backbones of `scenes`: plain convolutions, a deeper residual network, a transformer.

All map [n, 3, 112, 112] to 7 x 7 cells of 16 pixels, so that they can be set side by side. They
were trained on the base images of `scenes` by `tools/train_scenes.py`; their weights are in the
package.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO

import numpy as np
import torch
from torch import Tensor, nn

from mlfsic_bench.errors import unknown_name
from mlfsic_bench.features.backbones.base import Backbone, Squash
from mlfsic_bench.features.backbones.weights import initialised, load_weights

INPUT_SIZE = 112
GRID = (7, 7)
CELL = INPUT_SIZE // GRID[0]  # 16 pixels

SMALL = (24, 48, 80, 128, 128)  # channels after each convolution
SMALL_STRIDES = (2, 2, 2, 2, 1)  # each cell sees 63 pixels

STEM = 24
# (channels, width inside a bottleneck, bottlenecks) of the stages at 28, 14 and 7 cells
STAGES = ((48, 24, 1), (80, 40, 3), (128, 48, 3))

WIDTH, DEPTH, HEADS, MLP = 96, 3, 4, 192  # of the transformer


def small() -> nn.Sequential:
    """Five 3 x 3 convolutions with batch norm and ReLU: 128 channels."""
    layers: list[nn.Module] = []
    for i, (width, stride) in enumerate(zip(SMALL, SMALL_STRIDES, strict=True)):
        before = SMALL[i - 1] if i else 3
        layers += _conv(before, width, 3, stride)
    return nn.Sequential(*layers)


def deep() -> nn.Sequential:
    """25 convolutions: 4 that halve the map, 7 residual bottlenecks of three: 128 channels.

    The bottleneck is that of He et al. (CVPR 2016), of which ResNet-101 is built.
    """
    layers: list[nn.Module] = _conv(3, STEM, 3, 2)
    before = STEM
    for channels, width, count in STAGES:
        layers += _conv(before, channels, 3, 2)
        layers += [Bottleneck(channels, width) for _ in range(count)]
        before = channels
    return nn.Sequential(*layers)


class Bottleneck(nn.Module):
    """x + 1 x 1, 3 x 3, 1 x 1 convolutions of x, then ReLU; shapes stay."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_conv(channels, width, 1, 1), *_conv(width, width, 3, 1), *_conv(width, channels, 1, 1)
        )[:-1]
        # A block starts as the identity (Goyal et al. 2017, section 5.1): deep nets then train.
        nn.init.zeros_(self.residual[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """float [n, c, h, w], the same shape."""
        y: Tensor = torch.relu(x + self.residual(x))
        return y


def _conv(before: int, after: int, size: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    ]


class PatchTransformer(nn.Module):
    """A vision transformer (Dosovitskiy et al., ICLR 2021) on 49 patches of 16 x 16 pixels.

    Pre-norm blocks and learnt positions as there; no class token, as nothing reads one: the map is
    the patch tokens after the last LayerNorm, 96 channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, CELL, CELL)
        self.positions = nn.Parameter(0.02 * torch.randn(GRID[0] * GRID[1], WIDTH))
        self.blocks = nn.Sequential(*[Block() for _ in range(DEPTH)])
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """float [n, 96, 7, 7]."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions  # [n, 49, 96]
        tokens = self.norm(self.blocks(tokens))
        maps: Tensor = tokens.transpose(1, 2).reshape(len(x), WIDTH, *GRID)
        return maps


class Block(nn.Module):
    """Self-attention and a two-layer network, each normalised first and added to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, MLP), nn.GELU(), nn.Linear(MLP, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """float [n, t, d], the same shape."""
        x = x + self._attention(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y

    def _attention(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        # Q, K, V: [n, heads, t, d / heads]
        Q, K, V = self.qkv(x).view(n, t, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)
        A = (Q @ K.transpose(2, 3) / math.sqrt(d // HEADS)).softmax(3)
        y: Tensor = self.out((A @ V).transpose(1, 2).reshape(n, t, d))
        return y


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
    "scenes-small": Variant(small, SMALL[-1], "scenes_small.npz"),
    "scenes-deep": Variant(deep, STAGES[-1][0], "scenes_deep.npz"),
    "scenes-patch": Variant(PatchTransformer, WIDTH, "scenes_patch.npz"),
}


def variant(name: str) -> Variant:
    """The network of this name; BenchError when there is none."""
    if name not in VARIANTS:
        raise unknown_name("backbone of scenes", name, VARIANTS)
    return VARIANTS[name]


def transform() -> Squash:
    """Pixels to [-1, 1]; a scene has the input's size already."""
    return Squash(INPUT_SIZE, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def scenes_small(weights: str) -> Backbone:
    """Five convolutions, trained on the base images of `scenes`; weights in the package."""
    return build("scenes-small", weights)


def scenes_deep(weights: str) -> Backbone:
    """A residual network of 25 convolutions for `scenes`; weights in the package."""
    return build("scenes-deep", weights)


def scenes_patch(weights: str) -> Backbone:
    """A small vision transformer for `scenes`; weights in the package."""
    return build("scenes-patch", weights)


def build(name: str, weights: str) -> Backbone:
    """The backbone with weights `default` (those in the package), `none`, or a state dict's path.

    A path is a file written by `torch.save`. Raises BenchError for weights that do not fit.
    """
    kind = variant(name)
    body = initialised(kind.network, name)
    own = ("default", lambda: shipped_weights(name), f"the weights of {name} in the package")
    load_weights(body, weights, own)
    return Backbone(
        name,
        body,
        channels=kind.channels,
        grid=GRID,
        transform=transform(),
        weights=weights,
        found="in the package" if weights == "default" else weights,
    )


def shipped_weights(name: str = "scenes-small") -> dict[str, Tensor]:
    """The weights in the package: stored as float16, used (and hashed) as float32."""
    file = files("mlfsic_bench.features.backbones").joinpath(variant(name).weights_file)
    with np.load(BytesIO(file.read_bytes()), allow_pickle=False) as arrays:
        return {key: torch.from_numpy(arrays[key].astype(np.float32)) for key in arrays.files}

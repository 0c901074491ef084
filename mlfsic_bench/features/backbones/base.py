"""The Backbone: a network from a normalised image to a local feature map and a global vector.

And what goes with every one: the transform from an image to its input, and the merging of batch
norms into the convolutions before them (the same function, fewer passes).
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.weights import hash_weights

if TYPE_CHECKING:
    from PIL.Image import Image

    from mlfsic_bench.embeddings.texts import TextEncoder


class Transform(Protocol):
    """From an image to the input of a network.

    Attributes
    ----------
    size: side of the input in pixels.
    id: everything the values depend on, as a short string; part of a feature store's key.
    """

    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def id(self) -> str: ...  # noqa: D102

    def __call__(self, image: Image) -> Tensor:
        """float32 [3, size, size] made from an RGB image."""


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Squash:
    """Resize straight to size x size (aspect not kept, nothing cropped, no augmentation).

    Source: methodology, input size (the paper gives none; its authors' code squashes to 224 x 224).
    The whole image is kept on purpose: a centre crop would cut off labelled objects at the border.
    Pillow widens the filter when it shrinks an image, so the resize is anti-aliased.

    Attributes
    ----------
    size: side of the network's input in pixels.
    resample: `bilinear`, `bicubic`, or another filter of Pillow.
    mean, std: per channel, in units of pixels / 255, those of ImageNet by default:
        x = (pixel / 255 - mean) / std.
    """

    size: int
    resample: Literal["bilinear", "bicubic", "lanczos", "nearest", "box", "hamming"] = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @property
    def id(self) -> str:
        """Everything the values depend on, as a short string; part of a feature store's key."""
        mean, std = (",".join(f"{v:.6g}" for v in values) for values in (self.mean, self.std))
        return f"squash{self.size}-{self.resample}-mean{mean}-std{std}"

    def __call__(self, image: Image) -> Tensor:
        """float32 [3, size, size]: the normalised input made from an RGB image."""
        scale, shift = self._scale_and_shift()
        x = self.pixels(image).astype(np.float32) * scale + shift
        return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)))

    def pixels(self, image: Image) -> npt.NDArray[np.uint8]:
        """uint8 [size, size, 3]: the resized image, all that `normalised` needs of it."""
        from PIL import Image as PILImage

        if image.size != (self.size, self.size):
            chosen = PILImage.Resampling[self.resample.upper()]
            image = image.resize((self.size, self.size), chosen)
        return np.asarray(image)

    def normalised(self, pixels: Tensor) -> Tensor:
        """float32 [n, 3, size, size], channels last in memory, of uint8 [n, size, size, 3].

        On the device of the pixels, and bit for bit what the transform makes of the images.
        """
        scale, shift = (torch.from_numpy(v).to(pixels.device) for v in self._scale_and_shift())
        return pixels.float().mul_(scale).add_(shift).permute(0, 3, 1, 2)

    def _scale_and_shift(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        mean, std = (np.asarray(v, np.float64) for v in (self.mean, self.std))
        return (1.0 / (255.0 * std)).astype(np.float32), (-mean / std).astype(np.float32)


def lite_squash(size: int) -> Squash:
    """The transform of EfficientNet-Lite: bicubic, (pixel - 127) / 128 as its training used."""
    m, s = 127 / 255, 128 / 255
    return Squash(size, "bicubic", (m, m, m), (s, s, s))


ConvNormPairs = tuple[tuple[str, str], ...]
MEAN = "mean"  # the global vector that is the average of the map
# What is written behind `@` in a spec -> what records call that global vector.
VECTORS = {
    "mean": MEAN,
    "class": "class token",
    "pool": "attention pool",
    "projection": "projection",
}


def choose_vector(name: str, asked: str | None, possible: Collection[str]) -> str:
    """The key of VECTORS to make: `asked`, or the first possible one; BenchError for another."""
    if asked is None:
        return next(iter(possible))
    if asked not in possible:
        raise BenchError(
            f"the backbone {name} has no global vector @{asked}",
            expected=", ".join(f"@{one}" for one in sorted({*possible, "mean"} - {""})),
            found=f"@{asked}",
            remedy="choose one of these, or leave it out for the backbone's own",
        )
    return asked


class Backbone(nn.Module):
    """Maps inputs to local feature maps f_loc and global vectors, and knows what made it.

    `body` maps inputs [n, 3, H, W] to maps [n, c, h, w], whose average is then the global vector;
    or to (maps, vectors [n, d]), and `vector` says what the vectors are.

    Attributes
    ----------
    name: the name it is built by, as it stands in records.
    weights: what the weights were asked as (`imagenet`, `none`, a path); not part of any key.
    found: where they were found, in words; not part of any key.
    channels: c.
    grid: (h, w) of the map for inputs of `input_size`.
    vector: what the global vector is: one of VECTORS, or as a backbone of others calls it. For
        `mean` the average of the map is taken, whatever the body returns beside it.
    dim: d, the width of the global vector; c for the mean.
    input_size: side of the input in pixels.
    weights_hash: SHA-256 of the weights that make the features (`hash_weights`).
    transform: a decoded RGB image -> float32 [3, input_size, input_size].
    transform_id: everything the transform's values depend on.
    conv_norm_pairs: attribute names (convolution, batch norm) that follow each other directly in
        any submodule that has both; what `folded` may merge.
    text: its text side, in the same space as the global vector, or None.
    """

    def __init__(
        self,
        name: str,
        body: nn.Module,
        *,
        channels: int,
        grid: tuple[int, int],
        transform: Transform,
        weights: str,
        conv_norm_pairs: ConvNormPairs = (),
        vector: str = MEAN,
        dim: int | None = None,
        found: str = "",
        text: TextEncoder | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.body = body
        self.channels = channels
        self.grid = grid
        self.vector = vector
        self.dim = channels if dim is None else dim
        self.input_size = transform.size
        self.transform = transform
        self.transform_id = transform.id
        self.weights = weights
        self.found = found
        self.conv_norm_pairs = conv_norm_pairs
        self.text: TextEncoder | None = text
        self.weights_hash = self._hashed = hash_weights(self.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        """float [n, c, h, w]: the local feature maps of normalised inputs [n, 3, H, W]."""
        return self.features(x)[0]

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(maps float [n, c, h, w], global vectors float32 [n, d]) of normalised inputs, in a pass.

        The mean of a map is taken in float32, whatever the map's own type.
        """
        made = self.body(x)
        maps, vectors = made if isinstance(made, tuple) else (made, None)
        if vectors is None or self.vector == MEAN:
            return maps, maps.float().mean(dim=(2, 3))
        return maps, vectors.float()

    def require_unchanged(self) -> None:
        """BenchError when the weights are not those that `weights_hash` was made of."""
        if hash_weights(self.state_dict()) != self._hashed:
            raise BenchError(
                f"the weights of the backbone {self.name!r} have changed since it was made",
                expected="the weights that its hash, and with it the features in the cache, are of",
                found="others: the network was trained, or a state dict was loaded into it",
                remedy="make the backbone again of the network as it is now",
            )

    def built(self) -> Backbone:
        """The network itself, which it is; one that is only known builds it (`known`)."""
        return self

    def use_mean(self) -> None:
        """Let the global vector be the mean of the map from now on."""
        self.vector, self.dim, self.text = MEAN, self.channels, None


def folded(backbone: Backbone) -> Backbone:
    """A copy of the backbone in evaluation mode whose declared batch norms are merged.

    Equal to the original up to float32 rounding. Only what the backbone declares in
    `conv_norm_pairs` is merged, plus a convolution directly followed by a batch norm inside an
    `nn.Sequential`, where the order of calls is known. Batch norms that do more (an activation in
    a subclass, as in timm) stay, and so do undeclared convolutions of a subclass, which may make
    their weights anew in each pass.
    """
    result = copy.deepcopy(backbone).eval()
    declared = getattr(backbone, "conv_norm_pairs", ())
    for module in list(result.modules()):
        for conv_name, norm_name in declared:
            _merge(module, conv_name, norm_name)
        if type(module).forward is nn.Sequential.forward:
            for conv_name, norm_name in pairwise(list(module._modules)):
                if type(module._modules[conv_name]) is nn.Conv2d:
                    _merge(module, conv_name, norm_name)
    return result.requires_grad_(False)


def _merge(module: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = module._modules.get(conv_name), module._modules.get(norm_name)
    if not isinstance(conv, nn.Conv2d) or type(norm) is not nn.BatchNorm2d:
        return
    if norm.running_mean is not None and not conv._forward_hooks and not norm._forward_hooks:
        setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
        setattr(module, norm_name, nn.Identity())

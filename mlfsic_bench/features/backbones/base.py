"""The Backbone: a network from a normalised image to a local feature map, with its identity.

And what goes with every one: the transform from an image to its input, and the merging of batch
norms into the convolutions before them (the same function, fewer passes).
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from PIL.Image import Image


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
    resample: `bilinear` or `bicubic`.
    mean, std: per channel, in units of pixels / 255: x = (pixel / 255 - mean) / std.
    """

    size: int
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @property
    def id(self) -> str:
        """Everything the values depend on, as a short string; part of a feature store's key."""
        mean, std = (",".join(f"{v:.6g}" for v in values) for values in (self.mean, self.std))
        return f"squash{self.size}-{self.resample}-mean{mean}-std{std}"

    def __call__(self, image: Image) -> Tensor:
        """float32 [3, size, size]: the normalised input made from an RGB image."""
        import torch
        from PIL import Image as PILImage

        filters = {
            "bilinear": PILImage.Resampling.BILINEAR,
            "bicubic": PILImage.Resampling.BICUBIC,
        }
        if image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), filters[self.resample])
        pixels = np.asarray(image, dtype=np.float32)  # [size, size, 3]
        scale = 1.0 / (255.0 * np.asarray(self.std, dtype=np.float64))
        shift = -np.asarray(self.mean, np.float64) / np.asarray(self.std, np.float64)
        x = pixels * scale.astype(np.float32) + shift.astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)))


def imagenet_squash(size: int) -> Squash:
    """The transform of the torchvision backbones: bilinear, ImageNet mean and deviation."""
    return Squash(size)


def lite_squash(size: int) -> Squash:
    """The transform of EfficientNet-Lite: bicubic, (pixel - 127) / 128 as its training used."""
    m, s = 127 / 255, 128 / 255
    return Squash(size, "bicubic", (m, m, m), (s, s, s))


ConvNormPairs = tuple[tuple[str, str], ...]


class Backbone(nn.Module):
    """Maps a batch of inputs to local feature maps f_loc, and knows what made it.

    Attributes
    ----------
    name: the name it is built by.
    weights: what the weights were asked as (`imagenet`, `none`, a path); not part of any key.
    channels: c.
    grid: (h, w) of the map for inputs of `input_size`.
    input_size: side of the input in pixels.
    weights_hash: SHA-256 of the weights that make the features (`hash_weights`).
    transform: a decoded RGB image -> float32 [3, input_size, input_size].
    transform_id: everything the transform's values depend on.
    conv_norm_pairs: attribute names (convolution, batch norm) that follow each other directly in
        any submodule that has both; what `folding.folded` may merge.
    """

    def __init__(
        self,
        name: str,
        body: nn.Module,
        *,
        channels: int,
        grid: tuple[int, int],
        transform: Squash,
        weights: str,
        conv_norm_pairs: ConvNormPairs = (),
    ) -> None:
        super().__init__()
        self.name = name
        self.body = body
        self.channels = channels
        self.grid = grid
        self.input_size = transform.size
        self.transform: Callable[[Image], Tensor] = transform
        self.transform_id = transform.id
        self.weights = weights
        self.conv_norm_pairs = conv_norm_pairs
        self.weights_hash = hash_weights(self.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        """float [n, c, h, w]: the local feature maps of normalised inputs [n, 3, H, W]."""
        maps: Tensor = self.body(x)
        return maps


def hash_weights(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of a state dict, in the order of the names.

    Counters of seen batches (`num_batches_tracked`) are left out: no feature depends on them, and
    files from different times carry them or not.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        if name.endswith("num_batches_tracked"):
            continue
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes() if tensor.dim() else b"")
        if not tensor.dim():
            digest.update(repr(tensor.item()).encode())
    return digest.hexdigest()


T = TypeVar("T", bound=nn.Module)


def folded(backbone: Backbone) -> nn.Module:
    """A copy of the backbone in evaluation mode whose declared batch norms are merged.

    Equal to the original up to float32 rounding. Only what the backbone declares in
    `conv_norm_pairs` is merged, plus a convolution directly followed by a batch norm inside an
    `nn.Sequential`, where the order of calls is known.
    """
    result = copy.deepcopy(backbone).eval()
    pairs = getattr(backbone, "conv_norm_pairs", ())
    for module in list(result.modules()):
        names = list(pairs)
        if isinstance(module, nn.Sequential):
            children = list(module._modules)
            names += list(pairwise(children))
        for conv_name, norm_name in names:
            conv, norm = module._modules.get(conv_name), module._modules.get(norm_name)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    return result.requires_grad_(False)

"""From a decoded image to a network's input: one squash to the input size, then normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

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

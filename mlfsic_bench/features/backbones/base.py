"""The Backbone: a network from a normalised image to a local feature map, with its identity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from PIL.Image import Image

    from mlfsic_bench.features.backbones.transforms import Squash

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

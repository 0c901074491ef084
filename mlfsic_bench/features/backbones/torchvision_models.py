"""The classification networks of torchvision as backbones: `torchvision:NAME` or `NAME/WEIGHTS`.

Three of them also have short names: `resnet50`, `resnet101`, `vit_b_16`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.features.backbones.base import (
    VECTORS,
    Backbone,
    ConvNormPairs,
    Squash,
    choose_vector,
)
from mlfsic_bench.features.backbones.weights import (
    checksum_in,
    hub_file,
    initialised,
    load_strictly,
    read_state_dict,
)
from mlfsic_bench.hashing import hash_file

Step = str | Callable[[Tensor], Tensor]


def resnet50(weights: str) -> Backbone:
    """ResNet-50 (He et al., CVPR 2016) of torchvision."""
    return build("resnet50", weights)


def resnet101(weights: str) -> Backbone:
    """ResNet-101 (He et al., CVPR 2016) of torchvision."""
    return build("resnet101", weights)


def vit_b_16(weights: str, vector: str | None = None) -> Backbone:
    """ViT-B/16 (Dosovitskiy et al., ICLR 2021) of torchvision."""
    return build("vit_b_16", weights, vector)


# -- from an image to the last map, by the class of the network --------------------------------


def _rescaled(x: Tensor) -> Tensor:
    """ImageNet's normalisation made into (pixel / 255 - 0.5) / 0.5, as these weights want it.

    Source: torchvision, `transform_input` of GoogLeNet and Inception3.
    """
    std, mean = x.new_tensor([0.229, 0.224, 0.225]), x.new_tensor([0.485, 0.456, 0.406])
    return x * (std / 0.5)[:, None, None] + ((mean - 0.5) / 0.5)[:, None, None]


_RESNET = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
_GOOGLENET: tuple[Step, ...] = (
    _rescaled, "conv1", "maxpool1", "conv2", "conv3", "maxpool2",
    "inception3a", "inception3b", "maxpool3",
    "inception4a", "inception4b", "inception4c", "inception4d", "inception4e", "maxpool4",
    "inception5a", "inception5b",
)  # fmt: skip
_INCEPTION: tuple[Step, ...] = (
    _rescaled, "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1",
    "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2", "Mixed_5b", "Mixed_5c", "Mixed_5d",
    "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7a", "Mixed_7b", "Mixed_7c",
)  # fmt: skip
# Of all other classes the map is what `features` gives.
STEPS: dict[str, tuple[Step, ...]] = {
    "ResNet": _RESNET,
    "RegNet": ("stem", "trunk_output"),
    "DenseNet": ("features", torch.relu),
    "ShuffleNetV2": ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"),
    "MNASNet": ("layers",),
    "MaxVit": ("stem", "blocks"),
    "SwinTransformer": ("features", "norm", "permute"),
    "GoogLeNet": _GOOGLENET,
    "Inception3": _INCEPTION,
}
# What `folded` may merge: in these classes the order of calls is known.
PAIRS: dict[str, ConvNormPairs] = {
    "ResNet": (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),
    "DenseNet": (("conv1", "norm2"),),
    "GoogLeNet": (("conv", "bn"),),
    "Inception3": (("conv", "bn"),),
}


class Chain(nn.Module):
    """Parts of a network, called one after the other; what comes after the last map is left out."""

    def __init__(self, net: nn.Module, steps: tuple[Step, ...]) -> None:
        super().__init__()
        self.steps = steps
        for step in steps:
            if isinstance(step, str):
                part = getattr(net, step)
                setattr(self, step, nn.Sequential(*part) if type(part) is nn.ModuleList else part)

    def forward(self, x: Tensor) -> Tensor:
        """float [n, c, h, w] of [n, 3, H, W]."""
        for step in self.steps:
            x = getattr(self, step)(x) if isinstance(step, str) else step(x)
        return x


class ViTBody(nn.Module):
    """A torchvision ViT: its patch tokens after the final LayerNorm, [n, d, H/p, W/p].

    And the class token there, [n, d].
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        net.heads = nn.Identity()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(maps float [n, d, H/p, W/p], class tokens float [n, d])."""
        patches: Tensor = self.net._process_input(x)  # [n, h w, d]
        first = self.net.class_token.expand(len(x), -1, -1)
        tokens: Tensor = self.net.encoder(torch.cat([first, patches], dim=1))
        side = x.shape[-1] // self.net.patch_size
        maps = tokens[:, 1:].transpose(1, 2).reshape(len(x), -1, side, side)
        return maps, tokens[:, 0]


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


def build(name: str, weights: str, vector: str | None = None) -> Backbone:
    """Networks of torchvision, such as `torchvision:resnet18`, or `resnet18/IMAGENET1K_V1`.

    Weights are `default` or `imagenet` (the first that torchvision published of this network, or
    those named; from torch's hub cache), `none`, or the path of a state dict.
    """
    models = import_torchvision().models
    network, _, published = name.partition("/")
    known = models.list_models(module=models)
    if network not in known:
        error = unknown_name("classification network of torchvision", network, known)
        error.expected = f"one of the {len(known)} names of torchvision.models.list_models()"
        raise error
    enum = _published(models, network, published)
    settings = enum.transforms()
    side = settings.crop_size[0]
    make = models.get_model_builder(network)
    # the positions of a transformer are made for one size
    sized = {"image_size": side} if make.__module__.endswith("vision_transformer") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # GoogLeNet and Inception on their init
        net: Any = initialised(lambda: make(weights=None, **sized), network)
    kind = type(net).__name__
    body: nn.Module = (
        ViTBody(net) if kind == "VisionTransformer" else Chain(net, STEPS.get(kind, ("features",)))
    )
    found = _load(net, body, name, weights, enum)
    size = Squash(side, settings.interpolation.value, tuple(settings.mean), tuple(settings.std))
    with torch.inference_mode():
        made = body.eval()(torch.zeros(1, 3, side, side))
    maps, vectors = made if isinstance(made, tuple) else (made, None)
    chosen = choose_vector(name, vector, ["mean"] if vectors is None else ["class"])
    return Backbone(
        name,
        body,
        channels=maps.shape[1],
        grid=(maps.shape[2], maps.shape[3]),
        transform=size,
        weights="imagenet" if weights == "default" else weights,
        conv_norm_pairs=PAIRS.get(kind, ()),
        vector=VECTORS[chosen],
        found=found,
    )


def _published(models: Any, network: str, asked: str) -> Any:
    """The member of torchvision's enum with that name, or the first."""
    every = {member.name: member for member in models.get_model_weights(network)}
    if not asked:
        return next(iter(every.values()))
    if asked not in every:
        raise unknown_name(f"weights of torchvision's {network}", asked, every)
    return every[asked]


def _load(net: nn.Module, body: nn.Module, name: str, weights: str, enum: Any) -> str:
    """Load what `--weights` says into the network; where it was found, in words."""
    if weights == "none":
        return "random, from a named stream"
    kept = {id(part) for part in body.modules()}
    head = tuple(f"{key}." for key, part in net.named_children() if id(part) not in kept)
    if weights in ("default", "imagenet"):
        path = hub_file(name, enum.url)
        load_strictly(net, read_state_dict(path), str(path), (*head, "heads."))
        return f"{path} ({enum})"
    state = read_state_dict(Path(weights))
    load_strictly(net, state, weights, (*head, "heads."))
    digest = hash_file(Path(weights))
    same = [str(one) for one in type(enum) if digest.startswith(checksum_in(one.url) or "-")]
    return f"{weights} ({', '.join(same) or 'no weights of torchvision, by its checksum'})"

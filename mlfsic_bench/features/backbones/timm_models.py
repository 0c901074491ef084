"""The networks of timm as backbones: `timm:NAME`, or `timm:NAME.TAG` for one of their weights."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlfsic_bench.errors import BenchError, nearest
from mlfsic_bench.features.backbones.base import (
    MEAN,
    VECTORS,
    Backbone,
    Squash,
    choose_vector,
)
from mlfsic_bench.features.backbones.objects import shown, tokens_to_map, trial_image
from mlfsic_bench.features.backbones.weights import (
    WeightsNotFoundError,
    cached_file,
    hub_file,
    initialised,
    read_state_dict,
)
from mlfsic_bench.offline import not_installed

NEEDS = ("timm", "timm")  # the module, and the extra that brings it
POOLS = {"token": "class", "map": "pool"}  # timm's words -> ours
OTHER = "pre-logits"  # what timm makes of the map in another way, such as a mean that is normalised
FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")


class TimmBody(nn.Module):
    """A network of timm up to its classifier: (maps [n, c, h, w], vectors [n, d]).

    The map is what `forward_features` gives: a map of either layout, or tokens. The vector is what
    `forward_head(pre_logits=True)` makes of that, or the class token.
    """

    def __init__(self, net: Any, name: str, class_token: bool) -> None:
        super().__init__()
        self.net = net
        self.name = name
        self.class_token = class_token

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(maps float [n, c, h, w], vectors float [n, d])."""
        made = self.net.forward_features(x)
        if not isinstance(made, Tensor) or made.dim() not in (3, 4):
            raise BenchError(
                f"timm's {self.name} gives no feature map",
                expected="one map or one set of tokens from forward_features",
                found=shown(made),
                remedy="choose another network, or write a build function in a file that makes "
                "one map of it (docs/backbones.md)",
            )
        vectors: Tensor | None = None
        if made.dim() == 4:
            maps = made.permute(0, 3, 1, 2) if _channels_last(self.net, made) else made
        else:
            prefix = getattr(self.net, "num_prefix_tokens", 0)
            first, maps = tokens_to_map(made, prefix, x.shape[-2:])
            vectors = first if self.class_token else None
        if vectors is None:
            vectors = self.net.forward_head(made, pre_logits=True)
        return maps, vectors


def _channels_last(net: Any, made: Tensor) -> bool:
    said = getattr(net, "output_fmt", None)
    if said is not None:
        return "NHWC" in str(said)
    return bool(made.shape[1] != net.num_features == made.shape[3])


def build(name: str, weights: str, vector: str | None = None) -> Backbone:
    """Networks of timm, such as `timm:resnet18` or `timm:vit_base_patch16_224.augreg_in1k`.

    Weights are `default` (those timm publishes, of the tag if one is named; from the cache of
    Hugging Face, or torch's), `none`, or the path of a state dict.
    """
    try:
        timm: Any = import_module("timm")
    except ImportError as error:
        raise not_installed("timm", "timm", str(error)) from error
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        close = nearest(architecture, timm.list_models())
        raise BenchError(
            f"timm has no network {architecture!r}",
            expected=f"one of the {len(timm.list_models())} names of timm.list_models()",
            found=repr(name),
            remedy=f"did you mean timm:{close}?" if close else "check the name",
        )
    try:
        net, found = _network(timm, name, weights)
    except (RuntimeError, KeyError, ValueError) as error:
        raise BenchError(
            f"timm can't make {name} with weights {weights}",
            expected="a network, and weights that fit it",
            found=f"{type(error).__name__}: {error}",
            remedy="check the name and the tag (timm.list_pretrained()), and --weights",
        ) from error
    net.eval()
    settings = timm.data.resolve_model_data_config(net)
    transform = Squash(
        settings["input_size"][-1], settings["interpolation"], settings["mean"], settings["std"]
    )
    pool = getattr(net, "global_pool", "")
    own = POOLS.get(pool if isinstance(pool, str) else "", "")
    has_class = bool(getattr(net, "cls_token", None) is not None)
    asked = choose_vector(name, vector, [own, *(["class"] if has_class and own != "class" else [])])
    body = TimmBody(net, name, asked == "class")
    with torch.inference_mode():
        maps, vectors = body(transform(trial_image())[None])
    vector_name = VECTORS.get(asked, OTHER)
    mean = maps.mean(dim=(2, 3))
    if not asked and mean.shape == vectors.shape and torch.allclose(mean, vectors, atol=1e-4):
        vector_name = MEAN
    return Backbone(
        name,
        body,
        channels=maps.shape[1],
        grid=(maps.shape[2], maps.shape[3]),
        transform=transform,
        weights=weights,
        vector=vector_name,
        dim=None if vector_name == MEAN else vectors.shape[1],
        found=found,
    )


def _network(timm: Any, name: str, weights: str) -> tuple[Any, str]:
    """The network without classifier, and where its weights were found."""
    made: dict[str, Any] = {}
    found = "random, from a named stream"
    if weights == "default":
        settings = timm.get_pretrained_cfg(name, allow_unregistered=False)
        path = _cached(name, settings)
        made, found = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}, str(path)
    elif weights != "none":
        state = read_state_dict(Path(weights))
        made, found = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": state}}, weights
    net = initialised(lambda: timm.create_model(name, **made), name)  # loads strictly
    net.reset_classifier(0)
    return net, found


def _cached(name: str, settings: Any) -> Path:
    """The published weights of a network, in one of the caches."""
    if getattr(settings, "hf_hub_id", None):
        special = getattr(settings, "hf_hub_filename", None)
        return cached_file(name, settings.hf_hub_id, [special] if special else FILES)
    if getattr(settings, "url", None):
        return hub_file(name, settings.url)
    raise WeightsNotFoundError(
        f"timm publishes no weights of {name}",
        expected="--weights FILE, or --weights none for random ones",
        found="the default weights",
        remedy="name a file with --weights, or another network (timm.list_pretrained())",
    )

"""The image towers of open_clip as backbones: `open_clip:ARCH/PRETRAINED`."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlfsic_bench.errors import BenchError, nearest, unknown_name
from mlfsic_bench.features.backbones.base import VECTORS, Backbone, Squash, choose_vector
from mlfsic_bench.features.backbones.objects import trial_image
from mlfsic_bench.features.backbones.text import TextTower
from mlfsic_bench.features.backbones.weights import (
    WeightsNotFoundError,
    cached_file,
    initialised,
    load_strictly,
    not_here,
    read_state_dict,
)
from mlfsic_bench.offline import not_installed
from mlfsic_bench.paths import home, is_file

NEEDS = ("open_clip", "clip")  # the module, and the extra that brings it
FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class OpenClipBody(nn.Module):
    """An image tower of open_clip: its last map after its last norm, and a global vector.

    That is the embedding, in the space of the texts, or the class token after the last norm.
    """

    def __init__(self, tower: Any, class_token: bool) -> None:
        super().__init__()
        self.tower = tower
        self.class_token = class_token

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(maps float [n, c, h, w], vectors float [n, d])."""
        made = self.tower.forward_intermediates(
            x, indices=1, normalize_intermediates=True, output_extra_tokens=self.class_token
        )
        maps = made["image_intermediates"][-1]
        if self.class_token:
            return maps, made["image_intermediates_prefix"][-1][:, 0]
        return maps, made["image_features"]


def build(name: str, weights: str, vector: str | None = None) -> Backbone:
    """CLIP and SigLIP of open_clip with their text side, such as `open_clip:ViT-B-32/openai`.

    Weights are `default` (those called PRETRAINED, from the cache of Hugging Face or of
    open_clip), `none`, or the path of a state dict of the whole network.
    """
    try:
        import open_clip
    except ImportError as error:
        raise not_installed("open_clip", "clip", str(error)) from error
    arch, _, tag = name.partition("/")
    if arch not in open_clip.list_models():
        close = nearest(arch, open_clip.list_models())
        raise BenchError(
            f"open_clip has no architecture {arch!r}",
            expected=f"one of the {len(open_clip.list_models())} of open_clip.list_models()",
            found=repr(name),
            remedy=f"did you mean open_clip:{close}/PRETRAINED?" if close else "check the name",
        )
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if tag and tag not in tags:
        raise unknown_name(f"weights of open_clip's {arch}", tag, tags)
    settings = open_clip.get_pretrained_cfg(arch, tag) if tag else {}
    path = _cached(name, settings, tags) if weights == "default" else None
    model = _model(open_clip, arch, settings)
    found = "random, from a named stream"
    if path is not None:
        open_clip.load_checkpoint(model, str(path), weights_only=True)
        found = str(path)
    elif weights != "none":
        load_strictly(model, read_state_dict(Path(weights)), weights)
        found = weights
    tower = model.visual.eval()
    said = {**tower.preprocess_cfg, **{k: settings[k] for k in ("mean", "std") if k in settings}}
    filters = {"interpolation": settings.get("interpolation", said["interpolation"])}
    size = said["size"][0] if isinstance(said["size"], tuple | list) else said["size"]
    transform = Squash(size, filters["interpolation"], tuple(said["mean"]), tuple(said["std"]))
    x = transform(trial_image())[None]
    trunk = getattr(tower, "trunk", None)  # a network of timm
    tokens = (getattr(tower, "class_embedding", None), getattr(trunk, "cls_token", None))
    has_class = any(token is not None for token in tokens)
    chosen = choose_vector(name, vector, ["projection", *(["class"] if has_class else [])])
    body = OpenClipBody(tower, chosen == "class")
    with torch.inference_mode():
        maps, vectors = body(x)
    text = TextTower(
        model,
        name,
        lambda: open_clip.get_tokenizer(arch),
        lambda tokens: model.encode_text(tokens),
        ("visual.", "logit_"),
        ["open_clip", open_clip.get_model_config(arch)["text_cfg"]],
    )
    return Backbone(
        name,
        body,
        channels=maps.shape[1],
        grid=(maps.shape[2], maps.shape[3]),
        transform=transform,
        weights=weights,
        vector=VECTORS[chosen],
        dim=vectors.shape[1],
        found=found,
        text=text if chosen == "projection" else None,
    )


def _model(open_clip: Any, arch: str, settings: dict[str, Any]) -> Any:
    """The network with random weights. Some published weights want another activation."""
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it logs through the root
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return initialised(
                lambda: open_clip.create_model(
                    arch,
                    force_quick_gelu=bool(settings.get("quick_gelu")),
                    pretrained_text=False,
                ),
                arch,
            ).eval()
    finally:
        logging.getLogger().setLevel(level)


def _cached(name: str, settings: dict[str, Any], tags: list[str]) -> Path:
    """The published weights, in the cache of Hugging Face or of open_clip."""
    if not settings:
        raise WeightsNotFoundError(
            f"open_clip:{name} says no weights",
            expected="open_clip:ARCH/PRETRAINED, or --weights FILE, or --weights none",
            found="an architecture alone",
            remedy=f"name one, such as open_clip:{name}/{tags[0]}" if tags else "name a file",
        )
    if "file" in settings:
        return Path(str(settings["file"]))
    if settings.get("hf_hub"):
        repository, _, file = settings["hf_hub"].rpartition("/")
        safe = f"{file.rpartition('.')[0]}.safetensors"
        return cached_file(name, repository, [safe, file] if file else FILES)
    url = str(settings["url"])
    path = (home() or Path("~")) / ".cache" / "clip" / url.rpartition("/")[2]
    if not is_file(path):
        raise not_here(name, [path], f"download {url} to that place")
    return path

"""Networks of Hugging Face transformers as backbones: `hf:ID`, or `hf:./FOLDER`.

An id is looked up in the cache of Hugging Face. What is no id (`NAME` or `OWNER/NAME`) is a folder
with the files of one network; it begins with `./`, `../`, `~/` or `/`, or has two slashes or more.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.base import VECTORS, Backbone, Squash, choose_vector
from mlfsic_bench.features.backbones.objects import shown, tokens_to_map, trial_image
from mlfsic_bench.features.backbones.text import TextTower
from mlfsic_bench.features.backbones.weights import (
    fetch_repository,
    initialised,
    load_strictly,
    not_here,
    note_repository,
    read_state_dict,
)
from mlfsic_bench.hashing import hash_file, hash_json
from mlfsic_bench.offline import transformers_offline
from mlfsic_bench.paths import is_file, is_folder, list_folder, note

NEEDS = ("transformers", "hf")  # the module, and the extra that brings it
ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
TOKENS = re.compile(r"token|vocab|merges|\.model$")  # files that say how texts are cut
# nothing is fetched, and no code beside the weights is run, nor is anybody asked whether to
SAFE = {"local_files_only": True, "trust_remote_code": False}
UNSAID = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures")


class HFBody(nn.Module):
    """An image tower of transformers: its last map, and a global vector where it has one.

    Attributes
    ----------
    tower: pixels -> an output with `last_hidden_state` (a map, or tokens), and `pooler_output`.
    norm: made on the tokens; CLIP's own output of the tokens is not normalised, its others' is.
    projection: from `pooler_output` into the space of the texts.
    patch: side of a patch in pixels, 0 for none; tells the tokens of patches from those before.
    vector: the key of VECTORS.
    """

    def __init__(
        self, tower: nn.Module, norm: nn.Module, projection: nn.Module, patch: int, vector: str
    ) -> None:
        super().__init__()
        self.tower, self.norm, self.projection = tower, norm, projection
        self.patch, self.vector = patch, vector

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """float [n, c, h, w], or that and float [n, d]."""
        made = self.tower(pixel_values=x)
        last = made.last_hidden_state
        if not isinstance(last, Tensor) or last.dim() not in (3, 4):
            raise BenchError(
                "the network gives no feature map",
                expected="last_hidden_state: a map [n, c, h, w] or tokens [n, t, d]",
                found=shown(last),
                remedy="write a build function in a file that makes a map of it "
                "(docs/backbones.md)",
            )
        if last.dim() == 4:
            return last
        last = self.norm(last)
        first, maps = tokens_to_map(last, self.prefix(last, x), x.shape[-2:])
        if self.vector == "class" and first is not None:
            return maps, first
        if self.vector == "mean":
            return maps
        return maps, self.projection(made.pooler_output)

    def prefix(self, tokens: Tensor, x: Tensor) -> int:
        """How many tokens come before those of the patches: class token, registers."""
        if not self.patch:
            return 0
        patches = (x.shape[-2] // self.patch) * (x.shape[-1] // self.patch)
        return max(0, tokens.shape[1] - patches)


def build(name: str, weights: str, vector: str | None = None) -> Backbone:
    """Networks of transformers, such as `hf:facebook/dinov2-base`, or a folder, `hf:./FOLDER`.

    Weights are `default` (those beside its configuration), `none`, or the path of a state dict.
    """
    with transformers_offline("hf") as transformers:
        folder = _folder(name)
        try:
            config = transformers.AutoConfig.from_pretrained(folder, **SAFE)
            model, missing, found = _model(transformers, config, folder, name, weights)
            transform = _transform(transformers, folder)
        except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
            raise BenchError(
                f"transformers can't make a network of {folder}",
                expected="config.json of an image network that it knows, its weights, and "
                "preprocessor_config.json",
                found=f"{type(error).__name__}: {error}",
                remedy="fetch the whole repository of the network",
            ) from error
    model.eval()
    tower = getattr(model, "vision_model", model)
    two_towers = hasattr(model, "text_model")
    if tower is model and any(True for _ in getattr(model, "pooler", nn.Identity()).parameters()):
        model.pooler = None  # of use to classifiers only, and often random
    body = HFBody(tower, *_parts(model, tower), "mean")
    x = transform(trial_image())[None]
    with torch.inference_mode():
        last = tower(pixel_values=x).last_hidden_state
    has_class = last.dim() == 3 and body.prefix(last, x) > 0
    possible = ["projection"] if two_towers else []
    possible += ["class"] if has_class else []
    possible += ["pool"] if isinstance(getattr(tower, "head", None), nn.Module) else []
    chosen = choose_vector(name, vector, possible or ["mean"])
    body.vector = chosen
    with torch.inference_mode():
        made = body(x)
    maps, vectors = made if isinstance(made, tuple) else (made, None)
    kept = {id(parameter) for parameter in body.parameters()}
    lost = [key for key, value in model.named_parameters() if key in missing and id(value) in kept]
    if lost:
        raise BenchError(
            f"the weights in {folder} lack some of the network's",
            expected="all weights that make features",
            found=f"none for {', '.join(lost[:5])}",
            remedy="fetch the file again, or choose the network that it was made for",
        )
    backbone = Backbone(
        f"./{folder.name}" if not ID.fullmatch(name) else name,
        body,
        channels=maps.shape[1],
        grid=(maps.shape[2], maps.shape[3]),
        transform=transform,
        weights=weights,
        vector=VECTORS[chosen],
        dim=None if vectors is None else vectors.shape[1],
        found=found,
        text=_text(transformers, model, folder, name) if chosen == "projection" else None,
    )
    said = {key: value for key, value in config.to_diff_dict().items() if key not in UNSAID}
    backbone.weights_hash = hash_json([backbone.weights_hash, repr(said)])
    return backbone


def _folder(name: str) -> Path:
    """The folder with the network's files; BenchError when there is none on this machine."""
    if not ID.fullmatch(name):
        folder = Path(name).expanduser()
        if not is_folder(folder) or not is_file(folder / "config.json"):
            raise BenchError(
                f"there is no network in {folder}",
                expected="a folder with config.json, weights and preprocessor_config.json",
                found="no such folder" if not is_folder(folder) else "no config.json in it",
                remedy="check the path behind hf:",
            )
        note(folder, listed=True)
        return folder
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    if isinstance(found, str):
        note_repository(Path(found))
        return Path(found).parent
    places: list[object] = [
        Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "snapshots" / "*"
    ]
    if is_folder(Path(name)):
        places.append(f"(the folder {name} is named hf:./{name})")
    raise not_here(f"hf:{name}", places, fetch_repository(name))


def _model(
    transformers: Any, config: Any, folder: Path, name: str, weights: str
) -> tuple[Any, set[str], str]:
    """The network in float32; names of weights that were not there; where they were found."""
    if weights == "default":
        model, info = transformers.AutoModel.from_pretrained(
            folder, config=config, output_loading_info=True, weights_only=True, **SAFE
        )
        missing = {*info["missing_keys"], *(key for key, *_ in info.get("mismatched_keys", ()))}
        return model.float(), missing, str(folder)
    model = initialised(
        lambda: transformers.AutoModel.from_config(config, trust_remote_code=False), name
    ).float()
    if weights == "none":
        return model, set(), "random, from a named stream"
    load_strictly(model, read_state_dict(Path(weights)), weights, ("pooler.",))
    return model, set(), weights


def _parts(model: Any, tower: Any) -> tuple[nn.Module, nn.Module, int]:
    """(norm of the tokens, projection, side of a patch) of a network."""
    # CLIP and what is made after it share this spelling, and leave the tokens without the norm
    clip = hasattr(tower, "pre_layrnorm")
    norm = tower.post_layernorm if clip else nn.Identity()
    projection = getattr(model, "visual_projection", None) or nn.Identity()
    patch = getattr(tower.config, "patch_size", 0)
    side = patch[0] if isinstance(patch, tuple | list) else patch
    return norm, projection, int(side or 0)


def _transform(transformers: Any, folder: Path) -> Squash:
    """The size, filter and normalisation of the network's image processor; nothing is cropped."""
    from PIL import Image

    said = transformers.AutoImageProcessor.from_pretrained(folder, **SAFE)
    cropped = getattr(said, "do_center_crop", False) and getattr(said, "crop_size", None)
    size = said.crop_size if cropped else said.size
    size = size if isinstance(size, dict) else vars(size)
    sides = {size.get(key) for key in ("height", "width", "shortest_edge")} - {None}
    if len(sides) != 1:
        raise ValueError(f"preprocessor_config.json names no square size, but {size}")
    scale = float(said.rescale_factor) * 255 if said.do_rescale else 255.0
    mean, std = ((0.0,) * 3, (1.0,) * 3)
    if said.do_normalize:
        mean, std = said.image_mean, said.image_std
    return Squash(
        int(sides.pop() or 0),
        Image.Resampling(said.resample).name.lower(),  # type: ignore[arg-type]
        tuple(m / scale for m in mean),  # type: ignore[arg-type]
        tuple(s / scale for s in std),  # type: ignore[arg-type]
    )


def _text(transformers: Any, model: Any, folder: Path, name: str) -> TextTower:
    def tokenizer() -> Any:
        read = transformers.AutoTokenizer.from_pretrained(folder, **SAFE)
        # SigLIP was trained on texts of one length
        fill = "max_length" if "siglip" in model.config.model_type else True
        length = model.config.text_config.max_position_embeddings
        return lambda texts: read(
            texts, padding=fill, truncation=True, max_length=length, return_tensors="pt"
        )

    def embed(tokens: Any) -> Tensor:
        made = model.get_text_features(**tokens)
        vectors: Tensor = made if isinstance(made, Tensor) else made.pooler_output
        return vectors

    image_side = ("vision_model.", "visual_projection.", "logit_")
    cut = {path.name: hash_file(path) for path in list_folder(folder) if TOKENS.search(path.name)}
    return TextTower(model, name, tokenizer, embed, image_side, cut)

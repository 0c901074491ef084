"""The Backbone: a network from a normalised image to a local feature map, with its identity.

And what goes with every one: weights, read safely, loaded strictly or drawn from a named stream;
the transform from an image to its input; the merging of batch norms into the convolutions before
them (the same function, fewer passes).
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mlfsic_bench.errors import BenchError
from mlfsic_bench.randomness import stream_seed
from mlfsic_bench.torch_files import read_torch_file

if TYPE_CHECKING:
    from PIL.Image import Image

    from mlfsic_bench.embeddings.texts import TextEncoder

T = TypeVar("T", bound=nn.Module)


def initialised(build: Callable[[], T], name: str) -> T:
    """`build()` with weights drawn from the stream of this backbone's name, always the same.

    The layers' own initialisers read torch's global generator; it is forked around them, so the
    state of the caller's generator neither matters nor changes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed("features", "initial weights", name) >> 1)
        return build()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The named tensors in a weight file; BenchError for anything else (no pickled objects)."""
    remedy = "name a file written by torch.save(model.state_dict(), ...)"
    state = read_torch_file(
        path,
        "weight file",
        "a state dict: named tensors and nothing else",
        remedy,
        where="check --weights: a file, or one of the names default, imagenet, none",
    )
    if not isinstance(state, dict) or not state:
        raise BenchError(
            f"{path} holds no state dict",
            expected="named tensors",
            found=f"a {type(state).__name__}" + ("" if state else ", empty"),
            remedy=remedy,
        )
    foreign = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    if foreign:
        raise BenchError(
            f"{path} holds more than a state dict",
            expected="named tensors and nothing else",
            found=f"entries that are no tensors: {_some(foreign)}",
            remedy="save the inner state dict (often under 'state_dict' or 'model') on its own",
        )
    return {str(key): value for key, value in state.items()}


def load_weights(
    module: nn.Module,
    weights: str,
    own: tuple[str, Callable[[], dict[str, Tensor]], str],
    head: tuple[str, ...] = (),
) -> None:
    """Load what `--weights` says: the backbone's own weights, the state dict at a path, or nothing.

    Parameters
    ----------
    weights: a keyword for the backbone's own, `none` to keep the random ones, or a path.
    own: that keyword, what reads the backbone's own weights, and what an error calls them.
    head: prefixes of entries that may be absent, as in `load_strictly`.
    """
    keyword, read, what = own
    if weights == keyword:
        load_strictly(module, read(), what, head)
    elif weights != "none":
        load_strictly(module, read_state_dict(Path(weights)), weights, head)


def load_strictly(
    module: nn.Module, state: dict[str, Tensor], source: str, head: tuple[str, ...] = ()
) -> None:
    """Load `state` into `module`; BenchError naming missing, unexpected and misshapen entries.

    Entries whose names start with a prefix in `head` (a classifier the features never reach) may
    be absent.
    """
    own = module.state_dict()
    # files from before torch 0.4.1 lack the counters of batch norm; they influence no feature
    may_lack = (*head, "num_batches_tracked")
    missing = [
        key
        for key in own
        if key not in state and not key.startswith(may_lack) and not key.endswith(may_lack[-1])
    ]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    found = [
        f"{word}: {_some(keys)}"
        for word, keys in (("missing", missing), ("unexpected", unexpected), ("shape", shapes))
        if keys
    ]
    if found:
        raise BenchError(
            f"{source} does not fit the network",
            expected=f"its {len(own)} named tensors",
            found="; ".join(found),
            remedy="choose the backbone these weights were made for",
        )
    module.load_state_dict(state, strict=False)


def _some(names: Collection[str], limit: int = 5) -> str:
    shown = list(names)[:limit]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


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
    mean, std: per channel, in units of pixels / 255, those of ImageNet by default:
        x = (pixel / 255 - mean) / std.
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


def lite_squash(size: int) -> Squash:
    """The transform of EfficientNet-Lite: bicubic, (pixel - 127) / 128 as its training used."""
    m, s = 127 / 255, 128 / 255
    return Squash(size, "bicubic", (m, m, m), (s, s, s))


ConvNormPairs = tuple[tuple[str, str], ...]
MEAN = "mean"  # the global vector that is the average of the map


class Backbone(nn.Module):
    """Maps inputs to local feature maps f_loc and global vectors, and knows what made it.

    `body` maps inputs [n, 3, H, W] to maps [n, c, h, w], whose average is then the global vector;
    or to (maps, vectors [n, d]), and `vector` says what the vectors are.

    Attributes
    ----------
    name: the name it is built by, as it stands in records.
    weights: what the weights were asked as (`imagenet`, `none`, a path); not part of any key.
    channels: c.
    grid: (h, w) of the map for inputs of `input_size`.
    vector: what the global vector is: `mean` of the map, `class token`, `attention pool`,
        `projection`, or as a backbone of others calls it.
    dim: d, the width of the global vector; c for the mean.
    input_size: side of the input in pixels.
    weights_hash: SHA-256 of the weights that make the features (`hash_weights`).
    transform: a decoded RGB image -> float32 [3, input_size, input_size].
    transform_id: everything the transform's values depend on.
    conv_norm_pairs: attribute names (convolution, batch norm) that follow each other directly in
        any submodule that has both; what `folded` may merge.
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
        vector: str = MEAN,
        dim: int | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.body = body
        self.channels = channels
        self.grid = grid
        self.vector = vector
        self.dim = channels if dim is None else dim
        self.input_size = transform.size
        self.transform: Callable[[Image], Tensor] = transform
        self.transform_id = transform.id
        self.weights = weights
        self.conv_norm_pairs = conv_norm_pairs
        self.weights_hash = hash_weights(self.state_dict())
        self.text: TextEncoder | None = None

    def forward(self, x: Tensor) -> Tensor:
        """float [n, c, h, w]: the local feature maps of normalised inputs [n, 3, H, W]."""
        return self.features(x)[0]

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(maps float [n, c, h, w], global vectors float32 [n, d]) of normalised inputs, in a pass.

        The mean of a map is taken in float32, whatever the map's own type.
        """
        made = self.body(x)
        maps, vectors = made if isinstance(made, tuple) else (made, None)
        if vectors is None:
            return maps, maps.float().mean(dim=(2, 3))
        return maps, vectors.float()


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


def folded(backbone: Backbone) -> Backbone:
    """A copy of the backbone in evaluation mode whose declared batch norms are merged.

    Equal to the original up to float32 rounding. Only what the backbone declares in
    `conv_norm_pairs` is merged, plus a convolution directly followed by a batch norm inside an
    `nn.Sequential`, where the order of calls is known.
    """
    result = copy.deepcopy(backbone).eval()
    pairs = getattr(backbone, "conv_norm_pairs", ())
    for module in list(result.modules()):
        names = list(pairs)
        if isinstance(module, nn.Sequential):
            children = list(module._modules)
            names += list(pairwise(children))
        for conv_name, norm_name in names:
            conv, norm = module._modules.get(conv_name), module._modules.get(norm_name)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    return result.requires_grad_(False)

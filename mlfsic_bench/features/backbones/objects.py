"""A backbone out of any network and transform: `as_backbone(module, transform, name=...)`.

One trial pass finds the channels, the grid and the width of the global vector; what the network
returns may be maps, tokens, a pair (maps, vectors) or a dictionary.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.base import (
    MEAN,
    VECTORS,
    Backbone,
    ConvNormPairs,
    Transform,
)
from mlfsic_bench.features.backbones.weights import hash_weights
from mlfsic_bench.hashing import hash_bytes, hash_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

    from mlfsic_bench.embeddings.texts import TextEncoder

LONGEST_ID = 150  # characters of a transform's id; a longer one is cut and hashed
# Classes of these packages are known by their name; the code of others is part of the identity.
LIBRARIES = ("torch", "torchvision", "timm", "transformers", "open_clip")


def as_backbone(
    module: nn.Module,
    transform: Callable[[Image], Tensor],
    *,
    name: str,
    weights: str = "given",
    vector: str | None = None,
    prefix_tokens: int | None = None,
    transform_id: str | None = None,
    conv_norm_pairs: ConvNormPairs = (),
    text: TextEncoder | None = None,
) -> Backbone:
    """The backbone that a network and its transform make, in evaluation mode.

    Parameters
    ----------
    module: maps inputs [n, 3, H, W] to maps [n, c, h, w]; or to tokens [n, t, d]; or to a pair
        (maps or tokens, vectors [n, d]); or to a dictionary with `maps` or `tokens`, and `vector`.
    transform: an RGB image -> float32 [3, H, H]; the same for every image, nothing random.
    name: what it is called in records and tables.
    weights: what the weights are, in words; their hash is the identity.
    vector: what the global vector is, `mean`, `class`, `pool` or `projection`, or in other words.
        Must be given where the network returns vectors; of tokens with a class token that is the
        default, of all else the mean of the map. `mean` takes the mean, whatever is returned.
    prefix_tokens: how many tokens of [n, t, d] come before those of the patches: 0, or 1 for a
        class token, or more. Must be said for tokens: it can't be seen.
    transform_id: what the values of the transform depend on. Must be given where `repr(transform)`
        does not say it, as for a function.
    conv_norm_pairs: names of convolution and batch norm that follow each other, to be merged.
    text: the text side, in the space of the global vector.

    The identity is the hash of the weights, of the structure (`repr(module)`), and of the code and
    the attributes of classes that are not of a known library. A network that is trained further
    must be made a backbone again. Raises BenchError for all that does not fit.

    >>> import mlfsic_bench as mb
    >>> from torchvision import transforms
    >>> transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()])
    >>> backbone = mb.as_backbone(nn.Conv2d(3, 8, 4, stride=4), transform, name="mine")
    >>> backbone.channels, backbone.grid, backbone.vector
    (8, (8, 8), 'mean')
    """
    if not isinstance(module, nn.Module):
        raise BenchError(
            f"the network of the backbone {name!r} is no torch.nn.Module",
            expected="an nn.Module and a transform",
            found=f"a {type(module).__name__}",
            remedy="pass the network itself, then its transform",
        )
    known = _known_transform(transform, name, transform_id)
    body = Body(module.eval(), prefix_tokens)
    vector = VECTORS.get(vector or "", vector)
    made = _trial(body, known, name)
    maps, vectors = made if isinstance(made, tuple) else (made, None)
    if vectors is not None and vector is None:
        if not prefix_tokens:
            raise BenchError(
                f"the network of the backbone {name!r} returns a global vector, and nothing says "
                "what it is",
                expected="vector='class', 'pool' or 'projection'; or 'mean' to take the mean",
                found="no vector=",
                remedy="say it: it is part of the backbone's identity",
            )
        vector = VECTORS["class"]
    if vectors is None and vector not in (None, MEAN):
        raise BenchError(
            f"the backbone {name!r} says that its global vector is {vector!r}, but its network "
            "returns only a map",
            expected="a network that returns (maps [n, c, h, w], vectors [n, d])",
            found=f"maps {list(maps.shape)}",
            remedy="return both, or leave vector= out for the mean of the map",
        )
    backbone = Backbone(
        name,
        body,
        channels=maps.shape[1],
        grid=(maps.shape[2], maps.shape[3]),
        transform=known,
        weights=weights,
        conv_norm_pairs=conv_norm_pairs,
        vector=vector or MEAN,
        dim=None if vectors is None or vector == MEAN else vectors.shape[1],
        text=text,
    ).eval()
    backbone.weights_hash = hash_json([backbone.weights_hash, structure(module)])
    return backbone


class Body(nn.Module):
    """A network whose tokens become a map; what else it returns goes through.

    Attributes
    ----------
    module: the network.
    prefix_tokens: as `as_backbone` takes it.
    """

    def __init__(self, module: nn.Module, prefix_tokens: int | None) -> None:
        super().__init__()
        self.module = module
        self.prefix_tokens = prefix_tokens

    def forward(self, x: Tensor) -> Any:
        """float [n, c, h, w], or that and float [n, d]."""
        made = self.module(x)
        vectors = None
        if isinstance(made, Mapping):
            made, vectors = _in_dictionary(made)
        elif isinstance(made, tuple) and len(made) == 2:
            made, vectors = made
        if not isinstance(made, Tensor) or made.dim() not in (3, 4):
            raise BenchError(
                "the network returns no map",
                expected="maps [n, c, h, w], tokens [n, t, d], a pair (maps, vectors [n, d]), or "
                "a dictionary with `maps` or `tokens`",
                found=shown(made),
                remedy="wrap it in an nn.Module that returns one of these; for a map, leave its "
                "last pooling and classifier away",
            )
        if made.dim() == 3:
            first, made = tokens_to_map(made, self.prefix_tokens, x.shape[-2:])
            vectors = first if vectors is None else vectors
        return made if vectors is None else (made, vectors)


def _in_dictionary(made: Mapping[str, Any]) -> tuple[Any, Any]:
    for key in ("maps", "tokens", "last_hidden_state"):  # the last: outputs of transformers
        if key in made:
            return made[key], made.get("vector")
    return made, None


def tokens_to_map(
    tokens: Tensor, prefix: int | None, image: tuple[int, ...]
) -> tuple[Tensor | None, Tensor]:
    """(first token [n, d] or None, map [n, d, h, w]) of tokens [n, prefix + h w, d].

    image: (H, W) of the input, which h and w are in proportion to. BenchError where they aren't.
    """
    n, t, d = tokens.shape
    rest = t - (prefix or 0)
    h = isqrt(rest * image[0] // image[1]) if rest > 1 else 0  # one token is no map
    if prefix is None or not h or rest % h or (rest // h) * image[0] != h * image[1]:
        said = "prefix_tokens is not given" if prefix is None else f"prefix_tokens={prefix}"
        raise BenchError(
            "the network returns tokens, which don't make a map"
            if prefix is not None
            else "the network returns tokens, and nothing says which of them are no patches",
            expected="tokens [n, prefix_tokens + h w, d]",
            found=f"tokens {list(tokens.shape)} of inputs {list(image)}; {said}",
            remedy="say prefix_tokens=0, or 1 for a class token, or how many come before the "
            "tokens of the patches",
        )
    maps = tokens[:, t - rest :].transpose(1, 2).reshape(n, d, h, rest // h)
    return (tokens[:, 0] if prefix else None), maps


def _trial(body: Body, transform: Transform, name: str) -> Any:
    """What the network returns for one input; a BenchError of the pass names the backbone."""
    x = transform(trial_image())[None]
    parameter = next(body.parameters(), x)
    try:
        with torch.inference_mode():
            return body(x.to(parameter.device))
    except BenchError as error:
        error.what = f"backbone {name!r}: {error.what}"
        raise
    except Exception as error:
        raise BenchError(
            f"the network of the backbone {name!r} fails on what its transform makes",
            expected=f"a map of an input {list(x.shape)}",
            found=f"{type(error).__name__}: {error}",
            remedy="correct the network, or the size and type that the transform gives",
        ) from error


def trial_image(seed: int = 0, size: tuple[int, int] = (150, 100)) -> Image:
    """A smooth random RGB image, the same for equal arguments."""
    from PIL import Image as PILImage

    pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return PILImage.fromarray(pixels).resize(size, PILImage.Resampling.BICUBIC)


# -- identity -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Named:
    """A transform with a name: what it is called with, what it depends on, the side it gives."""

    transform: Callable[[Image], Any]
    id: str
    size: int

    def __call__(self, image: Image) -> Tensor:
        """float32 [3, size, size]."""
        made: Tensor = self.transform(image)
        return made


def _known_transform(transform: Any, name: str, given: str | None) -> Transform:
    """`transform` with size and id; BenchError for one that can't be called or has no id."""
    if given is None and isinstance(getattr(transform, "id", None), str):
        known: Transform = transform
        return known
    if not callable(transform):
        raise BenchError(
            f"the transform of the backbone {name!r} can't be called",
            expected="a callable: an RGB image -> float32 [3, H, H]",
            found=f"a {type(transform).__name__}",
            remedy="pass the transform that the network was trained with; for most networks "
            "Squash(224) of mlfsic_bench.features.backbones.base",
        )
    text = " ".join(repr(transform).split())
    if given is None and (" at 0x" in text or text.startswith("<")):
        raise BenchError(
            f"nothing says what the transform of the backbone {name!r} depends on",
            expected="a transform whose repr() names all its settings, such as those of "
            "torchvision and timm, or transform_id=",
            found=f"repr() is {text[:80]}",
            remedy="pass transform_id='...': a text that you change whenever you change the "
            "transform; features are kept under it",
        )
    text = given if given is not None else text
    if len(text) > LONGEST_ID:
        text = f"{text[:LONGEST_ID]}... sha256:{hash_bytes(text.encode())[:16]}"
    return Named(transform, text, _side(transform, name))


def _side(transform: Callable[[Image], Any], name: str) -> int:
    """The side of what the transform gives; BenchError unless it is float32 [3, H, H]."""
    first, second = transform(trial_image()), transform(trial_image())
    shape = list(first.shape) if isinstance(first, Tensor) else []
    fine = len(shape) == 3 and shape[0] == 3 and shape[1] == shape[2]
    if not fine or first.dtype != torch.float32:
        raise BenchError(
            f"the transform of the backbone {name!r} gives no input for a network",
            expected="a torch.float32 tensor [3, H, H]: the whole image, squashed to a square",
            found=shown(first),
            remedy="use Squash(224) of mlfsic_bench.features.backbones.base, or resize to a square "
            "and make a float tensor in the transform",
        )
    if not torch.equal(first, second):
        raise BenchError(
            f"the transform of the backbone {name!r} is random",
            expected="the same input for the same image",
            found="two that differ",
            remedy="use the transform of evaluation: no random crop, flip or colour",
        )
    return shape[1]


def structure(module: nn.Module) -> list[Any]:
    """What the features depend on beside the weights: the tree of modules, the code of classes."""
    classes = {type(one) for one in module.modules()}
    codes = {
        f"{one.__module__}.{one.__qualname__}".removeprefix("__main__."): [
            _code(function)
            for base in one.__mro__
            if not base.__module__.startswith(LIBRARIES)
            for function in vars(base).values()
            if inspect.isfunction(function)
        ]
        for one in classes
        if one.__module__.partition(".")[0] not in LIBRARIES
    }
    names = {re.sub(r"mlfsic_plugin_\w+\.", "", key): value for key, value in codes.items()}
    settings = {
        name: {
            key: said
            for key, value in sorted(vars(one).items())
            if key != "training" and key[0] != "_" and (said := _setting(value))
        }
        for name, one in module.named_modules()
        if type(one).__module__.partition(".")[0] not in LIBRARIES
    }
    return [re.sub(r" at 0x[0-9a-f]+", "", repr(module)), names, settings]


def _setting(value: object) -> str:
    """An attribute that a forward pass may read and no state dict holds; '' for what has no text.

    Numbers, texts, lists and dictionaries of these, and tensors that are no buffers.
    """
    if isinstance(value, np.ndarray):
        return hash_bytes(repr((value.dtype, value.shape)).encode() + value.tobytes())
    if isinstance(value, Tensor):
        return hash_weights({"": value})
    if isinstance(value, Mapping):
        inner = [(repr(key), _setting(one)) for key, one in value.items()]
        return repr(inner) if all(said for _, said in inner) else ""
    if isinstance(value, list | tuple):
        each = [_setting(one) for one in value]
        return repr(each) if all(each) else ""
    return repr(value) if value is None or isinstance(value, bool | int | float | str) else ""


def _code(function: Any) -> str:
    """The source of a function; where there is none, its byte code."""
    try:
        return inspect.getsource(function)
    except Exception:  # a notebook's, or a file that is not there or not Python
        return repr(_byte_code(function.__code__))


def _byte_code(code: CodeType) -> list[Any]:
    constants = [_byte_code(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    return [code.co_code.hex(), code.co_names, code.co_varnames, constants]


def shown(made: Any) -> str:
    """What an object is, for an error: the type and shape of a tensor, the class of all else."""
    if isinstance(made, Tensor):
        return f"{str(made.dtype).removeprefix('torch.')} {list(made.shape)}"
    if isinstance(made, Mapping):
        return f"a {type(made).__name__} with {', '.join(map(str, list(made)[:8]))}"
    if isinstance(made, list | tuple):
        return f"a {type(made).__name__} of {len(made)}: " + "; ".join(shown(m) for m in made[:3])
    return f"a {type(made).__name__}"

"""Weights of networks: read from a file or a cache that is there, hashed, never downloaded.

A state dict is read safely (no pickled objects) and loaded strictly; without one the weights are
drawn from a named stream.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mlfsic_bench.downloads.items import ITEMS
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import no_file, open_regular
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.offline import not_installed
from mlfsic_bench.paths import is_file, note
from mlfsic_bench.randomness import stream_seed
from mlfsic_bench.torch_files import read_torch_file

T = TypeVar("T")


def initialised(build: Callable[[], T], name: str) -> T:
    """`build()` with weights drawn from the stream of this backbone's name, always the same.

    The layers' own initialisers read torch's global generator; it is forked around them, so the
    state of the caller's generator neither matters nor changes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed("features", "initial weights", name) >> 1)
        return build()


class _Versioned(dict[str, Tensor]):
    """A state dict with the versions of its modules, which some read to load old files."""

    _metadata: Any = None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The named tensors in a weight file; BenchError for anything else (no pickled objects)."""
    remedy = "name a file written by torch.save(model.state_dict(), ...), or a .safetensors file"
    where = "check --weights: a file, or one of the names default, imagenet, none"
    if path.suffix == ".safetensors":
        return _read_safetensors(path, where)
    content = "a state dict: named tensors and nothing else"
    state = read_torch_file(path, "weight file", content, remedy, where=where)
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
    read = _Versioned({str(key): value for key, value in state.items()})
    read._metadata = getattr(state, "_metadata", None)
    return read


def _read_safetensors(path: Path, where: str) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load
    except ImportError as error:
        raise not_installed("safetensors", "hf", str(error)) from error
    try:
        with open_regular(path) as stream:
            return dict(load(stream.read()))
    except FileNotFoundError as error:
        raise no_file("weight file", path, where) from error
    except Exception as error:
        raise BenchError(
            f"{path} is not a readable weight file",
            expected="a safetensors file",
            found=f"{type(error).__name__}: {error}",
            remedy="fetch it again",
        ) from error


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
    versioned = _Versioned(state)
    # a file of another format has no versions; its entries fit those of today
    versioned._metadata = getattr(state, "_metadata", None) or getattr(own, "_metadata", None)
    module.load_state_dict(versioned, strict=False)


def _some(names: Collection[str], limit: int = 5) -> str:
    shown = list(names)[:limit]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


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


# -- where weights are found -----------------------------------------------------------------------


class WeightsNotFoundError(BenchError):
    """Weights that would have to be downloaded."""


def not_here(name: str, places: Sequence[object], how: str) -> WeightsNotFoundError:
    """The error for weights that lie at none of these places.

    Parameters
    ----------
    name: of the backbone.
    places: where was looked.
    how: what brings them there, as an instruction.
    """
    return WeightsNotFoundError(
        f"the weights of {name} are not on this machine, and nothing is downloaded here",
        expected="a file at " + " or ".join(str(place) for place in places),
        found="none",
        remedy=f"{how}; or name a file with --weights FILE (none: random weights)",
    )


def hub_file(name: str, url: str) -> Path:
    """The file of this address in torch's hub cache; its checksum must be the one in its name.

    Source: torch.hub; `resnet50-0676ba61.pth` has a SHA-256 that begins with 0676ba61.

    Raises WeightsNotFoundError when there is none, and BenchError for other content, such as the
    weights of another recipe under this name.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not is_file(path):
        raise not_here(name, [path], _fetch(url))
    wanted = checksum_in(path.name)
    found = hash_file(path)[: len(wanted)]
    if found != wanted:
        raise BenchError(
            f"{path} does not hold what its name says",
            expected=f"a file whose SHA-256 begins with {wanted}",
            found=found,
            remedy=f"delete it and put the file of {url} there; for other weights use "
            "--weights FILE",
        )
    return path


def _fetch(url: str) -> str:
    """What brings a file into torch's hub cache, as an instruction."""
    file = url.rpartition("/")[2]
    items = [name for name, item in ITEMS.items() if file in [one.name for one in item.files]]
    own = f"mlfsic-bench data download {items[0]}; or " if items else ""
    return f"{own}fetch {url} elsewhere and put it there"


def checksum_in(file: str) -> str:
    """The digits of the checksum in a file's name, or ''.

    >>> checksum_in("resnet50-0676ba61.pth"), checksum_in("mine.pth")
    ('0676ba61', '')
    """
    found = re.search(r"-([0-9a-f]{8,64})\.\w+$", file)
    return found.group(1) if found else ""


def cached_file(name: str, repository: str, files: Sequence[str]) -> Path:
    """The first of these files of a repository that lies in the cache of Hugging Face.

    Raises WeightsNotFoundError, which says where was looked, when there is none.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    for file in files:
        found = try_to_load_from_cache(repository, file)
        if isinstance(found, str) and is_file(Path(found)):
            note_repository(Path(found))
            return Path(found)
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    places = [folder / "snapshots" / "*" / file for file in files]
    raise not_here(name, places, fetch_repository(repository))


def note_repository(file: Path) -> None:
    """Note (`paths.note`) what says which version of a repository this file of the cache is of."""
    note(file.parent, listed=True)
    note(file.parent.parent.parent / "refs", listed=True)


def fetch_repository(repository: str) -> str:
    """What brings a repository of Hugging Face into its cache, as an instruction."""
    return f"run `hf download {repository}` where there is a network (HF_HOME names the cache)"

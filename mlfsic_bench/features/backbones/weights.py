"""Weight files and initial weights: read safely, load strictly, draw from a named stream."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from mlfsic_bench.errors import BenchError
from mlfsic_bench.randomness import stream_seed
from mlfsic_bench.torch_files import read_torch_file

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

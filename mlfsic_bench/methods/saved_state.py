"""What `state()` may return, and how it is made ready to be saved."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlfsic_bench.text import for_terminal

LARGEST = 8 << 30  # bytes of all tensors together
LONGEST_NAME = 1000  # characters of a tensor's name
EXPECTED = f"a dict from names to dense tensors, of at most {LARGEST >> 30} GiB together"


def wrong_in_state(found: object) -> str:
    """What makes `found` no state that can be saved; empty when it is one."""
    if not isinstance(found, dict):
        return f"a {for_terminal(type(found).__name__, 100)}"
    bad = [
        f"{for_terminal(repr(key), 100)}: {_kind(value)}"
        for key, value in found.items()
        if not isinstance(key, str) or len(key) > LONGEST_NAME or _kind(value)
    ]
    if bad:
        return ", ".join(bad[:5]) + (" ..." if len(bad) > 5 else "")
    total = sum(_bytes(value) for value in found.values())
    return f"{total / (1 << 30):.1f} GiB" if total > LARGEST else ""


def ready_to_save(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Plain tensors on the CPU that share no more memory than they show.

    A view of a larger tensor is copied, for it would be saved with all of that tensor. One value
    expanded to many is left as it is: it is saved, and loaded, as one.
    """
    ready = {}
    for name, value in state.items():
        tensor = value.detach().as_subclass(Tensor)
        if tensor.untyped_storage().nbytes() > _dense(tensor):
            tensor = tensor.clone()
        ready[name] = tensor.cpu()
    return ready


def _kind(value: object) -> str:
    """What makes `value` no tensor that can be saved; empty when it is one."""
    if not isinstance(value, Tensor):
        return for_terminal(type(value).__name__, 100)
    if value.layout != torch.strided or value.is_nested or value.is_meta or value.is_quantized:
        return f"a tensor {'without data' if value.is_meta else f'of layout {value.layout}'}"
    return ""


def _dense(tensor: Any) -> int:
    return int(tensor.numel() * tensor.element_size())


def _bytes(tensor: Tensor) -> int:
    """As it would be saved."""
    return min(_dense(tensor), tensor.untyped_storage().nbytes())

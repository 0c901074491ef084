"""The part of a process's state that is torch's (`surroundings`): read, written, as it is at first.

This module is imported where torch is there already.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

CUDNN = torch.backends.cudnn
_ENTERED: list[Any] = []  # inference modes entered to put one back; a lost one would end


def _set_torch_state(state: bytes) -> None:
    torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


def _set_default_device(device: torch.device) -> None:
    # None, not the CPU: with a device named, torch looks at every call
    torch.set_default_device(None if device == torch.device("cpu") else device)


def _set_inference_mode(enabled: bool) -> None:
    mode = torch.inference_mode(enabled)
    grad = torch.is_grad_enabled()
    mode.__enter__()
    torch.set_grad_enabled(grad)
    _ENTERED.append(mode)


def _autocast() -> tuple[bool, ...]:
    return tuple(torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda"))


def _set_autocast(value: tuple[bool, ...]) -> None:
    for kind, enabled in zip(("cpu", "cuda"), value, strict=True):
        torch.set_autocast_enabled(kind, enabled)


# name -> (read, write), as in `surroundings`
PARTS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "torch's default device": (torch.get_default_device, _set_default_device),
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "inference mode": (torch.is_inference_mode_enabled, _set_inference_mode),
    "grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "autocast": (_autocast, _set_autocast),
    "deterministic algorithms": (
        torch.get_deterministic_debug_mode,
        torch.set_deterministic_debug_mode,
    ),
    "cudnn's benchmark flag": (
        partial(getattr, CUDNN, "benchmark"),
        partial(setattr, CUDNN, "benchmark"),
    ),
    "cudnn's deterministic flag": (
        partial(getattr, CUDNN, "deterministic"),
        partial(setattr, CUDNN, "deterministic"),
    ),
    "precision of matrix products": (
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch.random": (lambda: torch.get_rng_state().numpy().tobytes(), _set_torch_state),
}
# of a process that has just imported torch; random state and number of threads are its own
AT_FIRST: dict[str, Any] = {
    "torch's default device": torch.device("cpu"),
    "torch's default dtype": torch.float32,
    "inference mode": False,
    "grad mode": True,
    "autocast": (False, False),
    "deterministic algorithms": 0,
    "cudnn's benchmark flag": False,
    "cudnn's deterministic flag": False,
    "precision of matrix products": "highest",
}

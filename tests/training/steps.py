"""Steps of an optimiser, to be taken by one of ours and by torch's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def tensors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 17), (5,), (2, 2, 4)]
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def walk(optimiser: Any, of: list[Tensor], first: int, last: int) -> None:
    """Steps with keyed gradients, a rate that changes, and a tensor that now and then has none."""
    for i in range(first, last):
        optimiser.param_groups[0]["lr"] = 0.01 / (i + 1)
        optimiser.zero_grad()
        generator = torch.Generator().manual_seed(i)
        for k, one in enumerate(of):
            if (i + k) % 4:
                one.grad = torch.randn(one.shape, generator=generator)
        optimiser.step()
        assert torch.is_grad_enabled()

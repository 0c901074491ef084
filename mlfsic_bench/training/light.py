"""torch's optimisers without torch's compiler.

The first `torch.optim.SGD()` of a process imports `torch._dynamo`, nearly a thousand modules and
seconds, more than many methods compute: some functions of these classes are wrapped so that the
compiler leaves them alone. The classes here are torch's own, with these functions as they were
before that. So the numbers are torch's, bit for bit. Where a version of torch wraps them another
way, they are torch's classes, and the compiler is imported.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer


def _inner(function: Any) -> Any:
    """What was wrapped."""
    return getattr(function, "__wrapped__", function)


class _Light(Optimizer):
    add_param_group = _inner(Optimizer.add_param_group)
    zero_grad = _inner(Optimizer.zero_grad)
    state_dict = _inner(Optimizer.state_dict)
    load_state_dict = _inner(Optimizer.load_state_dict)


class SGD(_Light, torch.optim.SGD):
    """As `torch.optim.SGD`; without `differentiable`."""

    step = torch.no_grad()(_inner(torch.optim.SGD.step))


class LBFGS(_Light, torch.optim.LBFGS):
    """As `torch.optim.LBFGS`."""

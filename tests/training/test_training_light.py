"""SGD and L-BFGS take the steps of torch's bit for bit, and the compiler is not imported."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from mlfsic_bench.training.light import LBFGS, SGD
from tests.training.steps import tensors, walk


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "weight_decay": 0.01}])
def test_the_steps_are_torchs_also_after_a_resume(options: dict[str, float]) -> None:
    own, theirs, resumed = tensors(), tensors(), tensors()
    sgd, reference = SGD(own, lr=0.01, **options), torch.optim.SGD(theirs, lr=0.01, **options)
    walk(sgd, own, 0, 5)
    walk(reference, theirs, 0, 5)
    go_on = SGD(resumed, lr=0.01, **options)
    for new, one in zip(resumed, theirs, strict=True):
        new.data.copy_(one)
    state = copy.deepcopy(reference.state_dict())
    assert state["param_groups"] == sgd.state_dict()["param_groups"]
    go_on.load_state_dict(state)
    for optimiser, of in [(sgd, own), (reference, theirs), (go_on, resumed)]:
        walk(optimiser, of, 5, 9)
    for others in (theirs, resumed):
        assert all(torch.equal(a, b) for a, b in zip(own, others, strict=True))


def test_a_minimum_is_found_by_the_steps_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, dtype=torch.float64, generator=generator)
    y = (x.sum(1) > 0).double()
    found = []
    for kind in (LBFGS, torch.optim.LBFGS):
        w = torch.zeros(6, dtype=torch.float64, requires_grad=True)
        steps = kind([w], max_iter=50, line_search_fn="strong_wolfe")

        def loss(w: Tensor = w) -> Tensor:
            w.grad = None
            value = torch.nn.functional.binary_cross_entropy_with_logits(x @ w, y) + 0.1 * w @ w
            value.backward()
            return value

        steps.step(loss)
        found.append(w.detach())
    assert torch.equal(*found)
    assert found[0].abs().min() > 0.1


def test_the_compiler_is_not_imported() -> None:
    code = """
import sys, torch
from mlfsic_bench.training.light import LBFGS, SGD
x = torch.ones(2, requires_grad=True)
sgd = SGD([x], lr=0.1, momentum=0.9)
plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd)
def loss():
    x.grad = None
    value = (x * x).sum()
    value.backward()
    return value
loss()
sgd.step()
sgd.load_state_dict(sgd.state_dict())
plateau.step(1.0)
LBFGS([x]).step(loss)
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)

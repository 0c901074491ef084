"""Adam takes the steps of `torch.optim.Adam` bit for bit, and each reads the other's state."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from mlfsic_bench.training.adam import Adam
from tests.training.steps import tensors, walk


def groups(of: list[Tensor]) -> list[dict[str, Any]]:
    return [{"params": of[:1], "lr": 0.01}, {"params": of[1:]}]


@pytest.mark.parametrize("fused", [False, True])
def test_the_steps_are_torchs_also_after_a_resume(fused: bool) -> None:
    own, theirs, resumed, back = tensors(), tensors(), tensors(), tensors()
    adam, reference = Adam(groups(own), fused=fused), torch.optim.Adam(groups(theirs), fused=fused)
    walk(adam, own, 0, 5)
    walk(reference, theirs, 0, 5)
    states = copy.deepcopy((adam.state_dict(), reference.state_dict()))
    assert states[0]["param_groups"][0]["params"] == states[1]["param_groups"][0]["params"]
    go_on, again = Adam(groups(resumed), fused=fused), torch.optim.Adam(groups(back), fused=fused)
    for ours, old in zip((resumed, back), (theirs, own), strict=True):
        for new, one in zip(ours, old, strict=True):
            new.data.copy_(one)
    go_on.load_state_dict(states[1])
    kept = [dict(group) for group in again.state_dict()["param_groups"]]
    merged = [{**full, **said} for full, said in zip(kept, states[0]["param_groups"], strict=True)]
    again.load_state_dict({"state": states[0]["state"], "param_groups": merged})
    pairs = [(adam, own), (reference, theirs), (go_on, resumed), (again, back)]
    for optimiser, of in pairs:
        walk(optimiser, of, 5, 9)
    for others in (theirs, resumed, back):
        assert all(torch.equal(a, b) for a, b in zip(own, others, strict=True))


def test_a_state_that_lies_otherwise_in_memory_is_taken_over() -> None:
    steps = []
    for kept in (torch.channels_last, torch.contiguous_format):
        weight = torch.arange(48.0).view(2, 3, 2, 4).to(memory_format=torch.channels_last)
        gradient, adam = weight.clone() - 20.0, Adam([weight], fused=True)
        moments = {
            "exp_avg": gradient.to(memory_format=kept),
            "exp_avg_sq": gradient.square().to(memory_format=kept),
        }
        state = {0: {"step": torch.tensor(1.0), **moments}}
        adam.load_state_dict({"state": state, "param_groups": [{"params": [0], "lr": 0.1}]})
        weight.grad = gradient
        adam.step()
        steps.append(weight)
    assert torch.equal(*steps)


def test_a_state_of_other_groups_is_refused() -> None:
    with pytest.raises(ValueError, match="groups of"):
        Adam(tensors()).load_state_dict(Adam(groups(tensors())).state_dict())


def test_training_does_not_import_torchs_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from mlfsic_baselines.heads.linear import tune_heads\n"
        "from mlfsic_bench.training.loop import train_episodic\n"
        "X, Y = torch.ones(1, 4, 3), torch.ones(1, 4, 2)\n"
        "tune_heads(X, Y, torch.zeros(1, 2, 3), 2, 0.1)\n"
        "w = torch.zeros(2, requires_grad=True)\n"
        "train_episodic(loss=lambda i: (w - 1).square().sum(), parameters=[w], steps=2, "
        "learning_rate=lambda step: 0.1, get_state=dict, set_state=print)\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

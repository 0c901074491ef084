"""Adam (Kingma and Ba, ICLR 2015) by torch's own arithmetic, without torch's optimiser class.

The first `torch.optim.Adam()` of a process imports `torch._dynamo`, nearly a thousand modules and
seconds, more than many methods compute. The function below that class does not. So the numbers are
those of `torch.optim.Adam`, bit for bit, and each can read the other's `state_dict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

BETAS = (0.9, 0.999)
EPSILON = 1e-8
MOMENTS = ("exp_avg", "exp_avg_sq")  # as torch names them in a state


class Adam:
    """As `torch.optim.Adam`: betas 0.9 and 0.999, eps 1e-8, no weight decay, no AMSGrad.

    Attributes
    ----------
    param_groups: of each group its tensors (`params`) and learning rate (`lr`), which may be set.

    Parameters
    ----------
    params: tensors, or groups of them: objects with `params` and perhaps `lr`.
    lr: of groups that name none.
    fused: whether all of a step is one kernel; its rounding differs from that of separate ones. It
        reads numbers as they lie in memory, so a gradient must be laid out as its tensor.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Sequence[Mapping[str, Any]],
        lr: float = 1e-3,
        *,
        fused: bool = False,
    ) -> None:
        given: list[Any] = list(params)
        grouped = bool(given) and isinstance(given[0], Mapping)
        groups: list[Any] = given if grouped else [{"params": given}]
        self.param_groups: list[dict[str, Any]] = [
            {"params": list(group["params"]), "lr": float(group.get("lr", lr))} for group in groups
        ]
        self._fused = fused or None
        self._state: dict[Tensor, dict[str, Tensor]] = {}

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for tensor in self._tensors():
            tensor.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step of all tensors that have a gradient."""
        for group in self.param_groups:
            moving = [tensor for tensor in group["params"] if tensor.grad is not None]
            if not moving:
                continue
            states = [self._state_of(tensor) for tensor in moving]
            adam(
                moving,
                [tensor.grad for tensor in moving],
                [state[MOMENTS[0]] for state in states],
                [state[MOMENTS[1]] for state in states],
                [],  # of AMSGrad
                [state["step"] for state in states],
                fused=self._fused,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=group["lr"],
                weight_decay=0.0,
                eps=EPSILON,
                maximize=False,
            )

    def state_dict(self) -> dict[str, Any]:
        """Number of a tensor -> its moments and number of steps; and the groups, as torch has them.

        The tensors are those that the next step changes.
        """
        numbers = {tensor: i for i, tensor in enumerate(self._tensors())}
        groups = [
            {**group, "params": [numbers[tensor] for tensor in group["params"]]}
            for group in self.param_groups
        ]
        state = {numbers[tensor]: dict(one) for tensor, one in self._state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave, this one's or torch's; ValueError for other groups."""
        groups = (self.param_groups, state["param_groups"])
        own, given = ([len(group["params"]) for group in some] for some in groups)
        if own != given:
            raise ValueError(f"groups of {own} tensors, and a state of {given}")
        for group, kept in zip(self.param_groups, state["param_groups"], strict=True):
            group["lr"] = kept["lr"]
        tensors = self._tensors()
        self._state = {}
        for number, one in state["state"].items():
            tensor = tensors[number]
            # in the layout of the tensor, whatever that of the file is
            made = {name: torch.empty_like(tensor).copy_(one[name]) for name in MOMENTS}
            where = tensor.device if self._fused else one["step"].device
            made["step"] = one["step"].to(where, torch.float32, copy=True)
            self._state[tensor] = made

    def _state_of(self, tensor: Tensor) -> dict[str, Tensor]:
        if tensor not in self._state:
            made = {
                name: torch.zeros_like(tensor, memory_format=torch.preserve_format)
                for name in MOMENTS
            }
            # on the CPU but for the one kernel, which reads it where the tensor is
            device = tensor.device if self._fused else torch.device("cpu")
            made["step"] = torch.zeros((), dtype=torch.float32, device=device)
            self._state[tensor] = made
        return self._state[tensor]

    def _tensors(self) -> list[Tensor]:
        return [tensor for group in self.param_groups for tensor in group["params"]]

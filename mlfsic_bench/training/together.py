"""Training by several processes: the episodes of a step are divided, the step is that of one.

torch's process group carries tensors: gloo between CPUs, nccl between GPUs. It is made when first
used. With one process there is none, and nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch

from mlfsic_bench.distributed import inseparable, team

if TYPE_CHECKING:
    from torch import Tensor

    from mlfsic_bench.team import Team

PATIENCE = timedelta(hours=2)  # that a step may wait for the slowest process
_training: Team | None = None  # who trains one model now; None where each process works alone


@contextmanager
def training_together(device: torch.device) -> Iterator[None]:
    """In the block all processes train one model on devices of this kind, if there are several.

    They call `divided`, `gradients`, `gathered` and `from_first` in the same order. Outside of the
    block these do what one process does. An error in the block ends the work of all.
    """
    global _training
    every = team()
    if every is None:
        yield
        return
    import torch.distributed as dist
    from torch.distributed import distributed_c10d as c10d

    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        with every.talking():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=c10d.PrefixStore("training", every.store),
                rank=every.number,
                world_size=every.count,
                timeout=PATIENCE,
            )
        every.at_end.append(dist.destroy_process_group)
    _training = every
    try:
        with inseparable():
            yield
    finally:
        _training = None


def apart() -> bool:
    """Whether this process trains its model by itself."""
    return _training is None


def divided(total: int) -> range:
    """The numbers below `total` that are this process's share."""
    return range(total) if _training is None else range(_training.number, total, _training.count)


def from_first(value: Any) -> Any:
    """What process 0 gives here: tensors on the CPU, plain values, lists and dicts of them."""
    if _training is None:
        return value
    import torch.distributed as dist

    box = [value if _training.number == 0 else None]
    with _training.talking():
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def gathered(values: Sequence[float]) -> list[float]:
    """The values of all processes, those of process 0 first."""
    if _training is None:
        return list(values)
    import torch.distributed as dist

    boxes: list[Any] = [None] * _training.count
    with _training.talking():
        dist.all_gather_object(boxes, list(values))
    return [value for box in boxes for value in box]


def gradients(
    parameters: Sequence[torch.nn.Parameter], total: int, backward: Callable[[int], float]
) -> float:
    """Call `backward(k)`, which adds to the gradients, for k = 0 ... total - 1; the sum it returns.

    Training together, each process makes some of them. All get the gradients of all and add them
    in the order of k, as one process does: to the last bit, where the devices are alike. A process
    holds the gradients of as many episodes as there are processes.
    """
    result = 0.0
    if _training is None:
        for k in range(total):
            result += backward(k)
        return result
    sums: list[Tensor | None] = [None] * len(parameters)
    for first in range(0, total, _training.count):
        for parameter in parameters:
            parameter.grad = None
        own = first + _training.number
        value = backward(own) if own < total else 0.0
        facts = [value, *(float(parameter.grad is not None) for parameter in parameters)]
        every = [one.tolist() for one in _all(torch.tensor(facts, dtype=torch.float64))]
        for one in every:
            result += one[0]
        for places in _alike(parameters):
            some = [parameters[i] for i in places]
            flat = torch.cat(
                [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in some]
            )
            for facts, whole in zip(every, _all(flat), strict=True):
                parts = torch.split(whole, [p.numel() for p in some])
                for i, part in zip(places, parts, strict=True):
                    before = sums[i]
                    if facts[1 + i] and before is None:
                        # laid out as the parameter: one kernel of Adam reads both as they lie
                        like = torch.empty_like(parameters[i])
                        sums[i] = like.copy_(part.view_as(like))
                    elif facts[1 + i] and before is not None:
                        before += part.view_as(before)
    for parameter, gradient in zip(parameters, sums, strict=True):
        parameter.grad = gradient
    return result


STATISTICS = ("running_mean", "running_var")  # how tensors of batch norms are named in a state


def even_out(
    get_state: Callable[[], dict[str, Tensor]], set_state: Callable[[dict[str, Tensor]], None]
) -> None:
    """Give all processes the mean of their running statistics of batch norms, where there are any.

    Each process has those of its own episodes, so this is not to the last bit what one process has.
    """
    if _training is None:
        return
    state = get_state()
    names = [name for name in state if name.endswith(STATISTICS)]
    if names:
        every = _all(torch.cat([state[name].flatten().cpu().double() for name in names]))
        mean = every[0] + torch.stack([one - every[0] for one in every]).mean(0)  # of equal: equal
        parts = torch.split(mean, [state[name].numel() for name in names])
        for name, part in zip(names, parts, strict=True):
            state[name] = part.view_as(state[name]).to(state[name])
        set_state(state)


def _alike(parameters: Sequence[torch.nn.Parameter]) -> list[list[int]]:
    """The places of the parameters, those on one device and of one type together."""
    kinds: dict[tuple[object, object], list[int]] = {}
    for i, parameter in enumerate(parameters):
        kinds.setdefault((parameter.device, parameter.dtype), []).append(i)
    return list(kinds.values())


def _all(tensor: Tensor) -> list[Tensor]:
    """That tensor of every process."""
    import torch.distributed as dist

    assert _training is not None
    boxes = [torch.empty_like(tensor) for _ in range(_training.count)]
    with _training.talking():
        dist.all_gather(boxes, tensor)
    return boxes

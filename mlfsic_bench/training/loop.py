"""The episodic training loop: steps, checkpoints, selection; knows nothing of any method."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import exists
from mlfsic_bench.progress import progress
from mlfsic_bench.training.checkpoints import load_checkpoint, save_checkpoint
from mlfsic_bench.training.history import HistoryRow, write_history

if TYPE_CHECKING:
    from torch import Tensor

LATEST, BEST = "latest.pt", "best.pt"
CHECKPOINT_SECONDS = 30.0
State = dict[str, "Tensor"]


@dataclass
class Trained:
    """What a training came to.

    Attributes
    ----------
    history: the rows, also in `history.jsonl` of the folder.
    best: the state with the highest value on val (the earliest of equals); None without val.
    best_step, best_value: when that was and how high.
    """

    history: list[HistoryRow] = field(default_factory=list)
    best: State | None = None
    best_step: int | None = None
    best_value: float | None = None


def train_episodic(
    *,
    parameters: Iterable[torch.nn.Parameter],
    loss: Callable[[int], Tensor],
    learning_rate: Callable[[int], float],
    steps: int,
    get_state: Callable[[], State],
    set_state: Callable[[State], None],
    evaluate: Callable[[], float] | None = None,
    evaluate_every: int = 1000,
    row_every: int = 100,
    episodes_per_step: int = 1,
    folder: Path | None = None,
    key: str = "",
    checkpoint_seconds: float | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Trained:
    """Minimise `loss` with Adam for `steps` steps; resume from `folder` where one was cut off.

    `loss(i)` is the scalar loss of training episode i and must depend on i and the state alone, so
    that a resumed training takes the very steps an undisturbed one would. A step averages the
    gradients of `episodes_per_step` episodes. `evaluate()` is a number to be high; it is called
    every `evaluate_every` steps and at the end. A history row is made every `row_every` steps.
    `get_state` and `set_state` read and restore everything that learns. The latest state is
    checkpointed at each evaluation and every `checkpoint_seconds` (default CHECKPOINT_SECONDS),
    the best one beside it. `key` names all that the training depends on: a checkpoint of another
    key is refused with a BenchError, as is a loss that is not finite.

    Afterwards the state is that of the last step; the caller chooses between it and `best`.
    """
    parameters = list(parameters)
    optimiser = torch.optim.Adam(parameters, lr=learning_rate(0), fused=True)
    seconds = CHECKPOINT_SECONDS if checkpoint_seconds is None else checkpoint_seconds
    trained = Trained()
    step, loss_sum, loss_count = 0, 0.0, 0

    def save_latest() -> None:
        if folder is None:
            return
        content = {
            "key": key,
            "step": step,
            "loss_sum": loss_sum,
            "loss_count": loss_count,
            "history": trained.history,
            "state": get_state(),
            "optimiser": optimiser.state_dict(),
        }
        save_checkpoint(folder / LATEST, content)
        write_history(folder, trained.history)

    if folder is not None and exists(folder / LATEST):
        content = _read(folder / LATEST, key)
        set_state(content["state"])
        optimiser.load_state_dict(content["optimiser"])
        step, trained.history = content["step"], content["history"]
        loss_sum, loss_count = content["loss_sum"], content["loss_count"]
        log(f"resuming after step {step} of {steps}")
        if exists(folder / BEST):
            best = _read(folder / BEST, key)
            trained.best = best["state"]
            trained.best_step, trained.best_value = best["step"], best["value"]

    saved_at = time.monotonic()
    with progress("training", steps, log, "steps", done=step) as advance:
        while step < steps:
            lr = learning_rate(step)
            for group in optimiser.param_groups:
                group["lr"] = lr
            optimiser.zero_grad(set_to_none=True)
            step_loss = 0.0
            for k in range(episodes_per_step):
                episode_loss = loss(step * episodes_per_step + k) / episodes_per_step
                episode_loss.backward()  # type: ignore[no-untyped-call]
                step_loss += float(episode_loss.detach())
            if not math.isfinite(step_loss):
                raise _diverged(step, step_loss, lr)
            optimiser.step()
            step += 1
            loss_sum, loss_count = loss_sum + step_loss, loss_count + 1
            advance(1)

            due = evaluate is not None and (step % evaluate_every == 0 or step == steps)
            if due or step % row_every == 0 or step == steps:
                mean, loss_sum, loss_count = loss_sum / loss_count, 0.0, 0
                value = evaluate() if due and evaluate is not None else None
                trained.history.append({"step": step, "loss": mean, "lr": lr, "value": value})
                if value is not None:
                    log(f"step {step}/{steps}: loss {mean:.4f}, lr {lr:.2e}, val {100 * value:.2f}")
                    _keep_best(trained, step, value, get_state, folder, key)
            if due or step == steps or time.monotonic() - saved_at >= seconds:
                save_latest()
                saved_at = time.monotonic()
    return trained


def _keep_best(
    trained: Trained,
    step: int,
    value: float,
    get_state: Callable[[], State],
    folder: Path | None,
    key: str,
) -> None:
    # A training cut off between the two files finds a best that is newer than the latest; it then
    # repeats the steps in between, arrives at an equal value and leaves that best in place.
    if trained.best_value is not None and value <= trained.best_value:
        return
    trained.best = {name: tensor.detach().clone() for name, tensor in get_state().items()}
    trained.best_step, trained.best_value = step, value
    if folder is not None:
        content = {"key": key, "step": step, "value": value, "state": trained.best}
        save_checkpoint(folder / BEST, content)


def _read(path: Path, key: str) -> dict[str, Any]:
    content = load_checkpoint(path)
    if content.get("key") != key:
        raise BenchError(
            f"{path} belongs to another training",
            expected=f"a checkpoint of the training with key {key[:16]}",
            found=f"key {str(content.get('key'))[:16]}",
            remedy="name another folder, or delete this one to train from the start",
        )
    return content


def _diverged(step: int, value: float, lr: float) -> BenchError:
    return BenchError(
        f"training diverged: the loss of step {step} is {value}",
        expected="a finite loss",
        found=f"{value} at learning rate {lr:.3g}",
        remedy="lower the learning rate (--set lr=1e-4), lengthen the warm-up "
        "(--set warmup_epochs=20), or look for NaN features with `mlfsic-bench features verify`",
    )

"""The episodic training loop; its batches, schedule and checkpoints; selection on val."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import atomic_writer
from mlfsic_bench.paths import exists
from mlfsic_bench.progress import progress
from mlfsic_bench.randomness import splitmix64_array
from mlfsic_bench.torch_files import read_torch_file, unreadable
from mlfsic_bench.training.adam import Adam
from mlfsic_bench.training.history import HistoryRow, write_history
from mlfsic_bench.training.together import apart, divided, even_out, from_first, gathered, gradients

if TYPE_CHECKING:
    from torch import Tensor

    from mlfsic_bench.methods.contract import Predictor, Support, TrainingPart


def epoch_batches(n: int, size: int, seed: int) -> list[list[int]]:
    """Positions 0 to n - 1 in the order keyed by `seed`, in ceil(n / size) batches.

    The batches are of equal length, or one apart, and so hold at most `size` images each.

    >>> [len(rows) for rows in epoch_batches(10, 4, seed=1)]
    [4, 3, 3]
    >>> sorted(sum(epoch_batches(10, 4, seed=1), []))
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    words = splitmix64_array(np.array([seed], np.uint64), np.arange(n, dtype=np.uint64))
    return [rows.tolist() for rows in np.array_split(np.argsort(words), math.ceil(n / size))]


@dataclass(frozen=True)
class WarmupCosine:
    """Linear from `start` to `base` over `warmup` steps, then a cosine to `final` at `steps`.

    Counted in optimiser steps, as the authors' later code does. With `final` equal to `base`, the
    default of the paper's model, the rate stays at `base` after the warm-up.
    """

    base: float
    steps: int
    warmup: int = 0
    start: float = 1e-6
    final: float | None = None

    def __call__(self, step: int) -> float:
        """The learning rate of step 0, 1, ..., steps - 1.

        >>> rate = WarmupCosine(base=1.0, steps=6, warmup=2, start=0.0, final=0.0)
        >>> [round(rate(step), 3) for step in range(6)]
        [0.0, 0.5, 1.0, 0.854, 0.5, 0.146]
        """
        if step < self.warmup:
            return self.start + (self.base - self.start) * step / self.warmup
        final = self.base if self.final is None else self.final
        progress = (step - self.warmup) / max(self.steps - self.warmup, 1)
        return final + 0.5 * (self.base - final) * (1 + math.cos(math.pi * progress))


KIND = "checkpoint"
CONTENT = "tensors and plain values, as mlfsic-bench saves them"
REMEDY = "delete the file to train from the start, or restore it from a copy"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (tensors, numbers, strings, lists and dicts of them) to `path` atomically."""
    import torch

    with atomic_writer(path) as stream:
        torch.save(content, stream)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote, on the CPU; a BenchError when the file can't be read.

    Only tensors and plain values are accepted, so an untrusted file can't run code.
    """
    path = Path(path)
    content = read_torch_file(path, KIND, CONTENT, REMEDY)
    if not isinstance(content, dict):
        raise unreadable(path, KIND, CONTENT, f"a {type(content).__name__}", REMEDY)
    return content


def val_macro_ap(
    adapt_all: Callable[[Sequence[Support]], Sequence[Predictor]], val: TrainingPart
) -> float:
    """The mean over val's episodes of macro-AP, in [0, 1], as docs/metrics.md defines it.

    Episodes of equal size are scored together; processes that train together (`training.together`)
    divide them. A part without fixed episodes is a BenchError.
    """
    from mlfsic_bench.metrics.registry import episode_metrics

    if not val.n_episodes:
        raise BenchError(
            "the val part has no fixed episodes to select on",
            expected="n_episodes of at least 1",
            found=str(val.n_episodes),
            remedy="pass val episodes, or no val part at all to keep the last weights",
        )
    episodes = [val.episode(i) for i in divided(val.n_episodes)]
    shapes: dict[tuple[int, ...], tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
    with torch.no_grad():
        predictors = adapt_all([episode.support for episode in episodes]) if episodes else []
        for episode, predictor in zip(episodes, predictors, strict=True):
            scores, targets = predictor(episode.query), episode.query_targets
            group = shapes.setdefault(tuple(targets.shape), ([], []))
            group[0].append(scores.float().cpu())
            group[1].append(targets.cpu())
    values = [
        episode_metrics(
            torch.stack(scores).numpy(), torch.stack(targets).numpy() > 0, names=["macro_ap"]
        )["macro_ap"]
        for scores, targets in shapes.values()
    ]
    return float(np.mean(gathered([value for group in values for value in group.tolist()])))


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

    Processes that train together divide the episodes of a step and take the same steps; those
    without a `folder` go on from what the first one finds in its own.
    """
    parameters = list(parameters)
    optimiser = Adam(parameters, lr=learning_rate(0), fused=True)
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

    latest, best = from_first(_kept(folder, key))
    if latest is not None:
        content = latest
        set_state(content["state"])
        optimiser.load_state_dict(content["optimiser"])
        step, trained.history = content["step"], content["history"]
        loss_sum, loss_count = content["loss_sum"], content["loss_count"]
        log(f"resuming after step {step} of {steps}")
        if best is not None:
            trained.best = best["state"]
            trained.best_step, trained.best_value = best["step"], best["value"]
    elif not apart():
        set_state(from_first({name: tensor.cpu() for name, tensor in get_state().items()}))

    def backward(k: int) -> float:
        """Add the gradients of the step's episode k; its share of the loss."""
        episode_loss = loss(step * episodes_per_step + k) / episodes_per_step
        episode_loss.backward()  # type: ignore[no-untyped-call]
        return float(episode_loss.detach())

    saved_at = time.monotonic()
    with progress("training", steps, log, "steps", done=step) as advance:
        while step < steps:
            lr = learning_rate(step)
            for group in optimiser.param_groups:
                group["lr"] = lr
            optimiser.zero_grad()
            step_loss = gradients(parameters, episodes_per_step, backward)
            if not math.isfinite(step_loss):
                raise _diverged(step, step_loss, lr)
            optimiser.step()
            step += 1
            loss_sum, loss_count = loss_sum + step_loss, loss_count + 1
            advance(1)

            due = evaluate is not None and (step % evaluate_every == 0 or step == steps)
            if due or step == steps:
                even_out(get_state, set_state)
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


def _kept(folder: Path | None, key: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The latest and the best checkpoint in the folder, where they are."""
    if folder is None or not exists(folder / LATEST):
        return None, None
    best = _read(folder / BEST, key) if exists(folder / BEST) else None
    return _read(folder / LATEST, key), best


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

"""Training on the base part: epochs with a checkpoint that a killed training goes on from, and an
ordinary classifier: pooled features, one linear head, BCE.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.sources import FeatureSource
from mlfsic_bench.hashing import hash_bytes, hash_json
from mlfsic_bench.methods.contract import FitContext, TrainingPart
from mlfsic_bench.methods.refusals import label_embeddings
from mlfsic_bench.paths import exists
from mlfsic_bench.progress import tracked
from mlfsic_bench.randomness import stream_seed
from mlfsic_bench.training.adam import Adam
from mlfsic_bench.training.loop import epoch_batches, load_checkpoint, save_checkpoint

CHECKPOINT_SECONDS = 30.0


def train_epochs(
    context: FitContext,
    source: FeatureSource,
    *,
    what: str,
    epochs: int,
    epoch: Callable[[int], float],
    file: str,
    key: str,
    get_state: Callable[[], dict[str, Any]],
    set_state: Callable[[dict[str, Any]], None],
    evaluate: Callable[[], float] | None = None,
    select_every: int | None = None,
) -> None:
    """Run epochs 0, 1, ..., epochs - 1; with a folder in the context, those not yet done.

    With `select_every` the weights of the epoch with the highest value on val are kept, the
    earliest of equals; without it, or without `evaluate`, those of the last epoch.

    Parameters
    ----------
    source: the features; its backbone is in training mode meanwhile, and in the checkpoint.
    what: names the epochs in the log.
    epoch: trains one epoch, whose number alone it may depend on, and returns its mean loss.
    file: the checkpoint's name in `context.folder`.
    key: all that the training depends on; a checkpoint of another key is a BenchError.
    get_state, set_state: read and restore all that learns, but for the backbone.
    evaluate: a value on val of the weights as they are, to be high, such as `val_macro_ap`.
    select_every: epochs between two evaluations; the last epoch is always evaluated.
    """
    path = context.folder / file if context.folder is not None else None
    first, best = 0, None
    if path is not None and exists(path):
        content = read_checkpoint(path, key)
        set_state(content)
        source.load_state(content["source"])
        first, best = int(content["epoch"]), content.get("best")
        context.log(f"resuming after {what} epoch {first} of {epochs}")
    saved_at = time.monotonic()
    source.train(True)
    try:
        numbers = range(first, epochs)
        for number in tracked(numbers, f"{what} training", context.log, "epochs", done=first):
            loss = epoch(number)
            last = number + 1 == epochs
            line = f"{what} epoch {number + 1}/{epochs}: loss {loss:.4f}"
            look = evaluate is not None and is_due(number + 1, select_every, last)
            if look and evaluate is not None:
                source.train(False)
                value = evaluate()
                source.train(True)
                line += f", val {100 * value:.2f}"
                if best is None or value > best["value"]:
                    weights = copy.deepcopy({**get_state(), "source": source.state()})
                    best = {"epoch": number + 1, "value": value, "weights": weights}
            context.log(line)
            due = look or last or time.monotonic() - saved_at >= CHECKPOINT_SECONDS
            if path is not None and due:
                content = {**get_state(), "source": source.state(), "best": best}
                save_checkpoint(path, {"key": key, "epoch": number + 1, **content})
                saved_at = time.monotonic()
    finally:
        source.train(False)
    if best is not None:
        set_state(best["weights"])
        source.load_state(best["weights"]["source"])
        context.log(kept(what, best))


def is_due(done: int, every: int | None, last: bool) -> bool:
    """Whether a training evaluates on val after `done` epochs."""
    return every is not None and (last or done % every == 0)


def kept(what: str, best: dict[str, Any]) -> str:
    """A line of the log on the epoch whose weights were kept."""
    return f"{what}: kept epoch {best['epoch']}, macro-AP {100 * best['value']:.2f} on val"


def selection_key(val: TrainingPart | None, select_every: int | None) -> dict[str, Any] | None:
    """What a selection depends on beside the training, for a checkpoint's key; None without one."""
    if val is None or select_every is None:
        return None
    return {
        "every": select_every,
        "ids": list(val.images.ids),
        "labels": list(val.labels),
        "targets": hash_bytes(val.targets.cpu().numpy().tobytes()),
        "episodes": val.n_episodes,
    }


def read_checkpoint(path: Path, key: str) -> dict[str, Any]:
    """The content of a checkpoint; a BenchError when it is one of another training."""
    content = load_checkpoint(path)
    if content.get("key") != key:
        raise BenchError(
            f"{path} belongs to another training",
            expected="a checkpoint with the same seed, base part and parameters",
            found="another key",
            remedy="name another output folder, or delete the checkpoint",
        )
    return content


def training_key(
    method: str,
    params: dict[str, Any],
    base: TrainingPart,
    val: TrainingPart | None,
    seed: int,
) -> str:
    """What a training with label embeddings depends on, as a hash, for its checkpoint.

    params: the parameters that the training reads. val: the part that weights are selected on.
    """
    parts = [
        {
            "labels": part.labels,
            "ids": part.images.ids,
            "targets": hash_bytes(part.targets.cpu().numpy().tobytes()),
            "embeddings": hash_bytes(
                label_embeddings(method, part.embeddings).cpu().numpy().tobytes()
            ),
            "episodes": part.n_episodes,
        }
        for part in (base, val)
        if part is not None
    ]
    sizes = [base.images.source.channels, base.images.source.dim]
    return hash_json(
        {"method": method, "params": params, "parts": parts, "seed": seed, "sizes": sizes}
    )


def train_classifier(
    base: TrainingPart,
    context: FitContext,
    *,
    W: Tensor,
    epochs: int,
    lr: float,
    batch: int,
    evaluate: Callable[[Tensor], float] | None = None,
    select_every: int | None = None,
    selection: str = "",
) -> Tensor:
    """Train a linear head, and the backbone where it is trainable, on the base part.

    Adam on all weights, batches of at most `batch` images, the mean of BCE over images and labels;
    the order of the images in an epoch is keyed by (context.seed, epoch). With a folder in the
    context a killed training resumes after its last checkpoint and takes the same steps.

    Parameters
    ----------
    W: float32 [L, c + 1], the head to start from, its bias in the last column; not changed.
    evaluate, select_every: as in `train_epochs`; `evaluate` is given the head as it is.
    selection: all that the value on val depends on beside this training, as a hash.

    Returns the trained head, float32 [L, c + 1]; a trained backbone stays in the feature source.
    """
    source = base.images.source
    weights = source.trainable_parameters()
    W = W.clone().requires_grad_()
    adam = Adam([W, *weights], lr=lr)
    # a frozen backbone gives the same features in every epoch, so they are asked for once
    frozen = None if weights else with_one(base.images.pooled())

    def features(rows: list[int]) -> Tensor:
        return with_one(base.images.subset(rows).pooled()) if frozen is None else frozen[rows]

    def epoch(number: int) -> float:
        order = stream_seed(context.seed, "classifier", number)
        return _epoch(base.targets, features, W, adam, order, batch)

    def get_state() -> dict[str, Any]:
        return {"W": W.detach(), "adam": adam.state_dict()}

    def set_state(state: dict[str, Any]) -> None:
        with torch.no_grad():
            W.copy_(state["W"])
        adam.load_state_dict(state["adam"])

    train_epochs(
        context,
        source,
        what="base",
        epochs=epochs,
        epoch=epoch,
        file="classifier.pt",
        key=f"{context.seed}/{len(base.images)}/{'|'.join(base.labels)}/{epochs}/{lr}/{batch}"
        + (f"/{selection}" if selection else ""),
        get_state=get_state,
        set_state=set_state,
        evaluate=None if evaluate is None else lambda: evaluate(W.detach()),
        select_every=select_every,
    )
    return W.detach()


def with_one(f: Tensor) -> Tensor:
    """float [n, c + 1]: features [n, c] with a last column of ones, which the bias multiplies."""
    return torch.cat([f, f.new_ones(len(f), 1)], 1)


def _epoch(
    targets: Tensor,
    features: Callable[[list[int]], Tensor],
    W: Tensor,
    adam: Adam,
    seed: int,
    batch: int,
) -> float:
    """One pass over all images in the order keyed by `seed`; the mean loss over images."""
    n = len(targets)
    total = 0.0
    for rows in epoch_batches(n, batch, seed):
        with torch.enable_grad():
            loss = bce(features(rows) @ W.T, targets[rows])
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        total += loss.item() * len(rows)
    if not math.isfinite(total):
        raise BenchError(
            "training on the base part diverged",
            expected="a finite loss",
            found=f"{total / n}",
            remedy="lower the learning rate (--set lr=1e-4), and verify the features",
        )
    return total / n

"""Training an ordinary classifier on the base part: pooled features, one linear head, BCE."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import FitContext, TrainingPart
from mlfsic_bench.randomness import splitmix64_array, stream_seed
from mlfsic_bench.training.checkpoints import load_checkpoint, save_checkpoint

CHECKPOINT_SECONDS = 30.0


def train_classifier(
    base: TrainingPart, context: FitContext, *, W: Tensor, epochs: int, lr: float, batch: int
) -> Tensor:
    """Train a linear head, and the backbone where it is trainable, on the base part.

    Adam on all weights, batches of at most `batch` images, the mean of BCE over images and labels;
    the order of the images in an epoch is keyed by (context.seed, epoch). With a folder in the
    context a killed training resumes after its last checkpoint and takes the same steps.

    Parameters
    ----------
    W: float32 [L, c + 1], the head to start from, its bias in the last column; not changed.

    Returns the trained head, float32 [L, c + 1]; a trained backbone stays in the feature source.
    """
    source = base.images.source
    weights = source.trainable_parameters()
    W = W.clone().requires_grad_()
    adam = torch.optim.Adam([W, *weights], lr=lr)
    # a frozen backbone gives the same features in every epoch, so they are asked for once
    frozen = None if weights else with_one(base.images.pooled())

    def features(rows: list[int]) -> Tensor:
        return with_one(base.images.subset(rows).pooled()) if frozen is None else frozen[rows]

    path = context.folder / "classifier.pt" if context.folder is not None else None
    key = f"{context.seed}/{len(base.images)}/{'|'.join(base.labels)}/{epochs}/{lr}/{batch}"
    first = 0
    if path is not None and path.exists():
        first = _resume(path, key, W, adam, source.load_state)
        context.log(f"resuming after base epoch {first} of {epochs}")
    saved_at = time.monotonic()
    source.train(True)
    try:
        for epoch in range(first, epochs):
            order = stream_seed(context.seed, "classifier", epoch)
            loss = _epoch(base.targets, features, W, adam, order, batch)
            context.log(f"base epoch {epoch + 1}/{epochs}: loss {loss:.4f}")
            due = epoch + 1 == epochs or time.monotonic() - saved_at >= CHECKPOINT_SECONDS
            if path is not None and due:
                content = {"W": W.detach(), "adam": adam.state_dict(), "source": source.state()}
                save_checkpoint(path, {"key": key, "epoch": epoch + 1, **content})
                saved_at = time.monotonic()
    finally:
        source.train(False)
    return W.detach()


def with_one(f: Tensor) -> Tensor:
    """float [n, c + 1]: features [n, c] with a last column of ones, which the bias multiplies."""
    return torch.cat([f, f.new_ones(len(f), 1)], 1)


def _epoch(
    targets: Tensor,
    features: Callable[[list[int]], Tensor],
    W: Tensor,
    adam: torch.optim.Adam,
    seed: int,
    batch: int,
) -> float:
    """One pass over all images in the order keyed by `seed`; the mean loss over images."""
    n = len(targets)
    words = splitmix64_array(np.array([seed], np.uint64), np.arange(n, dtype=np.uint64))
    total = 0.0
    for rows in np.array_split(np.argsort(words), math.ceil(n / batch)):
        index = rows.tolist()
        with torch.enable_grad():
            loss = bce(features(index) @ W.T, targets[index])
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        total += loss.item() * len(index)
    if not math.isfinite(total):
        raise BenchError(
            "training on the base part diverged",
            expected="a finite loss",
            found=f"{total / n}",
            remedy="lower the learning rate (--set lr=1e-4), and verify the features",
        )
    return total / n


def _resume(
    path: Path,
    key: str,
    W: Tensor,
    adam: torch.optim.Adam,
    load_source: Callable[[dict[str, Tensor]], None],
) -> int:
    """Restore head, optimiser and backbone from a checkpoint; the number of epochs done."""
    content = load_checkpoint(path)
    if content.get("key") != key:
        raise BenchError(
            f"{path} belongs to another training",
            expected="a checkpoint with the same seed, base part and parameters",
            found="another key",
            remedy="name another output folder, or delete the checkpoint",
        )
    with torch.no_grad():
        W.copy_(content["W"])
    adam.load_state_dict(content["adam"])
    load_source(content["source"])
    return int(content["epoch"])

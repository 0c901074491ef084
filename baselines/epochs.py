"""Epochs on the base part, with a checkpoint that a killed training goes on from."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.source import FeatureSource
from mlfsic_bench.methods.contract import FitContext
from mlfsic_bench.paths import exists
from mlfsic_bench.training.checkpoints import load_checkpoint, save_checkpoint

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
) -> None:
    """Run epochs 0, 1, ..., epochs - 1; with a folder in the context, those not yet done.

    Parameters
    ----------
    source: the features; its backbone is in training mode meanwhile, and in the checkpoint.
    what: names the epochs in the log.
    epoch: trains one epoch, whose number alone it may depend on, and returns its mean loss.
    file: the checkpoint's name in `context.folder`.
    key: all that the training depends on; a checkpoint of another key is a BenchError.
    get_state, set_state: read and restore all that learns, but for the backbone.
    """
    path = context.folder / file if context.folder is not None else None
    first = 0
    if path is not None and exists(path):
        content = read_checkpoint(path, key)
        set_state(content)
        source.load_state(content["source"])
        first = int(content["epoch"])
        context.log(f"resuming after {what} epoch {first} of {epochs}")
    saved_at = time.monotonic()
    source.train(True)
    try:
        for number in range(first, epochs):
            loss = epoch(number)
            context.log(f"{what} epoch {number + 1}/{epochs}: loss {loss:.4f}")
            due = number + 1 == epochs or time.monotonic() - saved_at >= CHECKPOINT_SECONDS
            if path is not None and due:
                content = {**get_state(), "source": source.state()}
                save_checkpoint(path, {"key": key, "epoch": number + 1, **content})
                saved_at = time.monotonic()
    finally:
        source.train(False)


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

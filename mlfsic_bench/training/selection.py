"""Selection on val: the macro-AP of a method over the fixed val episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from mlfsic_bench.errors import BenchError

if TYPE_CHECKING:
    from mlfsic_bench.methods.contract import Predictor, Support, TrainingPart


def val_macro_ap(
    adapt_all: Callable[[Sequence[Support]], Sequence[Predictor]], val: TrainingPart
) -> float:
    """The mean over val's episodes of macro-AP, in [0, 1], as docs/metrics.md defines it.

    Episodes of equal size are scored together. A part without fixed episodes is a BenchError.
    """
    from mlfsic_bench.metrics.episode import episode_metrics

    if not val.n_episodes:
        raise BenchError(
            "the val part has no fixed episodes to select on",
            expected="n_episodes of at least 1",
            found=str(val.n_episodes),
            remedy="pass val episodes, or no val part at all to keep the last weights",
        )
    episodes = [val.episode(i) for i in range(val.n_episodes)]
    shapes: dict[tuple[int, ...], tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
    with torch.no_grad():
        predictors = adapt_all([episode.support for episode in episodes])
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
    return float(np.mean(np.concatenate(values)))

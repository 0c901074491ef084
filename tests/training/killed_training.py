"""A training of the paper's model that is killed before one of its files is in place."""

from __future__ import annotations

from pathlib import Path

from mlfsic_bench.methods.contract import FitContext
from mlfsic_bench.methods.word_guided.method import WordGuidedAttentionMethod
from mlfsic_bench.methods.word_guided.params import WordGuidedParams
from mlfsic_bench.training import loop
from mlfsic_bench.training.loop import save_checkpoint
from tests.fakes.processes import die_at
from tests.fakes.source import learnable_part


def train(folder: Path, end: int | None = None) -> None:
    """Train in `folder` with a checkpoint at every step; killed at that many files."""
    folder.mkdir(exist_ok=True)
    loop.CHECKPOINT_SECONDS = 0.0
    if end is not None:
        die_at(Path, "replace", end)
    params = WordGuidedParams(
        d_j=8, d_mlp=8, n_a=2, epochs=4, warmup_epochs=1, steps_per_epoch=10, select_every=1
    )
    method = WordGuidedAttentionMethod(params)
    base, val = learnable_part("base"), learnable_part("val", n_episodes=3)
    method.fit(base, val, FitContext(seed=5, folder=folder))
    save_checkpoint(folder / "final.pt", method.state())

"""One finished run for the whole folder."""

import pytest

from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.runner import run_method

TINY = {
    "epochs": "2",
    "warmup_epochs": "1",
    "steps_per_epoch": "1",
    "d_j": "16",
    "d_mlp": "16",
    "n_a": "2",
    "select_every": "2",
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A finished run of the paper's model, hardly trained, on live features of scenes."""
    out = tmp_path_factory.mktemp("attention")
    plan = RunPlan(
        method="word-guided-attention",
        split="scenes-12-6-6-v1",
        backbone="scenes-small",
        settings=TINY,
        episodes=1,
        device="cpu",
        batch_size=64,
        out=out / "run",
    )
    return run_method(plan)

"""What a run is estimated to take, from stated rates and from earlier runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlfsic_bench.evaluation.plan import FeatureMode, RunPlan
from mlfsic_bench.experiments.cost import Costs, Estimate, total
from mlfsic_bench.experiments.plan import PlannedRun
from mlfsic_bench.experiments.schema import Rate, Rates
from mlfsic_bench.methods.registry import make_method

RATES = Rates(
    basis="made up",
    methods={
        "word-guided-attention": Rate(unit=0.5, episode=1.0, step=0.25),
        "pla": Rate(unit=0.01, step=0.1),
    },
)


def seconds(
    method: str,
    settings: dict[str, str],
    *,
    base_images: int | None = 1000,
    features: FeatureMode = "stored",
    episodes: int | None = None,
    cut: int | None = None,
) -> float | None:
    plan = RunPlan(
        method,
        "scenes-12-6-6-v1",
        "scenes-small",
        settings=settings,
        features=features,
        episodes=episodes,
        base_images=cut,
    )
    costs = Costs(Path("nowhere"), RATES, "cpu", base_images)
    made = make_method(method, settings, None)
    return costs.estimate(PlannedRun(plan, Path("run")), made).seconds


def test_episodic_training_is_counted_in_episodes() -> None:
    short = {"epochs": "3", "steps_per_epoch": "10", "episodes_per_step": "2"}
    assert seconds("word-guided-attention", short) == 60 * 0.5 + 200 * 1.0
    tuned = short | {"fine_tune_epochs": "4"}
    assert seconds("word-guided-attention", tuned, episodes=10) == 30 + 10 * (1 + 4 * 0.25)


def test_other_training_is_counted_in_base_images() -> None:
    short = {"epochs": "3", "tune_epochs": "5"}
    assert seconds("pla", short) == pytest.approx(3 * 1000 * 0.01 + 200 * 0.5)
    assert seconds("pla", short, cut=100) == pytest.approx(3 + 100)
    assert seconds("pla", short, base_images=None) is None


def test_what_nothing_is_known_of() -> None:
    assert seconds("linear", {}) is None
    assert seconds("pla", {}, features="end-to-end") is None
    assert total([Estimate(3.0, ""), Estimate(None, ""), Estimate(4.0, "")]) == (7.0, 1)

"""Runs of fake methods, made once for all tests that only read them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mlfsic_bench.evaluation.scores import read_scores
from mlfsic_bench.results.conditions import ResultGroup
from tests.analysis import compared, plotted
from tests.fakes.world import Mean, Trained, fake_run


@pytest.fixture(scope="session")
def compare_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A method with two training seeds, and another with two settings."""
    top, episodes = tmp_path_factory.mktemp("compare"), compared.EPISODES
    return {
        "seed1": fake_run(top / "seed1", Trained, episodes=episodes, seed=1),
        "seed0": fake_run(top / "seed0", Trained, episodes=episodes, seed=0),
        "mean": fake_run(top / "mean", Mean, episodes=episodes),
        "sharp": fake_run(top / "sharp", Mean, episodes=episodes, params={"scale": -3.0}),
    }


@pytest.fixture(scope="session")
def plot_folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A method without training and one with it, which has a history."""
    top, episodes = tmp_path_factory.mktemp("plots"), plotted.EPISODES
    found = [
        fake_run(top / "mean", Mean, episodes=episodes),
        fake_run(top / "trained", Trained, episodes=episodes),
    ]
    plotted.write_history(found[1])
    return found


@pytest.fixture
def made(plot_folders: list[Path]) -> Callable[..., ResultGroup]:
    """`made(method, names, subset, n)`: a group in memory, which no reader has looked at."""
    return partial(plotted.group_in_memory, read_scores(plot_folders[0] / "scores.npz"))

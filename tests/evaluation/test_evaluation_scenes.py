"""Whole runs on the embedded scenes: what must not matter does not, and modes agree."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.runner import run_method
from mlfsic_bench.evaluation.scores import read_scores

pytestmark = pytest.mark.slow


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    return RunPlan(
        method="protonet",
        split="scenes-12-6-6-v1",
        backbone="scenes-small",
        episodes=2,
        device="cpu",
        cache=tmp_path / "cache",
        out=tmp_path / "run",
    )


def test_batches_workers_and_paths_change_neither_key_nor_scores(
    plan: RunPlan, tmp_path: Path
) -> None:
    other = dataclasses.replace(
        plan, batch_size=3, workers=1, cache=tmp_path / "cache2", out=tmp_path / "run2"
    )
    one, two = run_method(plan), run_method(other)
    assert read_record(one).key == read_record(two).key
    a, b = read_scores(one / "scores.npz"), read_scores(two / "scores.npz")
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)
    assert a.meta == b.meta


def test_live_features_agree_with_stored_ones(plan: RunPlan, tmp_path: Path) -> None:
    live = dataclasses.replace(plan, features="live", out=tmp_path / "live")
    one, two = run_method(plan), run_method(live)
    assert read_record(one).key != read_record(two).key
    a, b = read_scores(one / "scores.npz"), read_scores(two / "scores.npz")
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-2)


def test_random_needs_no_features(plan: RunPlan) -> None:
    folder = run_method(dataclasses.replace(plan, method="random"))
    assert read_record(folder).status == "success"
    assert plan.cache is not None
    assert not plan.cache.exists()


def test_default_folder(plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = run_method(dataclasses.replace(plan, method="random", out=None))
    key = read_record(folder).key
    assert folder == Path(f"runs/random-scenes-12-6-6-v1-{key[:8]}")


def test_the_backbone_of_an_end_to_end_run_is_saved_with_the_method(
    plan: RunPlan, tmp_path: Path
) -> None:
    tuned = dataclasses.replace(
        plan,
        method="linear",
        settings={"epochs": "0", "tune_epochs": "1", "tune": "all"},
        features="end-to-end",
        episodes=1,
        out=tmp_path / "tuned",
    )
    folder = run_method(tuned)
    from mlfsic_bench.training.loop import load_checkpoint

    assert load_checkpoint(folder / "method.pt")["source"]
    assert read_record(folder).audit_status == "passed"  # trained in the fresh process too

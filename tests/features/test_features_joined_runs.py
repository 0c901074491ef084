"""Whole runs over two networks: stored, live, trained; `linear` tuned in both ways; extraction."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.data.registry import open_dataset
from mlfsic_bench.episodes.protocol import episode_set
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.parts import PartView
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.predict import score
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.runner import run_method
from mlfsic_bench.evaluation.scores import read_scores
from mlfsic_bench.features.backbones.registry import build_backbone, build_backbones
from mlfsic_bench.features.sources import describe
from mlfsic_bench.features.store.store import FeatureStore
from mlfsic_bench.results.reopen import RunPaths, reopen
from mlfsic_bench.training.loop import load_checkpoint

pytestmark = pytest.mark.slow

PAIR = "scenes-small+scenes-patch"
SPLIT = "scenes-12-6-6-v1"


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    return RunPlan(
        method="protonet",
        split=SPLIT,
        backbone=PAIR,
        episodes=1,
        device="cpu",
        cache=tmp_path / "cache",
        out=tmp_path / "run",
    )


def scores(folder: Path) -> np.ndarray:
    return read_scores(folder / "scores.npz").scores


def test_stored_and_live_agree_and_the_record_says_what_made_them(
    plan: RunPlan, tmp_path: Path
) -> None:
    alone = run_method(dataclasses.replace(plan, backbone="scenes-small", out=tmp_path / "alone"))
    (store,) = plan.cache.iterdir()
    before = {path.name: path.stat().st_mtime_ns for path in store.iterdir()}
    stored = run_method(plan)
    assert len(list(plan.cache.iterdir())) == 2  # one store more, and the first one unchanged
    assert {path.name: path.stat().st_mtime_ns for path in store.iterdir()} == before
    live = run_method(dataclasses.replace(plan, features="live", out=tmp_path / "live"))
    np.testing.assert_allclose(scores(stored), scores(live), atol=1e-2)
    assert not np.allclose(scores(stored), scores(alone), atol=1e-2)
    card, pair = read_record(stored).features, describe(build_backbones(PAIR))
    assert card is not None
    assert (card.backbone, card.channels, card.grid) == (PAIR, 224, (7, 7))
    assert (card.weights, card.weights_hash) == ("default", pair.weights_hash)
    assert card.transform == pair.transform
    keys = {read_record(folder).key for folder in (alone, stored, live)}
    assert len(keys) == 3


def test_both_trained_networks_are_saved_and_reopened(plan: RunPlan, tmp_path: Path) -> None:
    trained = dataclasses.replace(
        plan,
        method="linear",
        features="end-to-end",
        base_images=40,
        settings={"epochs": "1", "batch": "40", "lr": "0.01", "tune_epochs": "2"},
    )
    folder = run_method(trained)
    assert read_record(folder).audit_status == "passed"
    saved = load_checkpoint(folder / "method.pt")["source"]
    for name in PAIR.split("+"):
        own = {key.split("/")[1]: v for key, v in saved.items() if key.startswith(f"{name}/")}
        fresh = build_backbone(name).state_dict()
        assert set(own) == set(fresh)
        assert any(not torch.equal(own[key], fresh[key]) for key in own)
    run = reopen(folder, RunPaths(cache=plan.cache))
    method, support = run.episode(0)
    source = support.images.source
    assert all(torch.equal(value, saved[key]) for key, value in source.state().items())
    inputs, episode = run.inputs, run.inputs.episodes.episodes[0]
    view = PartView(inputs.split.novel, "novel", inputs.split.hash, 0, source, inputs.embeddings)
    query = view.query(episode)
    again, _ = score("linear", 0, method.adapt(support), support.images, query, 6)
    place = [query.ids.index(image_id) for image_id in episode.query]
    np.testing.assert_allclose(again[place], scores(folder)[0], atol=1e-5)


def test_a_stored_run_is_reopened(plan: RunPlan) -> None:
    run = reopen(run_method(plan), RunPaths(cache=plan.cache))
    _, support = run.episode(0)
    assert support.images.local().shape == (6, 224, 7, 7)


def test_weight_files_are_named_one_by_one(plan: RunPlan, tmp_path: Path) -> None:
    torch.save(build_backbone("scenes-small", "none").body.state_dict(), tmp_path / "w.pt")
    given = f"{tmp_path / 'w.pt'}+default"
    folder = run_method(dataclasses.replace(plan, weights=given))
    card = read_record(folder).features
    assert card is not None
    assert card.weights == "w.pt+default"
    same = describe(build_backbones(PAIR, "none+default"))
    assert card.weights_hash == same.weights_hash
    with pytest.raises(BenchError, match=r"w\.pt"):
        reopen(folder, RunPaths(cache=plan.cache))
    assert reopen(folder, RunPaths(cache=plan.cache, weights=given)).episode(0)


# --- linear: head only, and the whole network ----------------------------------------------------


def linear(plan: RunPlan, out: Path, tune: str, **settings: str) -> Path:
    chosen = {"epochs": "0", "tune": tune, "tune_epochs": "3", "head_lr": "0.05", **settings}
    return run_method(
        dataclasses.replace(
            plan, method="linear", features="end-to-end", episodes=2, settings=chosen, out=out
        )
    )


@pytest.mark.parametrize("backbone", ["scenes-patch", PAIR])
def test_head_and_whole_network_fine_tuning(plan: RunPlan, tmp_path: Path, backbone: str) -> None:
    plan = dataclasses.replace(plan, backbone=backbone)
    head = scores(linear(plan, tmp_path / "head", "head"))
    whole = scores(linear(plan, tmp_path / "whole", "all", backbone_lr="0.001"))
    assert np.abs(head - whole).max() > 0.01
    # with next to no learning rate only the head is tuned: nothing else differs between the ways
    still = scores(linear(plan, tmp_path / "still", "all", backbone_lr="1e-12"))
    np.testing.assert_allclose(still, head, atol=1e-3)
    # restored after each episode: the second one does not know of the first (the heads start at
    # zero here, as a random start is keyed by the place of the episode)
    alone = dataclasses.replace(plan, episodes_file=_second_episode(tmp_path))
    one = scores(
        run_method(
            dataclasses.replace(
                alone,
                method="linear",
                features="end-to-end",
                settings={
                    "epochs": "0", "tune": "all", "tune_epochs": "3", "head_lr": "0.05",
                    "backbone_lr": "0.001", "head_init": "zero",
                },
                out=tmp_path / "alone",
            )
        )
    )  # fmt: skip
    both = scores(linear(plan, tmp_path / "zero", "all", backbone_lr="0.001", head_init="zero"))
    np.testing.assert_allclose(one[0], both[1], atol=1e-5)


def _second_episode(folder: Path) -> Path:
    """An episode file with the novel part's second episode only."""
    from mlfsic_bench.episodes.files import find_episodes
    from mlfsic_bench.splits.resolve import resolve_split

    split = resolve_split(SPLIT, data_root=None)
    episodes = find_episodes(None, split)
    path = folder / "second.json"
    path.write_bytes(
        episode_set(episodes.protocol, split, "novel", episodes.episodes[1:2]).format()
    )
    return path


def test_the_whole_network_needs_live_features(tmp_path: Path) -> None:
    args = ["run", "linear", "--split", SPLIT, "--backbone", PAIR, "--set", "tune=all"]
    args += ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run"), "--episodes", "1"]
    result = CliRunner().invoke(cli, args)
    assert isinstance(result.exception, BenchError)
    assert "tune=all" in result.exception.what
    assert "--features end-to-end" in result.exception.remedy
    assert not (tmp_path / "cache").exists()  # said before anything is extracted


# --- extraction ----------------------------------------------------------------------------------


def test_extraction_fills_a_store_for_each_network(tmp_path: Path, monkeypatch) -> None:
    from mlfsic_bench.cli import features

    ids = list(open_dataset("scenes", None).annotations().image_ids[:3])
    monkeypatch.setattr(features, "_ids", lambda split, part: ids)
    args = ["features", "extract", "--split", SPLIT, "--cache", str(tmp_path), "--backbone"]
    done = CliRunner().invoke(cli, [*args, PAIR, "--weights", "none+default"])
    assert done.exit_code == 0, done.output
    found = {s.manifest.backbone: s.manifest for s in map(FeatureStore, tmp_path.iterdir())}
    assert set(found) == set(PAIR.split("+"))
    small, patch = build_backbone("scenes-small", "none"), build_backbone("scenes-patch")
    assert found["scenes-small"].weights_hash == small.weights_hash
    assert found["scenes-patch"].weights_hash == patch.weights_hash
    assert done.output.count("3 in the store") == 2


def test_help_says_how_backbones_are_named() -> None:
    for verb in (["run"], ["features", "extract"]):
        shown = " ".join(CliRunner().invoke(cli, [*verb, "--help"]).output.split())
        for name in ("backbones list", "timm:NAME", "open_clip:ARCH/PRETRAINED", "file.py:build"):
            assert name in shown

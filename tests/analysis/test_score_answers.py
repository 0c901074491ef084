"""`score`: targets that nobody can forge, and targets that were only stored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mlfsic_bench.analysis.score import score_files
from mlfsic_bench.arrays import read_arrays, write_arrays
from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.scores import read_scores
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.results.targets import SplitPlace
from tests.analysis.foreign_scores import ROOT, SPLIT, E, foreign
from tests.fakes.world import fake_run


def forge(folder: Path) -> None:
    """Targets that are always right, with a record that vouches for them."""
    path = folder / "targets.npz"
    arrays = read_arrays(path, kind="answers", required=("targets", "query", "meta"))
    decided = read_scores(folder / "scores.npz").scores > 0
    write_arrays(path, arrays | {"targets": decided.astype(np.uint8)})
    record = json.loads((folder / "record.json").read_text("utf-8"))
    record["outputs"]["targets.npz"] = hash_file(path)
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")


def test_forged_targets_change_no_value(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ["--split", SPLIT["id"], "--backbone", "scenes-small", "--episodes", str(E)]
    CliRunner().invoke(
        cli, ["run", "random", *options, "--out", str(folder)], catch_exceptions=False
    )
    honest = score_files([folder])
    forge(folder)
    split = SplitPlace(split=str(ROOT / "splits" / f"{SPLIT['id']}.json"))
    for place in (SplitPlace(), split):
        assert score_files([folder], place) == honest
    (folder / "targets.npz").unlink()
    assert score_files([folder / "scores.npz"]).files[0].metrics == honest.files[0].metrics


def test_scores_on_val_are_of_the_splits_own_selection_episodes(tmp_path: Path) -> None:
    drawn = json.loads((ROOT / f"splits/{SPLIT['id']}.val-episodes.json").read_text("utf-8"))
    labels = SPLIT["labels"]["val"]
    own = {"part": "val", "hash": drawn["hash"], "total": drawn["count"]}
    for change, says in (
        ({}, ""),
        ({"hash": "0" * 64}, "not the ones the scores were made on"),
        ({"total": 150}, "another number of episodes"),
    ):
        path = foreign(tmp_path / "val.npz", labels=labels, episodes={**own, **change})
        if says:
            with pytest.raises(BenchError, match=says):
                score_files([path])
        else:
            assert score_files([path]).targets == "rebuilt"


def test_stored_targets_are_said_to_be_stored(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", episodes=4)
    report = score_files([folder], by="label")
    assert (report.targets, report.image_intervals) == ("stored", "query images only")
    assert any("stored" in note for note in report.notes)
    assert report.files[0].metrics["macro_ap"].images is not None
    with pytest.raises(BenchError, match="--by pair needs the support images"):
        score_files([folder], by="pair")
    with pytest.raises(BenchError, match="unknown split in a file 'fake-4-3-3-v1'"):
        score_files([folder / "scores.npz"])
    other = fake_run(tmp_path / "other", episodes=4, seed=1)
    assert len(score_files([folder, other]).files) == 2
    forge(other)
    with pytest.raises(BenchError, match="stored different targets"):
        score_files([folder, other])

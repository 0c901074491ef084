"""Second runs that an entry rests on, and forged ones."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import pytest

from mlfsic_bench.evaluation.scores import read_scores, write_scores
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.leaderboard.entry import State, read_entry
from tests.fakes.world import Trained, fake_run
from tests.leaderboard.submitted import edit, ok, packed, wrong


def test_a_second_run_of_every_seed_makes_it_rerun_verified(runs, split_file, tmp_path) -> None:
    again = ("--rerun", runs["b0"], "--rerun", runs["b1"])
    path = packed(tmp_path, split_file, runs["a0"], runs["a1"], *again)
    assert read_entry(path).state is State.RERUN
    assert "2 second runs agree" in ok("check", tmp_path, "--split", split_file)


@pytest.mark.parametrize(
    ("again", "says"),
    [
        (["b0"], "second runs of seeds 0, where each of seeds 0, 1 needs one"),
        (["b0", "b0"], "second runs of seeds 0, 0"),
        (["a0", "a1"], "the same run twice"),
        (["b0", "other"], "its run key is that of none of the entry's runs"),
        (["b0", "file"], "of a run whose record is not there"),
        (["b0", "copy"], "the same run twice"),
        (["b0", "far"], "is not"),
    ],
)
def test_what_is_no_second_run_is_refused(again, says, runs, split_file, tmp_path) -> None:
    places = dict(runs)
    places["other"] = fake_run(tmp_path / "o", Trained, episodes=4, params={"scale": 9.0}, seed=1)
    places["file"] = runs["b1"] / "scores.npz"
    places["copy"] = shutil.copytree(runs["a1"], tmp_path / "copy")
    places["far"] = shutil.copytree(runs["b1"], tmp_path / "far")
    scores = read_scores(places["far"] / "scores.npz")
    write_scores(places["far"] / "scores.npz", replace(scores, scores=-scores.scores))
    digest = hash_file(places["far"] / "scores.npz")
    edit(places["far"] / "record.json", lambda r: r["outputs"].update({"scores.npz": digest}))
    words = [word for name in again for word in ("--rerun", places[name])]
    out = tmp_path / "out"
    text = wrong("pack", runs["a0"], runs["a1"], *words, "--split", split_file, "--out", out)
    assert says in text
    assert not out.exists()


def test_stored_targets_verify_no_second_run(runs, tmp_path) -> None:
    words = ("--rerun", runs["b0"], "--stored-targets", "--out", tmp_path / "out")
    assert "nothing is verified" in wrong("pack", runs["a0"], *words)


@pytest.mark.parametrize("forged", ["no record", "same files", "one of two"])
def test_a_forged_rerun_is_found(forged, runs, split_file, tmp_path) -> None:
    path = packed(tmp_path, split_file, runs["a0"], runs["a1"])

    def forge(value: Any) -> None:
        files = value["proof"]["files"]
        empty = dict.fromkeys(("record", "record_sha256", "run", "audit"))
        bare = [{**f, **empty} for f in files]
        reruns = {"no record": bare, "same files": files, "one of two": files[:1]}[forged]
        value["state"] = "rerun verified"
        value["proof"] = {"kind": "rerun verified", "files": files, "reruns": reruns}

    edit(path, forge)
    text = wrong("check", tmp_path, "--split", split_file)
    says = {
        "no record": "of a run whose record is not there",
        "same files": "the same run twice",
        "one of two": "where each of seeds 0, 1 needs one",
    }
    assert says[forged] in text

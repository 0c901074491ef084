"""Runs on part of the base images: no entries, found by what their files say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.scores import read_scores, write_scores
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.results.conditions import open_group
from tests.fakes.world import Trained, fake_run
from tests.leaderboard.submitted import bare, cut_run, edit, packed, wrong


def test_runs_on_part_of_the_base_images_are_no_entries(split_file, tmp_path) -> None:
    run, out = cut_run(tmp_path / "run", 40), tmp_path / "out"
    text = wrong("pack", run, "--split", split_file, "--out", out)
    assert "40 of 80 base images" in text
    assert "learning curve" in text
    card = tmp_path / "card.yaml"
    card.write_text("backbone: fake\nmade: 2026-10-01")
    words = ("--card", card, "--split", split_file, "--out", out)
    assert "40 of 80 base images" in wrong("pack", run / "scores.npz", *words)
    # as written before scores files said so
    scores = read_scores(run / "scores.npz")
    write_scores(tmp_path / "old.npz", bare(scores))
    assert "whose record is not there" in wrong("pack", tmp_path / "old.npz", *words)
    assert not out.exists()


def test_a_cut_run_of_a_subset_split_is_found_by_the_check(split_file, tmp_path) -> None:
    path = packed(tmp_path, split_file, fake_run(tmp_path / "full", Trained, episodes=4))
    cut = cut_run(tmp_path / "cut", 25)

    def swap(value: Any) -> None:
        file = value["proof"]["files"][0]
        for key, name in (("scores", "scores.npz"), ("answers", "targets.npz")):
            file[key] = f"cut/{name}"
            file[f"{key}_sha256"] = hash_file(cut / name)
        file.update(record="cut/record.json", record_sha256=hash_file(cut / "record.json"))
        file["run"] = read_record(cut).key

    edit(path, swap)
    assert "25 of 80 base images" in wrong("check", path, "--split", split_file)


def test_a_scores_file_says_on_how_many_base_images(tmp_path: Path) -> None:
    cut, full = cut_run(tmp_path / "cut", 40), fake_run(tmp_path / "full", Trained, episodes=4)
    meta = read_scores(cut / "scores.npz").meta
    assert (meta.base_images.used, meta.base_images.of) == (40, 80)
    whole = read_scores(full / "scores.npz").meta
    assert whole.base_images is None
    assert "base_images" not in whole.model_dump(mode="json")


def test_a_run_must_not_contradict_its_scores_file(tmp_path: Path) -> None:
    run = cut_run(tmp_path / "run", 40)
    scores = read_scores(run / "scores.npz")
    card = scores.meta.base_images.model_copy(update={"used": 41})
    for value, fine in ((None, True), (card, False)):
        meta = scores.meta.model_copy(update={"base_images": value})
        write_scores(run / "scores.npz", replace(scores, meta=meta))
        digest = hash_file(run / "scores.npz")
        edit(run / "record.json", lambda r, d=digest: r["outputs"].update({"scores.npz": d}))
        if fine:
            open_group([run])
        else:
            with pytest.raises(BenchError, match="do not belong together"):
                open_group([run])


def test_comparisons_tell_base_images_from_the_scores_file_alone(tmp_path: Path) -> None:
    cut, full = cut_run(tmp_path / "cut", 40), fake_run(tmp_path / "full", Trained, episodes=4)
    apart = open_group([cut / "scores.npz", full])
    assert apart.methods[0].name.startswith("fake-trained, base_images=40")
    assert any("40 of 80" in line for line in apart.differing)
    write_scores(tmp_path / "old.npz", bare(read_scores(cut / "scores.npz")))
    silent = open_group([tmp_path / "old.npz"])
    assert any("Base images are not stated" in line for line in silent.differing)

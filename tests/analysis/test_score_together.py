"""`score`: which files are seeds of one method, and which do not go together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlfsic_bench.analysis.score import WRITERS, score_files
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.parts import select_parts
from mlfsic_bench.evaluation.runner import execute
from mlfsic_bench.hashing import canonical_json
from mlfsic_bench.metrics.intervals import t_interval
from tests.analysis.foreign_scores import E, L, Q, foreign
from tests.fakes.world import Trained, fake_inputs, fake_run


def test_seeds_are_grouped(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [
        foreign(tmp_path / f"{seed}.npz", rng.normal(size=(E, Q, L)), method={"seed": seed})
        for seed in range(3)
    ]
    other = foreign(tmp_path / "o.npz", rng.normal(size=(E, Q, L)), method={"uses_words": True})
    report = score_files([*paths, other])
    assert [(group.method, group.seeds) for group in report.seeds] == [("mine", [0, 1, 2])]
    means = [file.metrics["macro_ap"].mean for file in report.files[:3]]
    mean, half = t_interval(means)
    assert report.seeds[0].metrics["macro_ap"].model_dump() == {"mean": mean, "seeds": half}
    assert "± seeds" in WRITERS["text"](report)
    assert score_files(paths[:1]).seeds == []


def test_seeds_are_runs_that_are_equal_but_for_the_seed(tmp_path: Path) -> None:
    folders = [fake_run(tmp_path / f"r{seed}", Trained, episodes=4, seed=seed) for seed in (0, 1)]
    worded = fake_run(tmp_path / "words", Trained, episodes=4, seed=2, embeddings=True)
    inputs = fake_inputs(Trained, episodes=4, seed=3)
    cut = replace(inputs, selection=select_parts(inputs.split, 40))
    few = execute(cut, tmp_path / "few")
    report = score_files([*folders, worded, few])
    assert len({canonical_json(f.method.model_dump(exclude={"seed"})) for f in report.files}) == 1
    assert [group.seeds for group in report.seeds] == [[0, 1]]
    made = "backbone fake (weights none, frozen, fp32)"
    for line in (
        f"r0: {made}, no label embeddings, all base images.",
        f"words: {made}, label embeddings fake-words (not used), all base images.",
        f"few: {made}, no label embeddings, 40 of 80 base images.",
    ):
        assert line in report.notes
    apart = [line for line in report.notes if "not taken together" in line]
    assert len(apart) == 2
    assert "words: None -> " in apart[0]
    assert "base_images: None -> 40" in apart[1]
    assert score_files([worded, few]).seeds == []


def test_files_without_a_record_are_seeds_by_what_they_state(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def one(seed: int, **changes: Any) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npz"
        return foreign(path, rng.normal(size=(E, Q, L)), method={"seed": seed}, **changes)

    cut = {"used": 200, "of": 3000}
    whole, part = [one(0), one(1)], [one(2, base_images=cut), one(3, base_images=cut)]
    report = score_files([*whole, *part])
    assert [group.seeds for group in report.seeds] == [[0, 1], [2, 3]]
    assert f"{part[0].name}: trained on 200 of 3,000 base images, as the file says." in report.notes
    lost = [one(seed, run=str(seed) * 64) for seed in (4, 5)]
    report = score_files(lost)
    assert report.seeds == []
    assert sum("without its folder" in line for line in report.notes) == 2


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    a = foreign(tmp_path / "a.npz")
    few = foreign(tmp_path / "few.npz", np.zeros((3, Q, L)))
    with pytest.raises(BenchError, match=r"few\.npz can't be compared with .*number of episodes"):
        score_files([a, few])
    with pytest.raises(BenchError, match=r"can't be compared with .* another split"):
        score_files([a, fake_run(tmp_path / "run", episodes=3)])
    (tmp_path / "copy.npz").write_bytes(a.read_bytes())
    with pytest.raises(BenchError, match=r"copy\.npz holds the same scores"):
        score_files([a, tmp_path / "copy.npz"])
    with pytest.raises(BenchError, match="nothing to compare"):
        score_files([])
    with pytest.raises(BenchError, match="unknown breakdown 'labels'") as caught:
        score_files([a], by="labels")
    assert "'label'" in caught.value.remedy

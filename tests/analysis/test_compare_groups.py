"""`compare`: what is one method, which pairs are one family, what is told of differences."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mlfsic_bench.analysis.compare import compare
from mlfsic_bench.embeddings.label_embeddings import make_label_embeddings
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.parts import select_parts
from mlfsic_bench.evaluation.runner import execute
from mlfsic_bench.metrics.intervals import holm
from tests.analysis.compared import EPISODES, values
from tests.fakes.world import Mean, Trained, fake_inputs, fake_run, fake_split


def test_against_one_is_a_smaller_family(
    compare_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = list(compare_folders.values())
    everything = compare(paths).metrics[0]
    for against in ("fake-trained", str(compare_folders["seed1"])):
        report = compare(paths, against=against)
        assert report.against == "fake-trained"
        pairs = report.metrics[0].pairs
        assert [p.b for p in pairs] == ["fake-trained"] * 2
        raw = [p.t_p for p in pairs]
        assert [p.t_holm for p in pairs] == pytest.approx(holm(raw))  # type: ignore[arg-type]
        whole = {frozenset((p.a, p.b)): p for p in everything.pairs}
        for pair in pairs:
            assert (pair.t_holm or 0) <= (whole[frozenset((pair.a, pair.b))].t_holm or 0) + 1e-15
    added = compare([compare_folders["seed0"]], against=str(compare_folders["mean"]))
    assert [(p.a, p.b) for p in added.metrics[0].pairs] == [("fake-trained", "fake-mean")]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fake-trained").mkdir()  # a folder that happens to have the name, and no run
    assert compare(paths, against="fake-trained").against == "fake-trained"
    with pytest.raises(BenchError, match="unknown reference") as error:
        compare(paths, against="fake-traned")
    assert "fake-trained" in error.value.remedy
    with pytest.raises(BenchError, match="fits 2 of the methods"):
        compare(paths, against="fake-mean")
    with pytest.raises(BenchError, match="unknown reference"):
        compare(paths, against="x" * 5000)


def test_seeds_can_be_kept_apart(compare_folders: dict[str, Path], tmp_path: Path) -> None:
    seeds = [compare_folders["seed0"], compare_folders["seed1"]]
    report = compare(seeds, seeds="each")
    assert [e.name for e in report.methods] == ["fake-trained (seed=0)", "fake-trained (seed=1)"]
    d = values(seeds[0]) - values(seeds[1])
    assert report.metrics[0].pairs[0].mean == pytest.approx(d.mean(), abs=1e-12)
    with pytest.raises(BenchError, match="needs two methods") as error:
        compare(seeds)
    assert "--seeds each" in error.value.remedy
    with pytest.raises(BenchError, match="needs two methods"):
        compare(seeds[:1])


def test_a_seed_twice_in_one_method(compare_folders: dict[str, Path], tmp_path: Path) -> None:
    again = shutil.copytree(compare_folders["mean"], tmp_path / "again")
    with pytest.raises(BenchError, match="same scores"):
        compare([compare_folders["mean"], again])
    other = tmp_path / "other"
    execute(replace(fake_inputs(Mean, episodes=EPISODES), preset="sharp"), other)
    # the same parameters under another preset's name are the same method
    with pytest.raises(BenchError, match="one training seed"):
        compare([compare_folders["mean"], other])
    report = compare([compare_folders["mean"], other], seeds="each")
    pair = report.metrics[0].pairs[0]
    assert (pair.mean, pair.ties, pair.t_p, pair.wilcoxon_p) == (0.0, EPISODES, 1.0, 1.0)
    assert any("differ in preset (none: " in note for note in report.notes)


def test_allowed_differences_are_told(compare_folders: dict[str, Path], tmp_path: Path) -> None:
    class Wordy(Mean):
        name = "wordy"
        needs_embeddings = True

    stored = fake_inputs(Trained, episodes=EPISODES, seed=0)
    card = stored.features
    assert card is not None
    deep = replace(stored, features=card.model_copy(update={"backbone": "deep"}))
    execute(deep, tmp_path / "deep")
    fewer = replace(stored, selection=select_parts(fake_split(), 40))
    execute(fewer, tmp_path / "fewer")
    one = fake_inputs(Wordy, episodes=EPISODES, embeddings=True)
    assert one.embeddings is not None
    words = make_label_embeddings(one.embeddings.labels, 2 * one.embeddings.vectors, "others")
    execute(one, tmp_path / "one")
    execute(replace(one, embeddings=words), tmp_path / "two")
    paths = [compare_folders["seed0"], *(tmp_path / n for n in ("deep", "fewer", "one", "two"))]
    report = compare(paths)
    names = [one.name for one in report.methods]
    assert names == [
        "fake-trained (backbone=fake)",
        "fake-trained (backbone=deep)",
        "fake-trained, base_images=40",
        "wordy (embeddings=fake-words)",
        "wordy (embeddings=others)",
    ]
    notes = "\n".join(report.notes)
    assert "They differ in backbone (fake: " in notes
    assert "deep: fake-trained (backbone=deep)" in notes
    assert "differ in embeddings (fake-words: wordy (embeddings=fake-words); others: wordy" in notes
    assert "Trained on 40 of 80 base images: fake-trained, base_images=40." in notes


def test_a_subset_and_a_part_of_the_episodes_are_marked(tmp_path: Path) -> None:
    split = fake_split(subset={"available_only": True})
    paths = [
        fake_run(tmp_path / name, method, episodes=6, count=4, split=split)
        for name, method in (("a", Mean), ("b", Trained))
    ]
    report = compare(paths)
    assert any(note.startswith("SUBSET") for note in report.notes)
    assert "Only the first 4 of 6 episodes were compared." in report.notes
    assert report.metrics[0].pairs[0].n == 4

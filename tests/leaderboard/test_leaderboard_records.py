"""What the record of a run says of an entry: not to be claimed otherwise, nor contradicted."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mlfsic_bench.evaluation.identity import run_key
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.runner import execute
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.leaderboard.build import contradictions, pretraining_of
from mlfsic_bench.leaderboard.entry import Pretraining, read_entry
from tests.fakes.world import Trained, fake_inputs, fake_split
from tests.leaderboard.submitted import edit, ok, packed, wrong

RESULTS = Path(__file__).resolve().parents[2] / "results"


# Records


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: v.update(backbone="resnet50"), "backbone: entry 'resnet50', scores 'fake'"),
        (lambda v: v["tracks"].update(pretraining="external images"), "tracks.pretraining"),
        (lambda v: v["tracks"].update(pretraining="not stated"), "tracks.pretraining"),
        (lambda v: v.update(metrics_version="metrics-v7"), "metrics_version: 'metrics-v7'"),
        (lambda v: v["dates"].update(made="2020-01-01"), "dates.made: entry '2020-01-01'"),
        (lambda v: v["proof"]["files"][0].update(record_sha256="0" * 64), "not the file the entry"),
        (lambda v: v["proof"]["files"][0].update(record_sha256=None), "given together"),
        (
            lambda v: v["proof"]["files"][0].update(
                record=None, record_sha256=None, run=None, audit=None
            ),
            "whose record is not there",
        ),
    ],
)
def test_what_the_record_says_can_not_be_claimed_otherwise(
    change, says, runs, split_file, tmp_path
) -> None:
    path = packed(tmp_path, split_file, runs["a0"])
    ok("check", path, "--split", split_file)
    edit(path, change)
    assert says in wrong("check", path, "--split", split_file)


def test_a_card_fills_in_but_does_not_overrule(runs, split_file, tmp_path) -> None:
    card = tmp_path / "card.yaml"
    place = ("--split", split_file, "--card", card)
    for line, name in (
        ("backbone: resnet50", "backbone"),
        ("made: 2020-01-01", "made"),
        ("pretraining: external images", "pretraining"),
    ):
        card.write_text(line)
        text = wrong("pack", runs["a0"], *place, "--out", tmp_path / "out")
        assert f"the card gives another `{name}`" in text
    card.write_text("backbone: fake\npretraining: base images only")
    ok("pack", runs["a0"], *place, "--out", tmp_path / "out")


def test_a_card_says_what_weights_of_a_file_have_seen(split_file, tmp_path) -> None:
    inputs = fake_inputs(Trained, episodes=4)
    features = inputs.features.model_copy(update={"weights": "mine.pt"})
    run = execute(replace(inputs, features=features), tmp_path / "run")
    path = packed(tmp_path / "a", split_file, run)
    assert read_entry(path).tracks.pretraining is Pretraining.UNKNOWN
    (tmp_path / "card.yaml").write_text("pretraining: external images")
    path = packed(tmp_path / "b", split_file, run, "--card", tmp_path / "card.yaml")
    assert read_entry(path).tracks.pretraining is Pretraining.EXTERNAL
    ok("check", path, "--split", split_file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r["features"].update(backbone="resnet50"), "identity.features.backbone"),
        (lambda r: r["features"].update(precision="bf16"), "identity.features.precision"),
        (lambda r: r["identity"].update(base_images=9), "key: "),
        (lambda r: r["identity"].update(words="0" * 64), "key: "),
        (lambda r: r.update(words={"name": "w", "hash": "0" * 64, "dimensions": 3}), "words"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(
    change, says, runs, split_file, tmp_path
) -> None:
    path = packed(tmp_path / "out", split_file, runs["a0"])
    run = shutil.copytree(runs["a0"], tmp_path / "run")
    edit(run / "record.json", change)
    assert says in wrong("pack", run, "--split", split_file, "--out", tmp_path / "b")
    file = read_entry(path).proof.files[0]
    place = tmp_path / "out" / file.record
    edit(place, change)
    edit(path, lambda v: v["proof"]["files"][0].update(record_sha256=hash_file(place)))
    assert says in wrong("check", path, "--split", split_file)


def test_records_of_earlier_code_agree_with_themselves() -> None:
    """A key is that of the record's own identity, whatever code is installed now."""
    records = [read_record(p.parent) for p in sorted(RESULTS.glob("measured/*/**/record.json"))]
    assert len(records) >= 6
    for record in records:
        assert list(contradictions(record)) == []
        assert record.key == run_key(record.identity)


# Pre-training


@pytest.mark.parametrize(
    ("dataset", "subset", "backbone", "weights", "track"),
    [
        ("scenes", False, "scenes-small", "default", Pretraining.EXTERNAL),
        ("scenes-20k", False, "scenes-small", "default", Pretraining.BASE),
        ("scenes-20k", False, "scenes-deep+scenes-patch", "default", Pretraining.BASE),
        ("scenes-20k", True, "scenes-small", "default", Pretraining.EXTERNAL),
        ("scenes-20k", False, "resnet50", "default", Pretraining.EXTERNAL),
        ("scenes-20k", False, "scenes-small+resnet50", "default", Pretraining.EXTERNAL),
        ("scenes", False, "scenes-small", "none", Pretraining.BASE),
        ("scenes", False, "scenes-small", "my.pt", Pretraining.UNKNOWN),
    ],
)
def test_what_networks_of_scenes_have_seen(dataset, subset, backbone, weights, track, runs) -> None:
    record = read_record(runs["a0"])
    split = record.split.model_copy(update={"dataset": dataset, "subset": subset})
    features = record.features.model_copy(update={"backbone": backbone, "weights": weights})
    said = record.model_copy(update={"split": split, "features": features})
    assert pretraining_of(said) is track


def test_only_the_large_split_holds_the_images_of_the_lesson() -> None:
    """The premise of the tracks: 6,000 base images, of which the small split has 3,000."""
    from mlfsic_bench.data.scenes import Scenes
    from mlfsic_bench.splits.resolve import resolve_split

    lesson = set(Scenes(base_images=6000, val_images=0, novel_images=0).annotations().image_ids)
    small = resolve_split("scenes-12-6-6-v1", data_root=None).base.image_ids
    large = resolve_split("scenes-12-6-6-20k-v1", data_root=None).base.image_ids
    assert len(lesson & set(small)) == 3000
    assert lesson <= set(large)


# Records that an entry can't be made of


@pytest.mark.parametrize(
    "started",
    ["99999-01-01T00:00:00+00:00", "2026-13-45T00:00:00+00:00", "2026-11-23", "yesterday", ""],
)
def test_b6_a_record_whose_start_is_no_time(started, runs, tmp_path: Path) -> None:
    run = shutil.copytree(runs["a0"], tmp_path / "run")
    edit(run / "record.json", lambda record: record.update(started=started))
    said = wrong("pack", run, "--stored-targets", "--out", tmp_path / "out")
    assert "started is not valid" in said
    assert "ISO 8601" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("split_id", ["../../x", "a b", "/x"])
def test_b6_a_split_id_that_is_no_part_of_a_path(split_id: str, tmp_path: Path) -> None:
    split = replace(fake_split(), id=split_id)
    run = execute(fake_inputs(Trained, split=split, episodes=4), tmp_path / "run")
    said = wrong("pack", run, "--stored-targets", "--out", tmp_path / "out")
    assert "the files of an entry: scores is not valid" in said
    assert not (tmp_path / "out").exists()

"""What an entry rests on: records, second runs, base images, rebuilt targets; and forged ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.harness.parts import select_parts
from mlfsic_bench.harness.plan import run_key
from mlfsic_bench.harness.record import read_record
from mlfsic_bench.harness.run import execute
from mlfsic_bench.harness.scores import (
    Answers,
    Scores,
    read_answers,
    read_scores,
    write_answers,
    write_scores,
)
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.report.entry_evidence import contradictions, pretraining_of
from mlfsic_bench.report.entry_files import parse_entry, read_entry
from mlfsic_bench.report.entry_kinds import IntervalKind, Pretraining, State
from mlfsic_bench.report.leaderboard import build_boards
from mlfsic_bench.report.leaderboard_text import STORED_NOTE, board_markdown
from mlfsic_bench.report.lineup import line_up
from tests.fakes.entries import entry, fake_file, fake_value
from tests.fakes.world import Trained, fake_inputs, fake_run, fake_split

RESULTS = Path(__file__).resolve().parents[2] / "results"


def submit(*words: object) -> Any:
    return CliRunner().invoke(cli, ["submit", *map(str, words)])


def ok(*words: object) -> str:
    done = submit(*words)
    assert done.exit_code == 0, done.output + str(done.exception)
    return str(done.output)


def wrong(*words: object) -> str:
    done = submit(*words)
    assert isinstance(done.exception, BenchError), done.output
    return str(done.exception)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def split_file(monkeypatch) -> Path:
    """What --split is given to rebuild targets: the fake split, which no file can hold."""
    from mlfsic_bench.splits import resolve

    def resolved(name: str, **_: object) -> Any:
        assert name == "the fake split"
        return fake_split()

    monkeypatch.setattr(resolve, "resolve_split", resolved)
    return Path("the fake split")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Seeds 0 and 1 of one method, and a second run of each that was started a day later."""
    top = tmp_path_factory.mktemp("runs")
    made = {}
    for name, seed in (("a0", 0), ("a1", 1), ("b0", 0), ("b1", 1)):
        made[name] = fake_run(top / name, Trained, episodes=4, seed=seed)
        if name.startswith("b"):
            edit(made[name] / "record.json", lambda r: r.update(started="2020-01-01T00:00:00Z"))
    return made


def cut_run(folder: Path, count: int) -> Path:
    inputs = fake_inputs(Trained, episodes=4)
    return execute(replace(inputs, selection=select_parts(inputs.split, count)), folder)


def packed(out: Path, split_file: Path, *words: object) -> Path:
    (line,) = ok("pack", *words, "--split", split_file, "--out", out).splitlines()
    return Path(line)


# Second runs


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
        (["b0", "file"], "need the records of both runs"),
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
    words = ("--rerun", runs["b0"], "--stored-answers", "--out", tmp_path / "out")
    assert "nothing is verified" in wrong("pack", runs["a0"], *words)


@pytest.mark.parametrize("forged", ["no record", "same files", "one of two"])
def test_a_forged_rerun_is_found(forged, runs, split_file, tmp_path) -> None:
    path = packed(tmp_path, split_file, runs["a0"], runs["a1"])

    def forge(value: Any) -> None:
        files = value["proof"]["files"]
        bare = [{**f, "record": None, "record_sha256": None, "run": None} for f in files]
        reruns = {"no record": bare, "same files": files, "one of two": files[:1]}[forged]
        value["state"] = "rerun verified"
        value["proof"] = {"kind": "rerun verified", "files": files, "reruns": reruns}

    edit(path, forge)
    text = wrong("check", tmp_path, "--split", split_file)
    told = {
        "no record": "of a run whose record is not there",
        "same files": "the same run twice",
        "one of two": "where each of seeds 0, 1 needs one",
    }
    assert told[forged] in text


# Records


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: v.update(backbone="resnet50"), "backbone: entry 'resnet50', record 'fake'"),
        (lambda v: v["tracks"].update(pretraining="external images"), "tracks.pretraining"),
        (lambda v: v["tracks"].update(pretraining="not stated"), "tracks.pretraining"),
        (lambda v: v.update(metrics_version="metrics-v7"), "metrics_version: entry 'metrics-v7'"),
        (lambda v: v["dates"].update(made="2020-01-01"), "dates.made: entry '2020-01-01'"),
        (lambda v: v["proof"]["files"][0].update(record_sha256="0" * 64), "not the file the entry"),
        (lambda v: v["proof"]["files"][0].update(record_sha256=None), "given together"),
        (
            lambda v: v["proof"]["files"][0].update(record=None, record_sha256=None, run=None),
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
        (lambda r: r["identity"].update(base_images=9), "record.key"),
        (lambda r: r["identity"].update(words="0" * 64), "record.key"),
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


# Part of the base images


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


def bare(scores: Scores) -> Scores:
    return replace(scores, meta=scores.meta.model_copy(update={"base_images": None}))


def test_a_cut_run_of_a_subset_split_is_found_by_the_check(split_file, tmp_path) -> None:
    path = packed(tmp_path, split_file, fake_run(tmp_path / "full", Trained, episodes=4))
    cut = cut_run(tmp_path / "cut", 25)

    def swap(value: Any) -> None:
        file = value["proof"]["files"][0]
        for name in ("scores", "answers"):
            file[name] = f"cut/{name}.npz"
            file[f"{name}_sha256"] = hash_file(cut / f"{name}.npz")
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
            line_up([run])
        else:
            with pytest.raises(BenchError, match="do not belong together"):
                line_up([run])


def test_comparisons_tell_base_images_from_the_scores_file_alone(tmp_path: Path) -> None:
    cut, full = cut_run(tmp_path / "cut", 40), fake_run(tmp_path / "full", Trained, episodes=4)
    apart = line_up([cut / "scores.npz", full])
    assert apart.entries[0].name.startswith("fake-trained, base_images=40")
    assert any("40 of 80" in line for line in apart.differing)
    write_scores(tmp_path / "old.npz", bare(read_scores(cut / "scores.npz")))
    silent = line_up([tmp_path / "old.npz"])
    assert any("Base images are not stated" in line for line in silent.differing)


# Stored targets


def test_stored_targets_are_a_state_of_their_own_and_never_ranked(
    runs, split_file, tmp_path
) -> None:
    run = shutil.copytree(runs["a0"], tmp_path / "run")
    scores, answers = read_scores(run / "scores.npz"), read_answers(run / "answers.npz")
    perfect = Answers((scores.scores > 0).astype("uint8"), answers.query, answers.meta)
    write_answers(run / "answers.npz", perfect)
    digest = hash_file(run / "answers.npz")
    edit(run / "record.json", lambda r: r["outputs"].update({"answers.npz": digest}))
    out = tmp_path / "out"
    (line,) = ok("pack", run, "--out", out, "--stored-answers").splitlines()
    forged = read_entry(Path(line))
    assert forged.state is State.STORED
    assert forged.figures["macro_ap"].value == pytest.approx(100.0)
    assert "targets STORED, not rebuilt" in ok("check", out)

    honest = read_entry(packed(tmp_path / "h", split_file, fake_run(tmp_path / "m", episodes=4)))
    (board,) = build_boards([forged, honest])
    assert [(row.entry.id, row.rank) for row in board.rows] == [(honest.id, 1), (forged.id, None)]
    assert board.interval is IntervalKind.IMAGES
    assert STORED_NOTE in board_markdown([board])
    assert STORED_NOTE not in board_markdown(build_boards([honest]))

    # and calling it verified does not help
    def claim(value: Any) -> None:
        value["state"] = value["proof"]["kind"] = "scores verified"

    edit(Path(line), claim)
    assert "not the targets of the split's episodes" in wrong("check", out, "--split", split_file)


def test_an_interval_over_images_is_not_claimed_on_stored_targets(runs, tmp_path) -> None:
    (line,) = ok("pack", runs["a0"], "--out", tmp_path, "--stored-answers").splitlines()

    def claim(value: Any) -> None:
        figure = value["figures"]["macro_ap"]
        figure["intervals"]["images"] = {"low": figure["value"], "high": figure["value"]}

    edit(Path(line), claim)
    assert "an interval over images" in wrong("check", tmp_path)


def test_stored_answers_confirm_no_verified_entry(runs, split_file, tmp_path) -> None:
    packed(tmp_path, split_file, runs["a0"])
    text = ok("check", tmp_path, "--stored-answers")
    assert "'scores verified' is NOT confirmed" in text
    assert text.endswith(
        "1 entry checked, 1 of them NOT confirmed: their targets were not rebuilt\n"
    )
    assert "NOT" not in ok("check", tmp_path, "--split", split_file)


def test_stored_targets_need_the_record_of_their_run() -> None:
    value = fake_value(state="scores stored")
    value["proof"] = {"kind": "scores stored", "files": [fake_file("x")]}
    with pytest.raises(BenchError, match="without the record"):
        parse_entry(value, "an entry")


def test_a_board_of_stored_targets_alone_has_no_ranks() -> None:
    record = {"record": "a/record.json", "record_sha256": "e" * 64, "run": "f" * 64}
    value = fake_value(state="scores stored", per_label=[])
    value["proof"] = {"kind": "scores stored", "files": [{**fake_file("x"), **record}]}
    for figure in value["figures"].values():
        del figure["intervals"]["images"]
    (board,) = build_boards([entry(value)])
    assert [row.rank for row in board.rows] == [None]
    assert board.interval is IntervalKind.EPISODES


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
    told = record.model_copy(update={"split": split, "features": features})
    assert pretraining_of(told) is track


def test_only_the_large_split_holds_the_images_of_the_lesson() -> None:
    """The premise of the tracks: 6,000 base images, of which the small split has 3,000."""
    from mlfsic_bench.data.scenes import Scenes
    from mlfsic_bench.splits.resolve import resolve_split

    lesson = set(Scenes(base_images=6000, val_images=0, novel_images=0).annotations().image_ids)
    small = resolve_split("scenes-12-6-6-v1", data_root=None).base.image_ids
    large = resolve_split("scenes-12-6-6-20k-v1", data_root=None).base.image_ids
    assert len(lesson & set(small)) == 3000
    assert lesson <= set(large)

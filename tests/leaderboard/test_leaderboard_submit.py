"""Submissions: packing runs and foreign files, and what a check finds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mlfsic_bench.episodes.files import find_episodes
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.meta import ScoresMeta
from mlfsic_bench.evaluation.scores import Scores, read_scores, write_scores
from mlfsic_bench.leaderboard.card import read_card
from mlfsic_bench.leaderboard.check import check_all
from mlfsic_bench.leaderboard.entry import IntervalKind, State, entry_files, read_entry
from mlfsic_bench.results.targets import SplitPlace
from mlfsic_bench.splits.resolve import resolve_split
from tests.fakes.entries import reported_value, write_values
from tests.fakes.world import Trained, fake_run
from tests.leaderboard.submitted import ok, submit, wrong

pytestmark = pytest.mark.slow

SPLIT = "scenes-12-6-6-v1"
CARD = "backbone: their-network\nmade: 2026-10-01\nname: Theirs\nauthors: [A. Person]\n"


RESULTS = Path(__file__).resolve().parents[2] / "results"
BOUNDS = {"low": 1.0, "high": 99.0}


@pytest.fixture(scope="module")
def scenes() -> tuple[Any, Any]:
    split = resolve_split(SPLIT, data_root=None)
    return split, find_episodes(None, split)


def foreign(scenes: tuple[Any, Any], path: Path, seed: int = 0, **method: Any) -> Path:
    """A scores file as somebody else's program may write it: 12 episodes of the shipped scenes."""
    split, episodes = scenes
    used = episodes.episodes[:12]
    targets = np.stack([split.novel.targets_of(episode.query) for episode in used])
    noise = np.random.default_rng(seed).normal(size=targets.shape)
    meta = {
        "schema_version": 1,
        "kind": "mlfsic-bench scores",
        "run": None,
        "split": {
            "id": SPLIT, "hash": split.hash, "dataset": "scenes", "rule": split.rule,
            "subset": False,
        },
        "episodes": {
            "protocol": episodes.protocol.id, "part": "novel", "hash": episodes.hash,
            "total": len(episodes.episodes), "count": len(used),
        },
        "labels": list(split.novel.labels),
        "method": {
            "name": "theirs", "seed": seed, "trains": True, "uses_words": True,
            "adapts_by_gradient": False, "parameters": {"depth": 3}, **method,
        },
    }  # fmt: skip
    scores = (targets + noise).astype(np.float32)
    write_scores(path, Scores(scores, None, ScoresMeta.model_validate(meta)))
    return path


def packed(scenes: tuple[Any, Any], tmp_path: Path, seeds: int = 1) -> Path:
    files = [foreign(scenes, tmp_path / f"s{i}.npz", i) for i in range(seeds)]
    card = tmp_path / "card.yaml"
    card.write_text(CARD)
    ok("pack", *files, "--card", card, "--out", tmp_path / "out")
    return tmp_path / "out" / "leaderboard" / SPLIT / "theirs-their-network.json"


def test_a_foreign_file_becomes_an_entry_that_checks(scenes, tmp_path: Path) -> None:
    path = packed(scenes, tmp_path)
    entry = read_entry(path)
    assert (entry.name, entry.authors, entry.state) == ("Theirs", ["A. Person"], State.SCORES)
    assert entry.tracks.words.value == "word vectors"
    assert entry.dates.made == "2026-10-01"
    assert entry.card.parameters == {"depth": 3}
    output = ok("check", tmp_path / "out")
    assert "9 values and 6 labels recomputed from 1 training seed\n" in output
    assert ok("check", path).endswith("1 entry checked\n")


def test_figures_are_those_of_scikit_learn(scenes, tmp_path: Path) -> None:
    split, episodes = scenes
    entry = read_entry(packed(scenes, tmp_path, seeds=2))
    per_label = []
    for i in range(2):
        scores = read_scores(tmp_path / f"s{i}.npz").scores
        for episode, s in zip(episodes.episodes[:12], scores, strict=True):
            y = split.novel.targets_of(episode.query)
            per_label.append([average_precision_score(y[:, j], s[:, j]) for j in range(6)])
    assert entry.figures["macro_ap"].value == pytest.approx(100 * np.mean(per_label), abs=1e-6)
    for one, column in zip(entry.per_label, np.transpose(per_label), strict=True):
        assert one.ap == pytest.approx(100 * column.mean(), abs=1e-6)
    assert set(entry.figures["macro_ap"].intervals) == set(IntervalKind)
    means = 100 * np.mean(per_label, axis=1).reshape(2, 12).mean(axis=1)
    seeds = entry.figures["macro_ap"].intervals[IntervalKind.SEEDS]
    # the 97.5 % point of Student's t with 1 degree of freedom
    assert seeds.high - seeds.low == pytest.approx(
        2 * 12.706205 * np.std(means, ddof=1) / 2**0.5, rel=1e-5
    )


def change(value: dict[str, Any], path: str, new: object) -> None:
    *steps, last = path.split(".")
    place: Any = value
    for step in steps:
        place = place[int(step)] if step.isdigit() else place[step]
    place[int(last) if last.isdigit() else last] = new


@pytest.mark.parametrize(
    ("path", "new", "says"),
    [
        ("figures.macro_ap", {"value": 99.0}, "figures.macro_ap.value: entry 99, scores "),
        ("figures.micro_f1.intervals.episodes", BOUNDS, "micro_f1.intervals.episodes.low: "),
        ("figures.micro_f1.intervals.images", BOUNDS, "micro_f1.intervals.images.low: "),
        ("figures.micro_f1.intervals", {}, "micro_f1.intervals.images: entry nothing"),
        ("per_label.2.ap", 1.0, "per_label."),
        ("per_label", [], ": entry nothing, scores {"),
        ("chance", {"macro_ap": {"low": 1.0, "high": 1.0}}, "chance.macro_ap.low: entry 1"),
        ("tracks.words", "no word vectors", "tracks.words: entry 'no word vectors'"),
        ("tracks.adaptation", "by gradient", "tracks.adaptation"),
        ("tracks.transductive", True, "tracks.transductive: entry True, scores nothing"),
        ("tracks.images", "subset", "tracks.images"),
        ("protocol.count", 200, "protocol.count: entry 200, scores 12"),
        ("split.hash", "0" * 64, "split.hash"),
        ("card.parameters", {"depth": 4}, "card.parameters"),
        ("proof.files.0.seed", 5, "seed: entry 5, scores 0"),
        ("proof.files.0.scores_sha256", "0" * 64, "is not the file the entry names"),
    ],
)  # fmt: skip
def test_any_mismatch_is_named(scenes, tmp_path: Path, path: str, new: object, says: str) -> None:
    file = packed(scenes, tmp_path)
    value = json.loads(file.read_text())
    change(value, path, new)
    file.write_text(json.dumps(value))
    assert says in wrong("check", tmp_path / "out")


def test_a_metric_may_be_absent_if_the_table_does_not_show_it(scenes, tmp_path: Path) -> None:
    file = packed(scenes, tmp_path)
    value = json.loads(file.read_text())
    del value["figures"]["f1_label_mean"]
    file.write_text(json.dumps(value))
    assert "8 values and 6 labels" in ok("check", file)
    del value["figures"]["micro_recall"]
    file.write_text(json.dumps(value))
    assert "figures.micro_recall: entry nothing" in wrong("check", file)


def test_runs_of_several_seeds_become_one_entry(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / f"r{i}", Trained, episodes=3, seed=i) for i in range(2)]
    other = fake_run(tmp_path / "other", episodes=3)
    output = ok("pack", *runs, other, "--out", tmp_path / "out", "--stored-targets").splitlines()
    assert len(output) == 2
    entry = read_entry(Path(output[0]))
    assert entry.training_seeds == 2
    assert IntervalKind.IMAGES not in entry.figures["macro_ap"].intervals
    checked = ok("check", tmp_path / "out", "--stored-targets")
    assert "from 2 training seeds; targets STORED" in checked
    assert entry.state is State.STORED
    assert ok("check", tmp_path / "out").endswith("2 entries checked\n")
    # packed again, nothing changes
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    ok("pack", *runs, other, "--out", tmp_path / "out", "--stored-targets")
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before


def test_runs_in_the_results_folder_stay_where_they_are(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "measured" / "mine", episodes=3)
    path = ok("pack", run, "--out", tmp_path, "--stored-targets").splitlines()[0]
    entry = read_entry(Path(path))
    assert entry.proof.files[0].scores == "measured/mine/scores.npz"
    assert not (tmp_path / "scores").exists()
    assert entry.proof.files[0].answers is None
    assert "targets STORED" in ok("check", tmp_path)


def test_nothing_is_packed_that_can_not_be(scenes, tmp_path: Path) -> None:
    file, out = foreign(scenes, tmp_path / "s.npz"), tmp_path / "out"
    card = tmp_path / "card.yaml"
    card.write_text(CARD)
    assert "`made` (a day) and `backbone`" in wrong("pack", file, "--out", out)
    assert "nothing to pack" in wrong("pack", "--out", out)
    assert "the same training seed" in wrong("pack", file, file, "--card", card, "--out", out)
    other = foreign(scenes, tmp_path / "o.npz", name="another")
    assert "belong to one entry" in wrong("pack", file, other, "--card", card, "--out", out)
    assert "no stored targets" in wrong(
        "pack", file, "--card", card, "--out", out, "--stored-targets"
    )
    (tmp_path / "x.npz").write_bytes(b"no archive")
    assert "x.npz is not a readable scores file" in wrong("pack", tmp_path / "x.npz", "--out", out)
    assert not out.exists()


def test_an_id_is_not_taken_over(scenes, tmp_path: Path) -> None:
    packed(scenes, tmp_path)
    other = foreign(scenes, tmp_path / "o.npz", name="another")
    card = tmp_path / "card.yaml"
    card.write_text(CARD + "id: theirs-their-network\n")
    assert "another entry has the name" in wrong(
        "pack", other, "--card", card, "--out", tmp_path / "out"
    )


def test_options_say_where_split_and_episodes_are(scenes, tmp_path: Path) -> None:
    file = packed(scenes, tmp_path)
    for option, value in (
        ("--split", tmp_path / "none.json"),
        ("--episodes-file", tmp_path / "none.json"),
    ):
        assert "none.json" in wrong("check", file, option, value)


def test_options_reach_the_split(scenes, tmp_path: Path, monkeypatch) -> None:
    from mlfsic_bench.leaderboard import pack
    from mlfsic_bench.results.targets import rebuild_targets

    places = []

    def spy(meta, place, subset):
        places.append(place)
        return rebuild_targets(meta, SplitPlace(), subset)

    file = packed(scenes, tmp_path)
    monkeypatch.setattr(pack, "rebuild_targets", spy)
    ok("check", file, "--data-root", tmp_path)
    words = ("--card", tmp_path / "card.yaml", "--data-root", tmp_path)
    ok("pack", tmp_path / "s0.npz", *words, "--out", tmp_path / "b")
    assert places == [SplitPlace(data_root=tmp_path)] * 2


def test_published_rows_are_packed_and_checked(tmp_path: Path) -> None:
    assert len(ok("pack", "--published", "--out", tmp_path).splitlines()) == 16
    output = ok("check", tmp_path)
    assert "8 values as in published/yan-2022-table1.json" in output
    path = next((tmp_path / "leaderboard").rglob("yan-2022-table2-pla.json"))
    value = json.loads(path.read_text())
    change(value, "figures.macro_ap.value", 57.29)
    path.write_text(json.dumps(value))
    assert "figures.macro_ap.value: entry 57.29, table 47.29" in wrong("check", path)
    change(value, "proof.row", "No such row")
    path.write_text(json.dumps(value))
    assert "no published table has its source" in wrong("check", path)


def test_a_reported_entry_of_another_work_can_not_be_recomputed(tmp_path: Path) -> None:
    write_values([reported_value()], tmp_path)
    assert "reported; nothing to compute it from" in ok("check", tmp_path)


@pytest.mark.skipif("MLFSIC_DATA" in os.environ, reason="compared with the data itself, below")
def test_the_entries_in_the_repository_are_those_of_their_scores() -> None:
    output = ok("check", RESULTS, "--stored-targets")
    assert output.count("recomputed from") >= 6
    assert output.count("values as in published/") == 16


@pytest.mark.skipif("MLFSIC_DATA" not in os.environ, reason="MLFSIC_DATA names no data root")
def test_the_entries_in_the_repository_are_those_of_the_data() -> None:
    # one of eight, and all that are named by older pages; `submit check results` checks all
    entries = [path for path in entry_files(RESULTS) if "reality-check" not in path.name]
    entries += sorted(set(entry_files(RESULTS)) - set(entries))[::8]
    checked = list(check_all(entries, SplitPlace()))
    assert sum("recomputed from" in one.finding for one in checked) >= 20
    assert all(one.confirmed for one in checked)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nmae: x", "did you mean 'name'?"),
        ("name: [x]", "name: one line of at most 120 characters, such as My method"),
        ("links: [{title: x, url: 'javascript:alert(1)'}]", "begin with https://"),
        ("name: x\nname: y", "stands twice"),
        ("a: &a [x]\nb: *a", "aliases"),
        ("!!python/object/apply:os.system ['true']", "tags"),
        ("name: \x00", "not a readable submission card"),
        ("- x", "is not valid"),
        ("[" * 5000, "not a readable submission card"),
        ("made: 2026-13-99", "made: a day of the calendar, such as 2026-11-23"),
        ("name: .nan", "name is not valid"),
        ("x" * 300_000, "more than 65536 bytes"),
    ],
    ids=lambda value: value[:12].encode("ascii", "replace").decode().replace("\n", " "),
)
def test_cards_that_do_not_fit(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(text)
    with pytest.raises(BenchError) as error:
        read_card(path)
    assert says in str(error.value)


def test_a_card_says_all_that_is_wrong_at_once(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text("nmae: Mine\nauthors: A. Person\nmade: yesterday\nbackbone: resnet50\n")
    with pytest.raises(BenchError) as error:
        read_card(path)
    said = str(error.value)
    assert "3 keys of the card" in error.value.what
    for text in (
        "nmae: no such key; did you mean 'name'?",
        "authors: a list of names, such as [A. Person, B. Person]",
        "authors: 'A. Person'",
        "made: a day of the calendar, such as 2026-11-23",
    ):
        assert text in said
    assert "valid array" not in said


def test_a_card_is_written_from_a_run_and_taken_as_it_is(tmp_path: Path) -> None:
    run, path = fake_run(tmp_path / "run", Trained, episodes=3), tmp_path / "card.yaml"
    text = ok("card", run)
    for said in ("method: fake-trained", "fake 4/3/3", "backbone: fake", "training seeds: 0"):
        assert f"#   {said}" in text or said in text
    assert 'name: "fake-trained"' in text
    assert "# authors: [A. Person, B. Person]" in text
    assert "\nbackbone:" not in text  # the record says it
    ok("card", run, "--out", path)
    assert path.read_text() == text
    assert read_card(path).name == "fake-trained"
    words = ("pack", run, "--card", path, "--out", tmp_path / "out", "--stored-targets")
    out = submit(*words).output
    assert "open a pull request with these files" in out
    assert "seed-0/scores.npz" in out


def test_a_card_of_foreign_scores_asks_for_what_they_do_not_say(scenes, tmp_path: Path) -> None:
    file = foreign(scenes, tmp_path / "s.npz", citation="A work: of 'quotes'\u202e # and signs")
    path = tmp_path / "card.yaml"
    path.write_text(ok("card", file))
    card = read_card(path)  # sound, with nothing where something is needed
    assert card.citation == "A work: of 'quotes'\ufffd # and signs"
    words = ("pack", file, "--card", path, "--out", tmp_path / "out")
    assert "no made and no backbone" in wrong(*words)
    text = path.read_text().replace("made:  #", "made: 2026-10-01 #")
    path.write_text(text.replace("backbone:  #", "backbone: theirs #"))
    ok(*words)


def test_a_card_is_yaml_or_json(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: x\nmade: 2026-10-01\npretraining: base images only\n")
    (tmp_path / "a.json").write_text(
        '{"name": "x", "made": "2026-10-01", "pretraining": "base images only"}'
    )
    assert read_card(tmp_path / "a.yaml") == read_card(tmp_path / "a.json")
    with pytest.raises(BenchError, match="not a readable"):
        read_card(tmp_path)

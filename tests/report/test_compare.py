"""`compare`: figures against the runs', grouping, families, every refusal, every option."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from click.testing import CliRunner, Result

from mlfsic_bench.cli.main import cli
from mlfsic_bench.episodes.files import shipped_episode_set
from mlfsic_bench.errors import BenchError
from mlfsic_bench.harness.parts import select_parts
from mlfsic_bench.harness.run import execute
from mlfsic_bench.harness.scores import Scores, read_scores, write_scores
from mlfsic_bench.metrics.image_interval import episode_images, image_interval
from mlfsic_bench.metrics.influence import query_influence
from mlfsic_bench.metrics.paired import holm
from mlfsic_bench.report import lineup
from mlfsic_bench.report.compare import compare
from mlfsic_bench.report.compare_render import RENDERERS
from mlfsic_bench.report.lineup import line_up
from mlfsic_bench.report.runs import read_run
from mlfsic_bench.report.truth import SplitPlace, stored_truth
from mlfsic_bench.splits.resolve import resolve_split
from mlfsic_bench.words.vectors import make_label_vectors
from tests.fakes.world import Mean, Trained, fake_inputs, fake_run, fake_split

EPISODES = 9


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A method with two training seeds, and another with two settings."""
    top = tmp_path_factory.mktemp("compare")
    return {
        "seed1": fake_run(top / "seed1", Trained, episodes=EPISODES, seed=1),
        "seed0": fake_run(top / "seed0", Trained, episodes=EPISODES, seed=0),
        "mean": fake_run(top / "mean", Mean, episodes=EPISODES),
        "sharp": fake_run(top / "sharp", Mean, episodes=EPISODES, params={"scale": -3.0}),
    }


def values(folder: Path, metric: str = "macro_ap") -> np.ndarray:
    return read_run(folder).values((metric,))[metric]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_every_figure_is_that_of_the_runs(folders: dict[str, Path]) -> None:
    report = compare(list(folders.values()), metrics=["macro_ap", "micro_f1"])
    names = ["fake-trained", "fake-mean (scale=4.0)", "fake-mean (scale=-3.0)"]
    assert [entry.name for entry in report.entries] == names
    assert report.entries[0].seeds == [0, 1]
    assert report.entries[0].files == ["seed0", "seed1"]
    truth = stored_truth(read_run(folders["mean"]))
    images = episode_images(truth.query, None, truth.drawn_for)
    for made in report.metrics:
        each = {
            names[0]: (values(folders["seed0"], made.metric)
                       + values(folders["seed1"], made.metric)) / 2,
            names[1]: values(folders["mean"], made.metric),
            names[2]: values(folders["sharp"], made.metric),
        }  # fmt: skip
        effect = {}
        for name, keys in zip(names, (["seed0", "seed1"], ["mean"], ["sharp"]), strict=True):
            scores = [read_scores(folders[key] / "scores.npz").scores for key in keys]
            effect[name] = np.mean(
                [query_influence(s, truth.targets, names=[made.metric])[made.metric]
                 for s in scores], axis=0)  # fmt: skip
        ranks = np.mean([scipy.stats.rankdata([-each[n][e] for n in names])
                         for e in range(EPISODES)], axis=0)  # fmt: skip
        for standing, rank in zip(made.entries, ranks, strict=True):
            assert standing.mean == pytest.approx(each[standing.name].mean())
            assert standing.rank == pytest.approx(rank)
        assert [(p.a, p.b) for p in made.pairs] == list(combinations(names, 2))
        for pair in made.pairs:
            d = each[pair.a] - each[pair.b]
            test = scipy.stats.ttest_rel(each[pair.a], each[pair.b])
            low, high = test.confidence_interval(0.95)
            assert pair.mean == pytest.approx(d.mean())
            assert pair.episodes == pytest.approx((high - low) / 2)
            assert pair.t_p == pytest.approx(test.pvalue)
            assert (pair.n, pair.wins + pair.ties + pair.losses) == (EPISODES, EPISODES)
            assert pair.wins == (d > 1e-12).sum()
            assert pair.losses == (d < -1e-12).sum()
            wide = image_interval(d, effect[pair.a] - effect[pair.b], images).half_width
            assert pair.images == pytest.approx(wide)
        raw = [pair.t_p for pair in made.pairs]
        assert [pair.t_holm for pair in made.pairs] == pytest.approx(holm(raw))  # type: ignore[arg-type]
        raw = [pair.wilcoxon_p for pair in made.pairs]
        assert [p.wilcoxon_holm for p in made.pairs] == pytest.approx(holm(raw))  # type: ignore[arg-type]
    assert any("mean over training seeds 0, 1" in note for note in report.notes)


def test_the_order_of_files_turns_signs_only(folders: dict[str, Path]) -> None:
    one = compare([folders["mean"], folders["seed0"]]).metrics[0].pairs[0]
    two = compare([folders["seed0"], folders["mean"]]).metrics[0].pairs[0]
    assert (one.a, one.b) == (two.b, two.a)
    assert one.mean == -(two.mean or 0)
    assert (one.wins, one.ties, one.losses) == (two.losses, two.ties, two.wins)
    for name in ("episodes", "images", "t_p", "t_holm", "wilcoxon_p", "wilcoxon_holm"):
        assert getattr(one, name) == pytest.approx(getattr(two, name), abs=1e-12)


def test_against_one_is_a_smaller_family(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = list(folders.values())
    everything = compare(paths).metrics[0]
    for against in ("fake-trained", str(folders["seed1"])):
        report = compare(paths, against=against)
        assert report.against == "fake-trained"
        pairs = report.metrics[0].pairs
        assert [p.b for p in pairs] == ["fake-trained"] * 2
        raw = [p.t_p for p in pairs]
        assert [p.t_holm for p in pairs] == pytest.approx(holm(raw))  # type: ignore[arg-type]
        whole = {frozenset((p.a, p.b)): p for p in everything.pairs}
        for pair in pairs:
            assert (pair.t_holm or 0) <= (whole[frozenset((pair.a, pair.b))].t_holm or 0) + 1e-15
    added = compare([folders["seed0"]], against=str(folders["mean"]))
    assert [(p.a, p.b) for p in added.metrics[0].pairs] == [("fake-trained", "fake-mean")]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fake-trained").mkdir()  # a folder that happens to have the name, and no run
    assert compare(paths, against="fake-trained").against == "fake-trained"
    with pytest.raises(BenchError, match="unknown reference") as error:
        compare(paths, against="fake-traned")
    assert "fake-trained" in error.value.remedy
    with pytest.raises(BenchError, match="fits 2 of the entries"):
        compare(paths, against="fake-mean")
    with pytest.raises(BenchError, match="unknown reference"):
        compare(paths, against="x" * 5000)


def test_seeds_can_be_kept_apart(folders: dict[str, Path], tmp_path: Path) -> None:
    seeds = [folders["seed0"], folders["seed1"]]
    report = compare(seeds, seeds_apart=True)
    assert [e.name for e in report.entries] == ["fake-trained (seed=0)", "fake-trained (seed=1)"]
    d = values(seeds[0]) - values(seeds[1])
    assert report.metrics[0].pairs[0].mean == pytest.approx(d.mean(), abs=1e-12)
    with pytest.raises(BenchError, match="needs two methods") as error:
        compare(seeds)
    assert "--seeds-apart" in error.value.remedy
    with pytest.raises(BenchError, match="needs two methods"):
        compare(seeds[:1])


def test_a_seed_twice_in_one_method(folders: dict[str, Path], tmp_path: Path) -> None:
    again = shutil.copytree(folders["mean"], tmp_path / "again")
    with pytest.raises(BenchError, match="same scores"):
        compare([folders["mean"], again])
    other = tmp_path / "other"
    execute(replace(fake_inputs(Mean, episodes=EPISODES), preset="sharp"), other)
    # the same parameters under another preset's name are the same method
    with pytest.raises(BenchError, match="one training seed"):
        compare([folders["mean"], other])
    report = compare([folders["mean"], other], seeds_apart=True)
    pair = report.metrics[0].pairs[0]
    assert (pair.mean, pair.ties, pair.t_p, pair.wilcoxon_p) == (0.0, EPISODES, 1.0, 1.0)
    assert any("differ in preset (none: " in note for note in report.notes)


def changed(folder: Path, out: Path, **changes: object) -> Path:
    """The scores of a run as a file that states something else."""
    scores = read_scores(folder / "scores.npz")
    meta = scores.meta.model_dump(mode="json")
    array = scores.scores
    for key, value in changes.items():
        place, name = key.split("__") if "__" in key else ("", key)
        (meta[place] if place else meta)[name] = value
        if key == "episodes__count":
            array = array[:value]  # type: ignore[misc]
    new = Scores(array, None, scores.meta.model_validate_json(json.dumps(meta)))
    write_scores(out, new)
    return out


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"split__id": "other-v1"}, "another split"),
        ({"split__rule": "strict"}, "another split"),
        ({"split__subset": True}, "another share of the split's images"),
        ({"split__hash": "a" * 64}, "another content of the split"),
        ({"episodes__protocol": "laso_k_shot-v1"}, "another protocol"),
        ({"episodes__shots": 5}, "another protocol"),
        ({"episodes__hash": "a" * 64}, "another set of episodes"),
        ({"episodes__total": 50}, "another set of episodes"),
        ({"episodes__count": 5}, "another number of episodes"),
        ({"labels": ["jay", "ibis", "hen"]}, "another list of labels"),
    ],
)
def test_what_can_not_be_compared_says_why(
    folders: dict[str, Path], tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    other = changed(folders["mean"], tmp_path / "other.npz", **changes)
    with pytest.raises(BenchError, match=reason) as error:
        compare([folders["seed0"], other])
    assert error.value.found != error.value.expected
    result = run("compare", folders["seed0"], other)
    assert result.exit_code != 0
    assert result.exception is not None


def test_names_that_are_not_there(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="unknown metric"):
        compare([folders["mean"], folders["seed0"]], metrics=["macro_pa"])
    with pytest.raises(BenchError):
        compare([folders["mean"], tmp_path / "none"])
    with pytest.raises(BenchError, match="nothing to compare"):
        line_up([])


def test_allowed_differences_are_told(folders: dict[str, Path], tmp_path: Path) -> None:
    class Wordy(Mean):
        name = "wordy"
        needs_words = True

    stored = fake_inputs(Trained, episodes=EPISODES, seed=0)
    card = stored.features
    assert card is not None
    deep = replace(stored, features=card.model_copy(update={"backbone": "deep"}))
    execute(deep, tmp_path / "deep")
    fewer = replace(stored, selection=select_parts(fake_split(), 40))
    execute(fewer, tmp_path / "fewer")
    one = fake_inputs(Wordy, episodes=EPISODES, words=True)
    assert one.words is not None
    words = make_label_vectors(one.words.labels, 2 * one.words.vectors, "others")
    execute(one, tmp_path / "one")
    execute(replace(one, words=words), tmp_path / "two")
    paths = [folders["seed0"], *(tmp_path / n for n in ("deep", "fewer", "one", "two"))]
    report = compare(paths)
    names = [entry.name for entry in report.entries]
    assert names == [
        "fake-trained (backbone=fake)",
        "fake-trained (backbone=deep)",
        "fake-trained, base_images=40",
        "wordy (words=fake-words)",
        "wordy (words=others)",
    ]
    notes = "\n".join(report.notes)
    assert "They differ in backbone (fake: " in notes
    assert "deep: fake-trained (backbone=deep)" in notes
    assert "differ in words (fake-words: wordy (words=fake-words); others: wordy" in notes
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


def test_scores_files_are_compared_with_answers_made_anew(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    one = changed(folders["mean"], tmp_path / "one.npz", run=None)
    two = changed(folders["seed0"], tmp_path / "two.npz", run=None)
    with pytest.raises(BenchError, match="ships"):
        compare([one, two])
    split = resolve_split("scenes-12-6-6-v1", data_root=None)
    episodes = shipped_episode_set(split, "novel")
    assert episodes is not None
    targets = np.stack([split.novel.targets_of(e.query) for e in episodes.episodes[:6]])
    meta = read_scores(one).meta
    card = {"id": split.id, "hash": split.hash, "dataset": split.dataset, "rule": split.rule}
    set_card = {"hash": episodes.hash, "total": len(episodes.episodes), "count": 6}
    files = []
    for i, name in enumerate(("good", "poor")):
        rng = np.random.default_rng(i)
        scores = (1 - i) * targets + rng.normal(0, 0.5, targets.shape)
        about = meta.model_copy(
            update={
                "labels": list(split.novel.labels),
                "split": meta.split.model_copy(update=card),
                "episodes": meta.episodes.model_copy(update=set_card),
                "method": meta.method.model_copy(update={"name": name}),
            }
        )
        files.append(tmp_path / f"{name}.npz")
        write_scores(files[-1], Scores(scores.astype(np.float32), None, about))
    report = compare(files)
    assert (report.targets, report.image_intervals) == ("rebuilt", "query and support images")
    assert report.metrics[0].pairs[0].wins == 6


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ([], SplitPlace()),
        (["--split", "s"], SplitPlace(split="s")),
        (["--data-root", "d"], SplitPlace(data_root=Path("d"))),
        (["--available-only"], SplitPlace(available_only=True)),
        (["--min-pool", "3"], SplitPlace(min_pool=3)),
        (["--episodes-file", "e"], SplitPlace(episodes_file=Path("e"))),
    ],
)
def test_where_split_and_episodes_are_is_handed_on(
    folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    place: SplitPlace,
) -> None:
    asked = []

    def truth_of(sources: list[object], where: SplitPlace) -> object:
        asked.append(where)
        return stored_truth(read_run(folders["mean"]))

    monkeypatch.setattr(lineup, "truth_of", truth_of)
    assert run("compare", folders["mean"], folders["seed0"], *arguments).exit_code == 0
    assert asked == [place]


def test_the_command_line(folders: dict[str, Path], tmp_path: Path) -> None:
    paths = list(folders.values())
    plain = run("compare", *paths)
    assert plain.exit_code == 0, plain.output
    assert max(len(line) for line in plain.output.splitlines()[:9]) <= 80
    assert plain.output == RENDERERS["terminal"](compare(paths))
    for form in RENDERERS:
        out = tmp_path / f"report.{form}"
        assert run("compare", *paths, "--format", form, "--out", out).output == ""
        assert out.read_text() == RENDERERS[form](compare(paths))
    apart = run("compare", *paths, "--seeds-apart")
    assert "fake-trained (seed=1)" in apart.output
    one = json.loads(run("compare", *paths, "--against", "fake-trained", "--metric", "micro_ap",
                         "--metric", "macro_f1", "--format", "json").output)  # fmt: skip
    assert one["against"] == "fake-trained"
    assert [metric["metric"] for metric in one["metrics"]] == ["micro_ap", "macro_f1"]
    assert all(len(metric["pairs"]) == 2 for metric in one["metrics"])
    picture = tmp_path / "difference.svg"
    assert run("compare", *paths, "--plot", picture).exit_code == 0
    assert "<svg" in picture.read_text()
    bad = run("compare", *paths, "--plot", tmp_path / "difference.gif", "--out", tmp_path / "no")
    assert isinstance(bad.exception, BenchError)
    assert not (tmp_path / "no").exists()
    assert not (tmp_path / "difference.gif").exists()


def test_csv_and_markdown_hold_the_figures(folders: dict[str, Path]) -> None:
    report = compare(list(folders.values()))
    rows = list(csv.DictReader(io.StringIO(RENDERERS["csv"](report))))
    assert len(rows) == 6
    for row, standing in zip(rows[:3], report.metrics[0].entries, strict=True):
        assert (row["a"], row["b"]) == (standing.name, "")
        assert float(row["mean"]) == 100 * (standing.mean or 0)
        assert float(row["rank"]) == standing.rank
    for row, pair in zip(rows[3:], report.metrics[0].pairs, strict=True):
        assert (row["a"], row["b"]) == (pair.a, pair.b)
        assert float(row["mean"]) == 100 * (pair.mean or 0)
        assert float(row["wilcoxon_holm"]) == pair.wilcoxon_holm
        assert [int(row[n]) for n in ("n", "wins", "ties", "losses")] == [
            pair.n, pair.wins, pair.ties, pair.losses]  # fmt: skip
    text = RENDERERS["markdown"](report)
    pair = report.metrics[0].pairs[0]
    assert f"{pair.wins}/{pair.ties}/{pair.losses}" in text
    assert f"{100 * (pair.mean or 0):+.2f}" in text
    assert r"fake-mean (scale=4.0)" in text


def test_hostile_names_stay_data(folders: dict[str, Path], tmp_path: Path) -> None:
    report = compare(list(folders.values()))
    name = "=x|<b>\x1b[31m\u202e$_a$[link](u)\n"
    text = report.model_dump_json().replace("fake-trained", json.dumps(name)[1:-1])
    hostile = type(report).model_validate_json(text)
    terminal = RENDERERS["terminal"](hostile)
    assert "\x1b" not in terminal
    assert "\u202e" not in terminal
    markdown = RENDERERS["markdown"](hostile)
    assert "<b>" not in markdown
    assert "[link](u)" not in markdown
    rows = list(csv.reader(io.StringIO(RENDERERS["csv"](hostile))))
    assert len({len(row) for row in rows}) == 1
    assert rows[1][1].startswith("'=")


def test_where_other_images_may_undo_a_difference(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlfsic_bench.report import compare as module

    monkeypatch.setattr(module, "holm", lambda p: [0.01 for _ in p])
    real = module.image_interval
    width = 0.0

    def interval(*arguments: object) -> object:
        return replace(real(*arguments), half_width=width)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "image_interval", interval)
    paths = [folders["mean"], folders["seed0"]]
    assert not any("may vanish" in note for note in compare(paths).notes)
    width = 1.0
    notes = compare(paths).notes
    assert any("may vanish for: fake-mean against fake-trained" in note for note in notes)

"""`compare`: values against the runs', whatever the order, and in every format."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from mlfsic_bench.analysis.compare import WRITERS, compare
from mlfsic_bench.evaluation.scores import read_scores
from mlfsic_bench.metrics.intervals import episode_images, holm, image_interval
from mlfsic_bench.metrics.registry import query_influence
from tests.analysis.compared import EPISODES, targets_in, values


def test_every_value_is_that_of_the_runs(compare_folders: dict[str, Path]) -> None:
    report = compare(list(compare_folders.values()), metrics=["macro_ap", "micro_f1"])
    names = ["fake-trained", "fake-mean (scale=4.0)", "fake-mean (scale=-3.0)"]
    assert [one.name for one in report.methods] == names
    assert report.methods[0].seeds == [0, 1]
    assert report.methods[0].files == ["seed0", "seed1"]
    targets = targets_in(compare_folders["mean"])
    images = episode_images(targets.query, None, targets.drawn_for)
    for made in report.metrics:
        each = {
            names[0]: (values(compare_folders["seed0"], made.metric)
                       + values(compare_folders["seed1"], made.metric)) / 2,
            names[1]: values(compare_folders["mean"], made.metric),
            names[2]: values(compare_folders["sharp"], made.metric),
        }  # fmt: skip
        effect = {}
        for name, keys in zip(names, (["seed0", "seed1"], ["mean"], ["sharp"]), strict=True):
            scores = [read_scores(compare_folders[key] / "scores.npz").scores for key in keys]
            effect[name] = np.mean(
                [query_influence(s, targets.targets, names=[made.metric])[made.metric]
                 for s in scores], axis=0)  # fmt: skip
        ranks = np.mean([scipy.stats.rankdata([-each[n][e] for n in names])
                         for e in range(EPISODES)], axis=0)  # fmt: skip
        for standing, rank in zip(made.methods, ranks, strict=True):
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


def test_the_order_of_files_turns_signs_only(compare_folders: dict[str, Path]) -> None:
    one = compare([compare_folders["mean"], compare_folders["seed0"]]).metrics[0].pairs[0]
    two = compare([compare_folders["seed0"], compare_folders["mean"]]).metrics[0].pairs[0]
    assert (one.a, one.b) == (two.b, two.a)
    assert one.mean == pytest.approx(-(two.mean or 0))
    assert (one.wins, one.ties, one.losses) == (two.losses, two.ties, two.wins)
    for name in ("episodes", "images", "t_p", "t_holm", "wilcoxon_p", "wilcoxon_holm"):
        assert getattr(one, name) == pytest.approx(getattr(two, name), abs=1e-12)


def test_csv_and_markdown_hold_the_values(compare_folders: dict[str, Path]) -> None:
    report = compare(list(compare_folders.values()))
    rows = list(csv.DictReader(io.StringIO(WRITERS["csv"](report))))
    assert len(rows) == 6
    for row, standing in zip(rows[:3], report.metrics[0].methods, strict=True):
        assert (row["a"], row["b"]) == (standing.name, "")
        assert float(row["mean"]) == pytest.approx(100 * (standing.mean or 0))
        assert float(row["rank"]) == pytest.approx(standing.rank)
    for row, pair in zip(rows[3:], report.metrics[0].pairs, strict=True):
        assert (row["a"], row["b"]) == (pair.a, pair.b)
        assert float(row["mean"]) == pytest.approx(100 * (pair.mean or 0))
        assert float(row["wilcoxon_holm"]) == pytest.approx(pair.wilcoxon_holm)
        assert [int(row[n]) for n in ("n", "wins", "ties", "losses")] == [
            pair.n, pair.wins, pair.ties, pair.losses]  # fmt: skip
    text = WRITERS["markdown"](report)
    pair = report.metrics[0].pairs[0]
    assert f"{pair.wins}/{pair.ties}/{pair.losses}" in text
    assert f"{100 * (pair.mean or 0):+.2f}" in text
    assert r"fake-mean (scale=4.0)" in text


def test_hostile_names_stay_data(compare_folders: dict[str, Path], tmp_path: Path) -> None:
    report = compare(list(compare_folders.values()))
    name = "=x|<b>\x1b[31m\u202e$_a$[link](u)\n"
    text = report.model_dump_json().replace("fake-trained", json.dumps(name)[1:-1])
    hostile = type(report).model_validate_json(text)
    terminal = WRITERS["text"](hostile)
    assert "\x1b" not in terminal
    assert "\u202e" not in terminal
    markdown = WRITERS["markdown"](hostile)
    assert "<b>" not in markdown
    assert "[link](u)" not in markdown
    rows = list(csv.reader(io.StringIO(WRITERS["csv"](hostile))))
    assert len({len(row) for row in rows}) == 1
    assert rows[1][1].startswith("'=")


def test_where_other_images_may_undo_a_difference(
    compare_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlfsic_bench.analysis import compare as module

    monkeypatch.setattr(module, "holm", lambda p: [0.01 for _ in p])
    real = module.image_interval
    width = 0.0

    def interval(*arguments: object) -> object:
        return replace(real(*arguments), half_width=width)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "image_interval", interval)
    paths = [compare_folders["mean"], compare_folders["seed0"]]
    assert not any("may vanish" in note for note in compare(paths).notes)
    width = 1.0
    notes = compare(paths).notes
    assert any("may vanish for: fake-mean against fake-trained" in note for note in notes)

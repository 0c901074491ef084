"""The table for a paper: its values, groups, seeds, intervals, order, marks and refusals."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from mlfsic_bench.analysis.compare import compare
from mlfsic_bench.analysis.curve import curve
from mlfsic_bench.analysis.paper_table import (
    WRITERS,
    PaperTable,
    Row,
    Value,
    _column,
    as_text,
    paper_tables,
)
from mlfsic_bench.analysis.score import score_files
from mlfsic_bench.embeddings.label_embeddings import make_label_embeddings
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.meta import EmbeddingsMeta
from mlfsic_bench.evaluation.runner import execute
from mlfsic_bench.metrics.intervals import episode_images
from mlfsic_bench.metrics.registry import columns
from mlfsic_bench.results.conditions import without_hashes
from mlfsic_bench.results.published import published_names, read_published
from mlfsic_bench.results.result import open_result
from tests.analysis.compared import EPISODES, run, targets_in, values
from tests.analysis.test_curve import run_of
from tests.fakes.world import Mean, Trained, fake_inputs, fake_run, fake_split

Folders = dict[str, Path]


def table_of(*paths: Path, **options: object) -> PaperTable:
    (table,), left_out = paper_tables(paths, **options)  # type: ignore[arg-type]
    assert left_out == []
    return table


def cells(table: PaperTable, metric: str) -> list[Value]:
    return [row.values[table.columns.index(metric)] for row in table.rows]


def test_the_same_run_has_the_same_values_in_every_command(
    compare_folders: Folders, tmp_path: Path
) -> None:
    one, two = compare_folders["mean"], compare_folders["sharp"]
    scored = score_files([one]).files[0].metrics
    compared = compare([one, two], metrics=columns())
    tabled = table_of(one, two)
    for metric, made in zip(columns(), compared.metrics, strict=True):
        cell, score = cells(tabled, metric)[0], scored[metric]
        assert (made.metric, made.methods[0].mean) == (metric, score.mean)
        assert cell.mean == pytest.approx(100 * (score.mean or 0), abs=1e-12)
        assert cell.half_width == pytest.approx(100 * (score.images or 0), abs=1e-12)
        assert made.methods[0].images == pytest.approx(score.images, abs=1e-15)
    episodes = cells(table_of(one, interval="episodes"), "macro_ap")[0]
    assert episodes.half_width == pytest.approx(100 * (scored["macro_ap"].episodes or 0))
    point = run_of(tmp_path / "point", 40)
    drawn = curve([open_result(point)]).lines[0].points[0]
    cell = cells(table_of(point, interval="episodes"), "macro_ap")[0]
    assert drawn.mean("macro_ap") == pytest.approx(cell.mean)
    assert drawn.half_width["macro_ap"] == pytest.approx(cell.half_width)


def test_values_are_those_of_the_scores(compare_folders: Folders) -> None:
    folder = compare_folders["mean"]
    s, y = open_result(folder).scores.scores, targets_in(folder).targets
    each = [
        np.mean([average_precision_score(y[e, :, i], s[e, :, i]) for i in range(3)])
        for e in range(EPISODES)
    ]
    cell = cells(table_of(folder, interval="episodes"), "macro_ap")[0]
    assert cell.mean == pytest.approx(100 * np.mean(each), abs=1e-9)
    assert cell.half_width == pytest.approx(
        100 * stats.t.ppf(0.975, EPISODES - 1) * np.std(each, ddof=1) / np.sqrt(EPISODES)
    )


def test_seeds_are_averaged_or_kept(compare_folders: Folders, tmp_path: Path) -> None:
    seeds = [compare_folders["seed1"], compare_folders["seed0"]]
    each = [100 * values(folder).mean() for folder in seeds]
    table = table_of(*seeds)
    assert [(row.name, row.seeds) for row in table.rows] == [("fake-trained", (0, 1))]
    assert cells(table, "macro_ap")[0].mean == pytest.approx(np.mean(each))
    assert "Methods that train: means over 2 training seeds." in table.caption
    apart = table_of(*seeds, seeds="each")
    assert [row.name for row in apart.rows] == ["fake-trained (seed=1)", "fake-trained (seed=0)"]
    assert [cell.mean for cell in cells(apart, "macro_ap")] == pytest.approx(each)
    over = table_of(*seeds, compare_folders["mean"], interval="seeds")
    found = [cell.half_width for cell in cells(over, "macro_ap")]
    assert found[0] == pytest.approx(stats.t.ppf(0.975, 1) * np.std(each, ddof=1) / np.sqrt(2))
    assert found[1] is None
    # the same parameters under another preset's name are the same method
    again = execute(replace(fake_inputs(Mean, episodes=EPISODES), preset="sharp"), tmp_path / "x")
    with pytest.raises(BenchError, match="one training seed"):
        table_of(compare_folders["mean"], again)


def test_intervals_columns_and_order(compare_folders: Folders) -> None:
    paths = [compare_folders[name] for name in ("seed0", "mean", "sharp")]
    plain = table_of(*paths, interval="none", columns=("macro_ap", "f1_label_mean"))
    assert plain.columns == ("macro_ap", "f1_label_mean")
    assert all(value.half_width is None for row in plain.rows for value in row.values)
    assert not any("interval over" in line for line in plain.caption)
    means = {row.name: row.values[0].mean for row in plain.rows}
    assert list(means) == ["fake-trained", "fake-mean (scale=4.0)", "fake-mean (scale=-3.0)"]
    by_name = table_of(*paths, order="name")
    assert [row.name for row in by_name.rows] == sorted(means)
    by_metric = table_of(*paths, order="macro_ap", columns=("micro_ap",))
    assert [row.name for row in by_metric.rows] == sorted(means, key=lambda n: -(means[n] or 0))
    for options in ({"interval": "image"}, {"columns": ("macro_pa",)}, {"order": "best"}):
        with pytest.raises(BenchError, match="unknown"):
            table_of(*paths, **options)


def test_best_and_ties_are_those_of_a_transcription() -> None:
    """Three methods in four episodes, by hand: b is best, c ties with it, a does not."""
    b = np.array([0.50, 0.60, 0.70, 0.80])
    c = b - np.array([0.05, -0.05, 0.05, -0.04])
    a = b - np.array([0.20, 0.21, 0.20, 0.19])
    for other, tie in ((a, False), (c, True)):
        d = (b - other).tolist()
        mean = sum(d) / 4
        spread = (sum((x - mean) ** 2 for x in d) / 3) ** 0.5
        half = 3.182446 * spread / 2  # the 97.5 % point of Student's t with 3 degrees of freedom
        assert (mean <= half) is tie

    class Group:
        methods = (None,) * 3
        images = episode_images(np.array([[f"{e}"] for e in range(4)]), None, None)

    nothing = [np.zeros((4, 1))] * 3
    for interval in ("episodes", "images", "none"):
        found = _column(Group(), [a, b, c], nothing, [(0,)] * 3, interval, "macro_ap")  # type: ignore[arg-type]
        assert [value.mean for value in found] == pytest.approx([45.0, 65.0, 64.75])
        assert [value.best for value in found] == [False, True, False]
        assert [value.tie for value in found] == [False, False, True]
    alone = _column(Group(), [a], nothing[:1], [(0,)], "none", "macro_ap")  # type: ignore[arg-type]
    assert not alone[0].best


def test_marks_are_said_in_each_form() -> None:
    row = (Value(60.0, 1.0, best=True), Value(59.0, 1.0, tie=True))
    table = PaperTable("T", ("macro_ap", "micro_ap"), (Row("a", row), Row("b", row)), ())
    texts = {form: write([table], ["x is left out"]) for form, write in WRITERS.items()}
    assert "60.00*" in texts["text"]
    assert "59.00~" in texts["text"]
    assert "| **60.00 ± 1.00** | 59.00 ± 1.00 ~ |" in texts["markdown"]
    assert r"\textbf{60.00}" in texts["latex"]
    assert r"\underline{59.00}" in texts["latex"]
    for form, sign in (("text", "*: the"), ("markdown", "Bold: the"), ("latex", "Bold: the")):
        assert f"{sign} best of its column" in " ".join(texts[form].split()), form
    assert all("x is left out" in texts[form] for form in WRITERS if form != "csv")
    value = json.loads(texts["json"])["tables"][0]["rows"][0]["values"]
    assert value["macro_ap"] == {"mean": 60.0, "half_width": 1.0, "best": True, "tie": False}


def test_runs_of_two_splits_have_a_table_each(tmp_path: Path) -> None:
    runs = [
        fake_run(tmp_path / "a", Trained, episodes=3),
        fake_run(tmp_path / "b", Mean, split=fake_split(novel=9), episodes=3),
        fake_run(tmp_path / "c", Mean, episodes=3),
        fake_run(tmp_path / "d", Mean, episodes=3, count=2),
    ]
    tables, _ = paper_tables(runs)
    assert [[row.name for row in table.rows] for table in tables] == [
        ["fake-trained", "fake-mean"], ["fake-mean"], ["fake-mean"],
    ]  # fmt: skip
    assert "the first 2 of 3 episodes" in tables[2].title
    assert "Only the first 2 of 3 episodes were run." in tables[2].caption
    text = run("table", *runs).output
    assert all(table.title.split(",")[0] in text for table in tables)
    rows = list(csv.DictReader(io.StringIO(run("table", *runs, "--format", "csv").output)))
    assert len(rows) == 4
    assert len({row["caption"] for row in rows}) == 3


def test_unfinished_runs_are_left_out_with_a_line(compare_folders: Folders, tmp_path: Path) -> None:
    torn = shutil.copytree(compare_folders["mean"], tmp_path / "torn")
    record = json.loads((torn / "record.json").read_text())
    (torn / "record.json").write_text(json.dumps(record | {"status": "cancelled"}))
    tables, left_out = paper_tables([torn, compare_folders["sharp"]])
    assert [row.name for row in tables[0].rows] == ["fake-mean"]
    assert left_out == [f"{torn} is left out: its run is not finished (status cancelled)."]
    shown = run("table", torn, compare_folders["sharp"])
    assert shown.exit_code == 0
    assert "is left out" in " ".join(shown.output.split())
    with pytest.raises(BenchError, match="no finished run"):
        paper_tables([torn])


def test_published_rows_stand_beside(
    compare_folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = compare_folders["mean"]
    with pytest.raises(BenchError, match="no published numbers"):
        table_of(folder, published=True)
    shown = read_published(next(iter(published_names())))
    monkeypatch.setattr("mlfsic_bench.analysis.paper_table.published_for", lambda *args: shown)
    table = table_of(folder, published=True)
    rows = [row for row in table.rows if row.published]
    assert [row.name for row in rows] == [row.name for row in shown.rows]
    assert not any(value.best or value.tie for row in rows for value in row.values)
    assert any("not comparable as they stand" in line for line in table.caption)
    assert "published" in run("table", folder, "--published").output
    assert "published" not in run("table", folder).output


def test_rows_say_where_features_and_embeddings_differ(tmp_path: Path) -> None:
    class Wordy(Mean):
        name = "wordy"
        needs_embeddings = True

    stored = fake_inputs(episodes=3)
    features = stored.features
    assert features is not None

    def with_features(**changes: str) -> object:
        return replace(stored, features=features.model_copy(update=changes))

    words = fake_inputs(Wordy, episodes=3, embeddings=True)
    assert words.embeddings is not None
    other = make_label_embeddings(
        words.embeddings.labels, 2 * words.embeddings.vectors, "other-words"
    )
    inputs = {
        "a": stored,
        "b": with_features(mode="end-to-end"),
        "c": with_features(weights_hash="1" * 64),
        "d": words,
        "e": replace(words, embeddings=other),
    }
    runs = {name: execute(one, tmp_path / name) for name, one in inputs.items()}  # type: ignore[arg-type]
    notes = [row.notes for row in table_of(*(runs[name] for name in "abc")).rows]
    assert notes == [
        ("none 00000000", "frozen"),
        ("none 00000000", "trained end to end"),
        ("none 11111111", "frozen"),
    ]
    assert table_of(runs["a"]).rows[0].notes == ()
    notes = [row.notes for row in table_of(*(runs[name] for name in "ade")).rows]
    assert notes == [(), ("fake-words",), ("other-words",)]
    shown = WRITERS["markdown"]([table_of(runs["d"], runs["e"])], [])
    assert "| wordy (embeddings=other-words) |" in shown.replace("\\", "")


def test_embeddings_are_named_by_template_and_by_hash_only_where_names_are_equal() -> None:
    made = {"name": "text side of clip", "hash": "1" * 64, "dimensions": 4}
    one = EmbeddingsMeta(**made, templates=["a {}."]).title
    assert (one, EmbeddingsMeta(**made).title) == ('text side of clip, "a {}."', made["name"])
    assert EmbeddingsMeta(**made, templates=["a {}.", "the {}."]).title.endswith(", 2 templates")
    rows = [
        {"embeddings": n, "embeddings hash": h} for n, h in (("x", "1"), ("y", "2"), ("y", "3"))
    ]
    assert without_hashes(list(rows[0]), rows[:2]) == ["embeddings"]
    assert without_hashes(list(rows[0]), rows) == ["embeddings", "embeddings hash"]


def test_what_is_not_whole_is_marked(compare_folders: Folders, tmp_path: Path) -> None:
    line = "fake-mean not at its defaults: scale=-3.0."
    assert line in table_of(compare_folders["sharp"]).caption
    assert not any("defaults" in line for line in table_of(compare_folders["mean"]).caption)
    split = fake_split({"available_only": True})
    part = table_of(fake_run(tmp_path / "run", split=split, episodes=9, count=2))
    assert "the first 2 of 9 episodes, part of the images" in part.title
    for form, write in WRITERS.items():
        text = " ".join(write([part], []).split())
        assert "SUBSET" in text, form
        assert "first 2 of 9 episodes" in text, form


def test_files_that_are_not_the_runs_are_refused(tmp_path: Path) -> None:
    a, b = fake_run(tmp_path / "a", episodes=3), fake_run(tmp_path / "b", episodes=3, seed=1)
    with pytest.raises(BenchError, match="holds the same scores"):
        table_of(a, a)
    (a / "scores.npz").write_bytes((b / "scores.npz").read_bytes())
    with pytest.raises(BenchError, match="not the file this run wrote"):
        table_of(a)
    (b / "targets.npz").unlink()
    with pytest.raises(BenchError, match="no such file"):
        table_of(b)
    with pytest.raises(BenchError, match="none"):
        table_of(tmp_path / "none")


HOSTILE = "a|b_*`<script>&%$#{}\\\\[x](y)\x1b[31m\n[red]"


def test_hostile_names_stay_text() -> None:
    row = Row("=cmd()" + HOSTILE, (Value(1.0, None),) * 8)
    texts = {
        form: write([PaperTable(HOSTILE, columns(), (row,), (HOSTILE,))], [])
        for form, write in WRITERS.items()
    }
    markdown = next(line for line in texts["markdown"].splitlines() if "cmd" in line)
    assert len(re.findall(r"(?<!\\)\|", markdown)) == 10
    assert "<script" not in texts["markdown"]
    latex = [line for line in texts["latex"].splitlines() if line.startswith("{}")]
    assert len(re.findall(r"(?<!\\)&", latex[0])) == 8
    assert not re.search(r"(?<!\\)[%#_]", latex[0])
    assert "\x1b" not in texts["text"]
    assert "[red]" in texts["text"]
    rows = list(csv.reader(io.StringIO(texts["csv"])))
    assert len(rows) == 2
    assert rows[1][1] == "'=cmd()" + HOSTILE.replace("\x1b", "�").replace("\n", "�")


def test_the_text_fits_in_80_columns_and_cuts_no_value(
    compare_folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = as_text([table_of(compare_folders["mean"], compare_folders["seed0"])])
    assert all(len(line) <= 80 for line in text.splitlines())
    line = next(line for line in text.splitlines() if line.startswith("fake-mean"))
    assert len(re.findall(r"\d\.\d\d", line)) == 8
    row = Row("name", (Value(100.0, 10.25, best=True),) * 8)
    for width in ("20", "80"):
        monkeypatch.setenv("COLUMNS", width)
        text = as_text([PaperTable("", columns(), (row,), ())])
        assert text.count("100.00") == text.count("±10.25") == 8

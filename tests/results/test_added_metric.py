"""One object in the registry is enough: the metric is then in every table and on the board."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.experiments.render import head
from mlfsic_bench.experiments.schema import Experiment
from mlfsic_bench.experiments.table import values_of
from mlfsic_bench.leaderboard.board import build_boards
from mlfsic_bench.leaderboard.build import compute_values
from mlfsic_bench.leaderboard.check import differ
from mlfsic_bench.leaderboard.page import board_html
from mlfsic_bench.leaderboard.text import board_csv, board_latex, board_markdown
from mlfsic_bench.metrics.metric import Episodes, Float64, Metric
from mlfsic_bench.metrics.registry import METRICS, episode_metrics, query_influence
from mlfsic_bench.results.published import PublishedRow
from mlfsic_bench.results.result import open_result
from tests.analysis.compared import run, targets_in
from tests.analysis.test_curve import run_of
from tests.fakes.entries import entry, fake_figure, fake_value
from tests.fakes.world import Mean, Trained, fake_run
from tools.views import view

ROOT = Path(__file__).resolve().parents[2]
NAME = "top_label"


def right_at_the_top(episodes: Episodes) -> Float64:
    """The share of the queries with a label whose highest score is at one of their labels."""
    top = episodes.scores.argmax(axis=2)
    right = np.take_along_axis(episodes.targets, top[:, :, None], axis=2)[:, :, 0].sum(axis=1)
    count = episodes.targets.any(axis=2).sum(axis=1)
    return np.divide(right, count, out=np.full(len(count), np.nan), where=count > 0)


@pytest.fixture(autouse=True)
def _added(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ("share of right highest scores", "1/Q sum y[q, argmax s]", "NaN", "a loop", "a work")
    monkeypatch.setitem(METRICS, NAME, Metric(NAME, "", "HIT", *texts, right_at_the_top))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs made before the metric was added."""
    top = tmp_path_factory.mktemp("runs")
    return [fake_run(top / m.name, m, episodes=4) for m in (Mean, Trained)]


def by_hand(scores: np.ndarray, targets: np.ndarray) -> float:
    each = [y[s.argmax()] for s, y in zip(scores, targets, strict=True) if y.any()]
    return float(np.mean(each)) if each else float("nan")


def mean_of(folder: Path) -> str:
    """The mean over the episodes of a run, in per cent."""
    made = open_result(folder)
    each = zip(made.scores.scores, targets_in(folder).targets, strict=True)
    return f"{100 * np.mean([by_hand(s, y) for s, y in each]):.2f}"


def test_its_influence_follows_from_its_values() -> None:
    rng = np.random.default_rng(0)
    s, y = rng.normal(size=(5, 6, 3)), rng.random((5, 6, 3)) < 0.3
    y[0] = False
    y[1], y[1, 2] = False, True  # only one query has a label
    values, found = episode_metrics(s, y)[NAME], query_influence(s, y)[NAME]
    assert (found.dtype, found.shape) == (np.float64, (5, 6))
    for e in range(5):
        whole = by_hand(s[e], y[e])
        np.testing.assert_allclose(values[e], whole, rtol=0, atol=1e-15)
        for q in range(6):
            rest = by_hand(np.delete(s[e], q, 0), np.delete(y[e], q, 0))
            np.testing.assert_allclose(found[e, q], whole - rest, rtol=0, atol=1e-15)
    assert np.isnan(found[0]).all()
    assert np.isnan(found[1]).tolist() == [False, False, True, False, False, False]
    assert np.isnan(query_influence(s[:, :1], y[:, :1], names=[NAME])[NAME]).all()


@pytest.mark.parametrize("name", ["macro_ap", "macro_f1", "micro_recall"])
def test_a_form_of_its_own_gives_what_the_plain_way_gives(name: str) -> None:
    rng = np.random.default_rng(1)
    s, y = np.round(rng.normal(size=(4, 9, 3)), 1), rng.random((4, 9, 3)) < 0.4
    y[0, :, 1] = False
    own = METRICS[name]
    plain = Metric(NAME, "", "", "", "", "", "", "", own.compute)
    both = [metric.influence(Episodes(s, y)) for metric in (own, plain)]
    np.testing.assert_allclose(*both, rtol=0, atol=1e-12)


def test_score_table_compare_and_curve_know_it(runs: list[Path], tmp_path: Path) -> None:
    assert NAME in read_record(fake_run(tmp_path / "new", episodes=3)).metrics
    lines = run("score", runs[0]).output.splitlines()
    words = next(line.split() for line in lines if NAME in line)
    assert words[:2] == [NAME, mean_of(runs[0])]
    assert [word[0] for word in words[2:]] == ["±", "±"]
    for form, column in (
        ("markdown", "| HIT |"), ("latex", "& HIT"), ("csv", f",{NAME},"), ("text", " HIT"),
    ):  # fmt: skip
        text = run("table", *runs, "--format", form).output
        assert column in text, form
        assert mean_of(runs[0])[:4] in text, form
    latex = run("table", *runs, "--format", "latex").output
    assert r"\multicolumn{4}{c}{Macro} & \\" in latex
    assert latex.count(r"\cmidrule") == 2
    picture = tmp_path / "difference.svg"
    compared = run("compare", *runs, "--metric", NAME, "--plot", picture)
    assert compared.exit_code == 0, compared.output
    assert NAME in compared.output
    assert "top label" in picture.read_text("utf-8")
    points = [run_of(tmp_path / str(n), n) for n in (40, None)]
    curve = run("curve", *points, "--metric", NAME, "--plot", tmp_path / "c.svg",
                "--format", "markdown").output  # fmt: skip
    assert curve.startswith("| Method | Base images | Used | Labels | Seeds | top label | seeds |")
    assert mean_of(points[0]) in curve
    assert NAME in run("curve", *points, "--metric", NAME, "--format", "csv").output


def test_the_board_knows_it_and_older_entries_may_lack_it(runs: list[Path]) -> None:
    old, new = fake_value("old", macro_ap=41.0), fake_value("new")
    before = build_boards([entry(old)])
    assert "HIT" not in board_markdown(before) + board_latex(before) + board_html(before)
    new["figures"][NAME] = fake_figure(12.34)
    boards = build_boards([entry(old), entry(new)])
    for text in (board_markdown(boards), board_latex(boards), board_html(boards)):
        assert "HIT" in text
        assert "12.34" in text
    assert f",{NAME},12.34," in board_csv(boards)
    values, _ = compute_values([open_result(runs[0])], targets_in(runs[0]))
    assert f"{values[NAME].value:.2f}" == mean_of(runs[0])
    del old["figures"]["micro_f1"]
    made = entry(new).model_copy(update={"figures": values})
    lines = {e["id"]: differ(entry(e), made, "scores", values_only=True) for e in (old, new)}
    assert not [line for line in lines["old"] if NAME in line]
    assert any(line.startswith("figures.micro_f1: entry nothing") for line in lines["old"])
    assert any(line.startswith(f"figures.{NAME}.value: entry 12.34") for line in lines["new"])


def test_published_numbers_experiments_archives_and_the_page_know_it(runs: list[Path]) -> None:
    assert PublishedRow(name="A", backbone="b", values={NAME: 3.0}).values[NAME] == 3.0
    rows = [{"name": "A", "method": "random"}]
    plan = {"schema_version": 1, "kind": "table", "title": "T", "columns": [NAME], "rows": rows}
    assert [head(name) for name in Experiment.model_validate(plan).columns] == ["HIT"]
    measured = values_of([open_result(runs[0])], [NAME], targets_in(runs[0]))
    assert f"{100 * measured.values.mean():.2f}" == mean_of(runs[0])
    page = view(ROOT, "mlfsic_bench/metrics/registry.py", {}, ROOT / "docs")
    assert f"| `{NAME}` | share of right highest scores |" in page

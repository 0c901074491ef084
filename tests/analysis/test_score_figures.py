"""`score`: every figure against a script of its own, and in every format."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats
from sklearn import metrics as sk

from mlfsic_bench.analysis.score import ScoreReport, score_files
from mlfsic_bench.cli.main import cli
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.scores import read_scores
from mlfsic_bench.metrics.intervals import episode_images, image_interval
from mlfsic_bench.metrics.registry import METRICS, query_influence
from tests.analysis.foreign_scores import DRAWN, LABELS, SPLIT, E, Q, foreign, given, run, truth


def script(s: np.ndarray, y: np.ndarray, d: np.ndarray) -> dict[str, list[float]]:
    """All metrics of every episode by scikit-learn, in the order of the definitions."""
    rows: dict[str, list[float]] = {name: [] for name in METRICS}
    for s_e, y_e, d_e in zip(s, y, d, strict=True):
        p, r, f, _ = sk.precision_recall_fscore_support(y_e, d_e, average=None, zero_division=0)
        mp, mr, mf, _ = sk.precision_recall_fscore_support(
            y_e, d_e, average="micro", zero_division=0
        )
        P, R = p.mean(), r.mean()
        rows["micro_precision"].append(mp)
        rows["micro_recall"].append(mr)
        rows["micro_f1"].append(mf)
        rows["micro_ap"].append(sk.average_precision_score(y_e, s_e, average="micro"))
        rows["macro_precision"].append(P)
        rows["macro_recall"].append(R)
        rows["macro_f1"].append(2 * P * R / (P + R) if P + R else 0.0)
        rows["macro_ap"].append(sk.average_precision_score(y_e, s_e, average="macro"))
        rows["f1_label_mean"].append(f.mean())
    return rows


@pytest.mark.parametrize(
    "kind",
    ["random", "tied", "constant", "all negative", "the targets", "own decisions",
     "nothing decided"],
)  # fmt: skip
def test_every_cell_agrees_with_a_script_of_its_own(kind: str, tmp_path: Path) -> None:
    s, d = given(kind)
    report = score_files([foreign(tmp_path / "a.npz", s, decisions=d)])
    found = report.files[0].metrics
    for name, values in script(s, truth(), s > 0 if d is None else d).items():
        assert found[name].mean == pytest.approx(np.mean(values), abs=1e-10), name
        t = stats.t.ppf(0.975, E - 1) * np.std(values, ddof=1) / np.sqrt(E)
        assert found[name].episodes == pytest.approx(t, abs=1e-10), name
        assert found[name].images >= found[name].episodes - 1e-15, name
    assert list(found) == list(METRICS)


def test_the_scores_of_a_run_agree_too(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = ["--split", SPLIT["id"], "--backbone", "scenes-small", "--episodes", str(E)]
    CliRunner().invoke(
        cli, ["run", "random", *options, "--out", str(folder)], catch_exceptions=False
    )
    report = score_files([folder])
    s = read_scores(folder / "scores.npz").scores
    for name, values in script(s, truth(), s > 0).items():
        assert report.files[0].metrics[name].mean == pytest.approx(np.mean(values), abs=1e-10)
        kept = read_record(folder).metrics[name]
        assert report.files[0].metrics[name].mean == pytest.approx(kept.mean, abs=1e-12)
        assert report.files[0].metrics[name].episodes == pytest.approx(kept.half_width)
    assert report.targets == "rebuilt"
    assert report.files[0].run == read_record(folder).key


def test_intervals_are_those_of_the_rooms(tmp_path: Path) -> None:
    s = given("random")[0]
    figure = score_files([foreign(tmp_path / "a.npz", s)]).files[0].metrics["macro_ap"]
    episodes = DRAWN["episodes"][:E]
    images = episode_images(
        np.array([e["query"] for e in episodes]), [e["support"] for e in episodes],
        np.arange(Q) // 4,
    )  # fmt: skip
    values = np.array(script(s, truth(), s > 0)["macro_ap"])
    influence = query_influence(s, truth(), names=["macro_ap"])["macro_ap"]
    right = image_interval(values, influence, images).half_width
    assert figure.images == pytest.approx(right, abs=1e-10)
    assert figure.images > figure.episodes


def test_formats_say_the_same(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.npz")
    report = ScoreReport.model_validate_json(run(path, "--format", "json", "--by", "label"))
    assert report == score_files([path], by="label")
    ap = report.files[0].metrics["macro_ap"]
    rows = list(csv.DictReader(io.StringIO(run(path, "--format", "csv", "--by", "label"))))
    row = next(r for r in rows if r["value_of"] == "macro_ap")
    assert [float(row[key]) for key in ("mean", "episodes", "images")] == [
        100 * ap.mean, 100 * ap.episodes, 100 * ap.images
    ]  # fmt: skip
    assert {r["group"] for r in rows if r["section"] == "label"} == set(LABELS)
    line = f"{100 * ap.mean:.2f} ±{100 * ap.episodes:.2f} ±{100 * ap.images:.2f}"
    assert f"macro_ap {line}" in " ".join(run(path).split())
    cells = f"macro\\_ap | {line.replace(' ', ' | ')}"
    assert cells in run(path, "--format", "markdown")
    out = tmp_path / "out.md"
    assert run(path, "--format", "markdown", "--out", out) == ""
    assert out.read_text("utf-8") == run(path, "--format", "markdown")


def test_conventions_are_printed_with_their_definitions(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.npz")
    text = run(path, "--conventions")
    assert "ap_voc11_pooled_macro" in text
    wide = run(path, "--conventions", "--format", "markdown")
    assert "11\\-point interpolated AP per label over the pooled queries" in wide or (
        "11-point interpolated AP per label over the pooled queries" in wide
    )
    assert "ap_voc11_pooled_macro" not in run(path)
    report = score_files([path], conventions=True)
    values = report.files[0].conventions
    assert values is not None
    assert values["ap_episode_macro"] == pytest.approx(report.files[0].metrics["macro_ap"].mean)

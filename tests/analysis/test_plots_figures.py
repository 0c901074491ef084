"""Plots: the numbers in them against the stored scores."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import average_precision_score

from mlfsic_bench.analysis.compare import compare
from mlfsic_bench.analysis.plots.calibration import calibration
from mlfsic_bench.analysis.plots.difference import difference
from mlfsic_bench.analysis.plots.frame import picture
from mlfsic_bench.analysis.plots.labels import labels
from mlfsic_bench.analysis.plots.precision_recall import precision_recall
from mlfsic_bench.errors import BenchError
from mlfsic_bench.metrics.average_precision import expected_random_ap
from mlfsic_bench.results.conditions import MethodResult, ResultGroup, open_group
from mlfsic_bench.results.result import open_result
from mlfsic_bench.results.targets import SplitPlace
from tests.analysis.compared import targets_in, values
from tests.analysis.plotted import EPISODES, every_plot, table


def stored(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    return open_result(folder).scores.scores, targets_in(folder).targets


def test_labels_are_the_means_of_scikit_learns(plot_folders: list[Path]) -> None:
    rows = table(labels(open_group(plot_folders, seeds="each")))
    assert len(rows) == 6
    order = list(dict.fromkeys(row["label"] for row in rows))
    means = {}
    for row in rows:
        folder = plot_folders[["fake-mean", "fake-trained"].index(row["run"])]
        s, y = stored(folder)
        i = ("hen", "ibis", "jay").index(row["label"])
        each = [100 * average_precision_score(y[e, :, i], s[e, :, i]) for e in range(EPISODES)]
        assert float(row["ap"]) == pytest.approx(np.mean(each))
        half = scipy.stats.t.ppf(0.975, EPISODES - 1) * scipy.stats.sem(each)
        assert float(row["over_episodes"]) == pytest.approx(half)
        assert float(row["over_images"]) >= float(row["over_episodes"]) - 1e-12
        chance = [expected_random_ap(int(y[e, :, i].sum()), y.shape[1]) for e in range(EPISODES)]
        assert float(row["chance"]) == pytest.approx(100 * np.mean(chance))
        assert int(row["episodes"]) == EPISODES
        means.setdefault(row["label"], []).append(np.mean(each))
    assert order == sorted(means, key=lambda label: -np.mean(means[label]))


@pytest.mark.parametrize("pooling", ["pooled", "episodes"])
def test_precision_recall_is_read_off_the_thresholds(
    plot_folders: list[Path], pooling: str
) -> None:
    rows = table(precision_recall(open_group(plot_folders), pooling))
    assert len(rows) == 2 * 4 * 200
    s, y = stored(plot_folders[1])
    if pooling == "pooled":
        s, y = s.reshape(1, -1, 3), y.reshape(1, -1, 3)
    own = [row for row in rows if row["run"] == "fake-trained"]
    found: dict[str, list[float]] = {}
    for row in own:
        found.setdefault(row["label"], []).append(float(row["precision"]))
    for i, label in enumerate(("hen", "ibis", "jay")):
        curves = []
        for scores, targets in zip(s[:, :, i], y[:, :, i], strict=True):
            at = []
            for k in range(1, 201):
                for threshold in np.unique(scores)[::-1]:
                    chosen = scores >= threshold
                    if targets[chosen].sum() * 200 >= k * targets.sum():
                        break
                at.append(100 * targets[chosen].mean())
            curves.append(at)
        assert found[label] == pytest.approx(np.mean(curves, axis=0).tolist())
        ap = [100 * average_precision_score(t, x)
              for x, t in zip(s[:, :, i], y[:, :, i], strict=True)]  # fmt: skip
        one = next(row for row in own if row["label"] == label)
        assert float(one["ap"]) == pytest.approx(np.mean(ap))
        assert float(one["prevalence"]) == pytest.approx(100 * y[:, :, i].mean())
    mean = np.mean([found[label] for label in ("hen", "ibis", "jay")], axis=0)
    assert found[""] == pytest.approx(mean.tolist())
    if pooling == "episodes":
        macro = 100 * values(plot_folders[1]).mean()
        assert float(own[0]["ap"]) == pytest.approx(macro)


def test_calibration_is_counted_cell_by_cell(plot_folders: list[Path]) -> None:
    rows = table(calibration(open_group(plot_folders), bins=4))
    assert [row["run"] for row in rows] == ["fake-mean"] * 4 + ["fake-trained"] * 4
    for folder, own in ((plot_folders[0], rows[:4]), (plot_folders[1], rows[4:])):
        s, y = stored(folder)
        p = 1 / (1 + np.exp(-s.astype(float)))
        ece = 0.0
        for row in own:
            low, high = float(row["bin_low"]), float(row["bin_high"])
            inside = (p >= low) & ((p < high) | (high == 1.0))
            assert int(row["cells"]) == inside.sum()
            if not inside.any():
                assert row["confidence"] == row["positive"] == ""
                continue
            assert float(row["confidence"]) == pytest.approx(p[inside].mean())
            assert float(row["positive"]) == pytest.approx(y[inside].mean())
            ece += inside.mean() * abs(p[inside].mean() - y[inside].mean())
        assert float(own[0]["ece"]) == pytest.approx(ece)
        assert f"above 0.5: {100 * (s > 0).mean():.1f} % of cells" in own[0]["note"]
        assert f"positive: {100 * y.mean():.1f} %" in own[0]["note"]


def test_what_the_threshold_measures_is_said(made: Callable[..., ResultGroup]) -> None:
    base = made()
    result = base.first

    def note(scores: np.ndarray, decisions: np.ndarray | None = None) -> str:
        new = replace(result.scores, scores=scores.astype(np.float32), decisions=decisions)
        one = MethodResult("x", (replace(result, scores=new),))
        changed = ResultGroup((one,), SplitPlace(), ())
        changed.__dict__["targets"] = base.targets
        return table(calibration(changed))[0]["note"]

    s = result.scores.scores
    assert "All scores lie above 0" in note(np.abs(s) + 1)
    assert "All scores lie at or below 0" in note(np.zeros_like(s))
    assert "a rule of its own: yes to 100.0 %" in note(s, np.ones(s.shape, bool))
    assert re.search("says yes [0-9.]+ times as often", note(s))


def test_differences_are_those_of_compare(plot_folders: list[Path]) -> None:
    report = compare(plot_folders, metrics=["macro_ap", "micro_f1"])
    rows = table(difference(report))
    assert [row["metric"] for row in rows] == ["macro_ap", "micro_f1"]
    for row, metric in zip(rows, report.metrics, strict=True):
        (pair,) = metric.pairs
        figures = [100 * (x or 0) for x in (pair.mean, pair.episodes, pair.images)]
        assert [float(row[n]) for n in ("difference", "over_episodes", "over_images")] == figures
    many = report.metrics[0].pairs[0]
    pairs = [many.model_copy(update={"mean": (7 * i % 10) / 10}) for i in range(10)]
    metric = report.metrics[0].model_copy(update={"pairs": pairs})
    plotted = table(difference(report.model_copy(update={"metrics": [metric]})))
    shown = [float(row["difference"]) for row in plotted]
    assert shown == sorted(shown, reverse=True)
    metric = metric.model_copy(update={"pairs": pairs * 7})
    with pytest.raises(BenchError, match="70 pairs are too many") as error:
        difference(report.model_copy(update={"metrics": [metric]}))
    assert "--against" in error.value.remedy


def test_labels_that_no_query_has_are_left_out(made: Callable[..., ResultGroup]) -> None:
    of = made(n=2)
    of.targets.targets[:, :, 1] = False
    rows = [row for row in table(labels(of)) if row["label"] == "b"]
    assert [(row["ap"], row["chance"], row["episodes"]) for row in rows] == [("", "", "0")] * 2
    for plot in every_plot(of):
        assert picture(plot, "svg")  # without a warning
    curve = [row for row in table(precision_recall(of)) if row["run"] == "hostile0"]
    at = [float(row["precision"]) for row in curve if row["label"] in ("a", "c")]
    mean = [float(row["precision"]) for row in curve if row["curve"] == "macro"]
    assert mean == pytest.approx((np.array(at[:200]) / 2 + np.array(at[200:]) / 2).tolist())

"""The conventions: chance, prevalence, NaN, strict threshold, two kinds of F1, refusals."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from mlfsic_bench.errors import BenchError
from mlfsic_bench.metrics.average_precision import expected_random_ap, label_ap
from mlfsic_bench.metrics.intervals import t_interval
from mlfsic_bench.metrics.registry import (
    METRICS,
    check_names,
    episode_metrics,
    find_metric,
    undefined_counts,
)

CASE = np.zeros((1, 4, 2)), np.ones((1, 4, 2), bool)


def test_a_constant_scorer_gets_the_prevalence() -> None:
    targets = np.zeros((3, 64, 16), bool)
    targets[:, np.arange(64), np.arange(64) // 4] = True
    targets[1, 0, 5] = True
    for dtype in (np.float32, np.float64):
        ap = label_ap(np.full(targets.shape, 0.7, dtype), targets)
        np.testing.assert_allclose(ap, targets.mean(axis=1), rtol=0, atol=1e-15)
        micro = episode_metrics(np.full(targets.shape, -0.0, dtype), targets)["micro_ap"]
        np.testing.assert_allclose(micro, targets.mean(axis=(1, 2)), rtol=0, atol=1e-15)


def test_signed_zeros_are_one_threshold() -> None:
    targets = np.array([[[1], [0]]])
    for scores in ([[[0.0], [-0.0]]], [[[-0.0], [0.0]]]):
        for dtype in (np.float16, np.float32, np.float64):
            assert label_ap(np.array(scores, dtype), targets).tolist() == [[0.5]]


def test_chance_is_the_mean_over_all_rankings() -> None:
    for total in range(1, 8):
        scores = -np.arange(total, dtype=np.float64)
        for m in range(1, total + 1):
            chosen = list(combinations(range(total), m))
            targets = np.zeros((len(chosen), total, 1), bool)
            for row, positives in enumerate(chosen):
                targets[row, list(positives), 0] = True
            ap = label_ap(np.broadcast_to(scores[None, :, None], targets.shape), targets)
            assert expected_random_ap(m, total) == pytest.approx(ap.mean(), abs=1e-13)


def test_chance_on_the_benchmarks_query_sets() -> None:
    found = [round(100 * expected_random_ap(*c), 1) for c in ((4, 64), (5, 64), (4, 24), (5, 24))]
    assert found == [11.8, 13.3, 26.7, 30.4]
    with pytest.raises(BenchError, match="chance"):
        expected_random_ap(0, 24)


def test_score_zero_is_not_predicted() -> None:
    values = episode_metrics([[[0.0], [1e-30]]], [[[1], [1]]])
    assert values["micro_recall"].tolist() == [0.5]
    assert values["micro_precision"].tolist() == [1.0]


def test_nothing_predicted_is_precision_zero() -> None:
    values = episode_metrics(*CASE)
    for name in ("micro_precision", "macro_precision", "micro_f1", "macro_f1", "f1_label_mean"):
        assert values[name].tolist() == [0.0]


def test_a_label_without_positives_is_left_out_and_counted() -> None:
    scores = np.array([[[2.0, 9.0], [1.0, 9.0]], [[2.0, 9.0], [1.0, -9.0]]])
    targets = np.array([[[1, 0], [0, 0]], [[0, 0], [0, 0]]])
    assert np.isnan(label_ap(scores, targets)).tolist() == [[False, True], [True, True]]
    values = episode_metrics(scores, targets)
    assert values["macro_ap"][0] == 1.0
    assert values["macro_precision"][0] == 0.5
    for name in set(METRICS) - {"micro_precision"}:
        assert np.isnan(values[name]).tolist() == [False, True]
    assert values["micro_precision"].tolist() == [0.25, 0.0]
    assert undefined_counts(scores, targets, scores > 10) == {
        "labels_without_positives": 3,
        "episodes_without_positives": 1,
        "labels_without_predictions": 4,
        "episodes_without_predictions": 2,
    }


def test_macro_f1_is_not_the_mean_of_label_f1() -> None:
    targets = np.array([[[1, 0], [0, 1], [0, 1], [0, 1]]], bool)
    decisions = np.array([[[1, 0], [1, 0], [1, 0], [1, 1]]], bool)
    values = episode_metrics(np.zeros((1, 4, 2)), targets, decisions)
    p, r = (0.25 + 1.0) / 2, (1.0 + 1 / 3) / 2
    assert values["macro_f1"][0] == pytest.approx(2 * p * r / (p + r), abs=1e-15)
    assert values["f1_label_mean"][0] == pytest.approx((0.4 + 0.5) / 2, abs=1e-15)


def test_only_the_asked_metrics_in_the_asked_order() -> None:
    assert list(episode_metrics(*CASE, names=["macro_ap", "micro_f1"])) == ["macro_ap", "micro_f1"]


def test_no_episode_gives_no_value() -> None:
    values = episode_metrics(np.zeros((0, 4, 2), np.float32), np.zeros((0, 4, 2), bool))
    assert {value.shape for value in values.values()} == {(0,)}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_that_are_not_finite_are_refused(bad: float, dtype: type) -> None:
    scores = np.zeros((2, 3, 2), dtype)
    scores[1, 2, 0] = bad
    with pytest.raises(BenchError, match="finite") as error:
        episode_metrics(scores, np.ones((2, 3, 2), bool))
    assert "episode 1, query 2, label 0" in error.value.found


@pytest.mark.parametrize(
    ("scores", "targets", "decisions", "what"),
    [
        (np.zeros((3, 2)), np.zeros((3, 2)), None, "scores have the wrong shape"),
        (np.zeros((1, 0, 2)), np.zeros((1, 0, 2)), None, "scores have the wrong shape"),
        (np.zeros((1, 3, 2)), np.zeros((1, 2, 3)), None, "targets have the wrong shape"),
        (np.zeros((1, 3, 2)), np.full((1, 3, 2), 2), None, "targets must be 0 or 1"),
        (np.zeros((1, 1, 1)), np.full((1, 1, 1), np.nan), None, "targets must be 0 or 1"),
        (np.zeros((1, 1, 1)), [[[1]]], [[[0.5]]], "decisions must be 0 or 1"),
        (np.zeros((1, 1, 1)), [[[1]]], [[1]], "decisions have the wrong shape"),
        (np.zeros((1, 1, 1), complex), [[[1]]], None, "scores must be real"),
        (np.zeros((1, 1, 1), bool), [[[1]]], None, "scores must be real"),
    ],
)
def test_wrong_input_is_refused(
    scores: np.ndarray, targets: np.ndarray, decisions: object, what: str
) -> None:
    with pytest.raises(BenchError, match=what):
        episode_metrics(scores, targets, decisions)


def test_unknown_metrics_name_the_nearest() -> None:
    with pytest.raises(BenchError, match="unknown metric 'macro_app'") as error:
        episode_metrics(*CASE, names=["macro_app"])
    assert "macro_ap" in error.value.remedy
    assert check_names(None) == tuple(METRICS)


def test_the_registry_says_what_each_name_is() -> None:
    for name in METRICS:
        metric = find_metric(name)
        assert metric.name == name
        assert metric.range == (0.0, 1.0)
        assert all((metric.definition, metric.formula, metric.nan_policy, metric.oracle))


def test_values_do_not_depend_on_the_other_episodes() -> None:
    scores = np.sin(np.arange(5 * 7 * 3)).reshape(5, 7, 3).astype(np.float32)
    targets = np.cos(np.arange(5 * 7 * 3)).reshape(5, 7, 3) > 0.4
    together = episode_metrics(scores, targets)
    for e in range(5):
        alone = episode_metrics(scores[e : e + 1], targets[e : e + 1])
        for name, values in together.items():
            assert alone[name][0] == values[e]


def test_the_arrays_given_are_not_changed() -> None:
    scores = np.array([[[-0.0], [1.0]]], np.float32)
    targets = np.array([[[True], [False]]])
    before = scores.tobytes(), targets.tobytes()
    episode_metrics(scores, targets)
    assert (scores.tobytes(), targets.tobytes()) == before


def test_t_interval_is_that_of_scipy() -> None:
    values = np.sin(np.arange(40.0))
    mean, half = t_interval(values)
    low, high = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high), abs=1e-13)


def test_t_interval_of_few_values() -> None:
    mean, half = t_interval([0.3])
    assert mean == 0.3
    assert np.isnan(half)
    assert np.isnan(t_interval([])).all()
    assert t_interval([0.1, np.nan, 0.3]) == t_interval([0.1, 0.3])
    for bad in ([np.inf, 1.0], [[1.0, 2.0]]):
        with pytest.raises(BenchError, match="interval"):
            t_interval(bad)

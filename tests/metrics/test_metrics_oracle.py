"""Every metric of the registry against scikit-learn, per episode, to 1e-12."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import config_context
from sklearn import metrics as sk

from mlfsic_bench.metrics.average_precision import label_ap
from mlfsic_bench.metrics.registry import METRICS, episode_metrics
from mlfsic_bench.randomness import splitmix64_array, stream_seed
from tests.searches import examples

pytestmark = pytest.mark.slow

E, Q, L = 4, 17, 5


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    index = np.arange(np.prod(shape), dtype=np.uint64)
    words = splitmix64_array(np.array(stream_seed("test", name), np.uint64), index)
    return (words >> np.uint64(11)).reshape(shape) / 2**53


def oracle(
    scores: np.ndarray, targets: np.ndarray, decisions: np.ndarray
) -> dict[str, list[float]]:
    """All metrics with scikit-learn, labels without positives left out by hand."""
    result: dict[str, list[float]] = {name: [] for name in METRICS}
    for s, y, d in zip(scores, targets, decisions, strict=True):
        tested = [k for k in range(y.shape[1]) if y[:, k].any()]

        def mean(values: list[float]) -> float:
            return sum(values) / len(values) if values else float("nan")

        def harmonic(p: float, r: float) -> float:
            return 0.0 if p + r == 0 else 2 * p * r / (p + r)

        p = mean([sk.precision_score(y[:, k], d[:, k], zero_division=0) for k in tested])
        r = mean([sk.recall_score(y[:, k], d[:, k]) for k in tested])
        result["macro_precision"].append(p)
        result["macro_recall"].append(r)
        result["macro_f1"].append(harmonic(p, r))
        result["macro_ap"].append(
            mean([sk.average_precision_score(y[:, k], s[:, k]) for k in tested])
        )
        result["f1_label_mean"].append(
            mean([sk.f1_score(y[:, k], d[:, k], zero_division=0) for k in tested])
        )
        y, d, s = y.ravel(), d.ravel(), s.ravel()
        p = sk.precision_score(y, d, zero_division=0)
        result["micro_precision"].append(p)
        some = bool(y.any())
        r = sk.recall_score(y, d) if some else float("nan")
        result["micro_recall"].append(r)
        result["micro_f1"].append(harmonic(p, r))
        result["micro_ap"].append(sk.average_precision_score(y, s) if some else float("nan"))
    return result


SCORES = {
    "random": lambda: 4 * uniform("s", (E, Q, L)) - 2,
    "tied": lambda: np.round(4 * uniform("s", (E, Q, L)) - 2),
    "signed zeros": lambda: np.copysign(0.0, uniform("s", (E, Q, L)) - 0.5),
    "constant": lambda: np.full((E, Q, L), 0.25),
    "tiny and huge": lambda: (
        (uniform("s", (E, Q, L)) - 0.5) * 10.0 ** np.round(60 * uniform("m", (E, Q, L)) - 30)
    ),
}


def one_positive() -> np.ndarray:
    targets = np.zeros((E, Q, L), bool)
    targets[:, np.arange(L) * 3, np.arange(L)] = True
    return targets


def one_label_bare() -> np.ndarray:
    targets = uniform("y", (E, Q, L)) < 0.3
    targets[:, :, 2] = False
    targets[1] = False
    return targets


TARGETS = {
    "random": lambda: uniform("y", (E, Q, L)) < 0.3,
    "one positive": one_positive,
    "all positive": lambda: np.ones((E, Q, L), bool),
    "bare labels": one_label_bare,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("scores", SCORES)
def test_every_metric_agrees_with_scikit_learn(scores: str, targets: str, dtype: type) -> None:
    s, y = SCORES[scores]().astype(dtype), TARGETS[targets]()
    ours, theirs = episode_metrics(s, y), oracle(s, y, s > 0)
    assert list(ours) == list(METRICS)
    for name, values in ours.items():
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, theirs[name], rtol=0, atol=1e-12, err_msg=name)


def test_own_decisions_replace_the_threshold() -> None:
    s, y = SCORES["random"](), TARGETS["random"]()
    d = uniform("d", (E, Q, L)) < 0.5
    ours, theirs, plain = episode_metrics(s, y, d), oracle(s, y, d), episode_metrics(s, y)
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=0, atol=1e-12, err_msg=name)
        assert (values == plain[name]).all() == name.endswith("_ap")


@st.composite
def small_case(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 4)))
    size = int(np.prod(shape))
    width = draw(st.sampled_from([32, 64]))
    values = st.one_of(
        st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5]),
        st.floats(allow_nan=False, allow_infinity=False, width=width),
    )
    scores = np.array(draw(st.lists(values, min_size=size, max_size=size)))
    targets = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    dtype = np.float32 if width == 32 else np.float64
    return scores.astype(dtype).reshape(shape), targets.reshape(shape)


@examples(120)
@given(case=small_case())
def test_small_cases_agree_with_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    s, y = case
    with config_context(skip_parameter_validation=True):  # it takes two fifths of the time
        theirs = oracle(s, y, s > 0)
    for name, values in episode_metrics(s, y).items():
        np.testing.assert_allclose(values, theirs[name], rtol=0, atol=1e-12, err_msg=name)


@examples(100)
@given(case=small_case())
def test_only_the_order_of_scores_counts_for_ap(case: tuple[np.ndarray, np.ndarray]) -> None:
    s, y = case
    ranks = np.unique(s, return_inverse=True)[1].reshape(s.shape)  # order and ties, nothing else
    for dtype in (np.float32, np.float64):
        stretched = np.expm1(ranks.astype(dtype)) - dtype(3)
        np.testing.assert_allclose(label_ap(stretched, y), label_ap(s, y), atol=1e-12)
        names = ["micro_ap", "macro_ap"]
        a, b = episode_metrics(stretched, y, names=names), episode_metrics(s, y, names=names)
        for name in names:
            np.testing.assert_allclose(a[name], b[name], atol=1e-12)


@examples(100)
@given(case=small_case(), shift=st.integers(0, 8))
def test_order_of_queries_does_not_matter(case: tuple[np.ndarray, np.ndarray], shift: int) -> None:
    s, y = case
    ours = episode_metrics(s, y)
    rolled = episode_metrics(np.roll(s, shift, axis=1), np.roll(y, shift, axis=1))
    for name, values in ours.items():
        np.testing.assert_allclose(rolled[name], values, atol=1e-12)


@pytest.mark.parametrize("module", ["average_precision", "metric", "intervals", "registry"])
def test_docstring_examples(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"mlfsic_bench.metrics.{module}"))
    assert result.attempted > 0
    assert result.failed == 0

"""Thresholds and counts as decision rules, against loops over all thresholds and all labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfsic_bench.errors import BenchError
from mlfsic_bench.metrics.decisions import above, best_threshold, top_k
from mlfsic_bench.metrics.registry import episode_metrics

WIDE = np.finfo(np.float32).max


def mean_f1(s: np.ndarray, y: np.ndarray, t: float) -> float:
    """The mean over episodes with positives of the micro-F1 of s > t, by counting."""
    values = []
    for s_e, y_e in zip(s, y, strict=True):
        hits = predicted = positive = 0
        for score, target in zip(s_e.ravel(), y_e.ravel(), strict=True):
            hits += bool(float(score) > t and target)
            predicted += float(score) > t
            positive += bool(target)
        if positive:
            values.append(2 * hits / (predicted + positive))
    return sum(values) / len(values)


def naive_threshold(s: np.ndarray, y: np.ndarray) -> float:
    """The lowest of all thresholds that has the best mean."""
    values = sorted({float(x) for x in s[y.any(axis=(1, 2))].ravel()})
    each = {t: mean_f1(s, y, t) for t in [values[0] - 1, *values]}
    best = max(each.values())
    return next(t for t, value in each.items() if value > best - 1e-9)


def naive_top(row: list[float], k: int) -> list[bool]:
    """The k labels that are taken one after the other, the first of the highest each time."""
    chosen = [False] * len(row)
    for _ in range(min(k, len(row))):
        left = [i for i in range(len(row)) if not chosen[i]]
        chosen[next(i for i in left if row[i] == max(row[j] for j in left))] = True
    return chosen


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores and targets of a few episodes, with ties, some episodes without positives."""
    shape = tuple(draw(st.integers(1, 4)) for _ in range(3))
    n = int(np.prod(shape))
    number = st.one_of(st.integers(-2, 2).map(float), st.floats(-3, 3, width=32))
    s = np.array(draw(st.lists(number, min_size=n, max_size=n)), np.float32).reshape(shape)
    y = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))).reshape(shape)
    y[0, 0, 0] = True
    return s, y


@settings(max_examples=100, deadline=None)
@given(scored())
def test_the_threshold_is_the_lowest_of_the_best(case: tuple[np.ndarray, np.ndarray]) -> None:
    s, y = case
    t = best_threshold(s, y)
    assert t == pytest.approx(naive_threshold(s, y), rel=1e-12, abs=1e-12)
    found = episode_metrics(s, y, above(s, t), ["micro_f1"])["micro_f1"]
    assert np.nanmean(found) == pytest.approx(mean_f1(s, y, t), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(scored(), st.sampled_from([0.25, 2.0, 8.0]))
def test_it_follows_the_scale_and_the_order_of_episodes_does_not_matter(
    case: tuple[np.ndarray, np.ndarray], scale: float
) -> None:
    s, y = case
    t = best_threshold(s, y)
    scaled = best_threshold(s.astype(np.float64) * scale, y)
    same = above(s.astype(np.float64) * scale, scaled), above(s, t)
    assert (same[0] == same[1]).all()
    assert best_threshold(s[::-1], y[::-1]) == pytest.approx(t, abs=1e-12)


def test_thresholds_at_the_edges() -> None:
    rng = np.random.default_rng(0)
    s, y = rng.normal(size=(20, 12, 5)).astype(np.float32), rng.random((20, 12, 5)) < 0.3
    t = best_threshold(s, y)
    assert mean_f1(s, y, t) == pytest.approx(max(mean_f1(s, y, x) for x in s.ravel()[::7]), rel=0.1)
    assert above(s, best_threshold(s, np.ones_like(y))).all()  # all is right: below the lowest
    assert (above(s, 0.0) == (s > 0)).all()
    constant = np.full_like(s, WIDE)
    assert above(constant, best_threshold(constant, y)).all()
    only = y.copy()
    only[1:] = False  # those without positives say nothing
    assert best_threshold(s, only) == best_threshold(s[:1], only[:1])
    with pytest.raises(BenchError, match="without positives"):
        best_threshold(s, np.zeros_like(y))


@settings(max_examples=80, deadline=None)
@given(scored(), st.integers(0, 6), st.integers(0, 1000))
def test_top_k_against_a_loop(case: tuple[np.ndarray, np.ndarray], most: int, seed: int) -> None:
    s, _ = case
    E, Q, L = s.shape
    counts = np.random.default_rng(seed).integers(0, most + 1, (E, Q))
    found = top_k(s, counts)
    assert (found.sum(axis=2) == np.minimum(counts, L)).all()
    for e in range(E):
        for q in range(Q):
            assert found[e, q].tolist() == naive_top(s[e, q].tolist(), int(counts[e, q]))
    assert (top_k(s, most) == top_k(s, np.full((E, Q), most))).all()


@pytest.mark.parametrize("counts", [[[1.0, 1.0]], [[1]], [[-1, 1]], [1, 1]])
def test_counts_that_are_none(counts: object) -> None:
    with pytest.raises(BenchError, match="counts of labels"):
        top_k(np.zeros((1, 2, 3)), counts)

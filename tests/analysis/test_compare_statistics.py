"""Paired tests, Holm and ranks against transcriptions of their definitions, and their laws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from mlfsic_bench.errors import BenchError
from mlfsic_bench.metrics.average_precision import label_ap, precision_at_recalls
from mlfsic_bench.metrics.intervals import (
    average_ranks,
    differences,
    holm,
    paired,
    t_test,
    wilcoxon,
)
from mlfsic_bench.metrics.reliability import reliability

probability = st.floats(0, 1, allow_nan=False)
value = st.integers(0, 12).map(lambda n: n / 12)  # few values, so that ties and zeros are common


def naive_holm(p: list[float]) -> list[float]:
    """For each p the smallest level at which Holm's procedure would reject it."""
    result = [0.0] * len(p)
    running = 0.0
    for done, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        running = max(running, (len(p) - done) * p[i])
        result[i] = min(1.0, running)
    return result


def naive_ranks(values: list[list[float]]) -> list[float]:
    """Ranks by sorting each episode; runs of equal values get the mean of their places."""
    totals = [0.0] * len(values)
    for episode in zip(*values, strict=True):
        order = sorted(episode, reverse=True)
        for i, own in enumerate(episode):
            places = [place + 1 for place, other in enumerate(order) if other == own]
            totals[i] += sum(places) / len(places)
    return [total / len(values[0]) for total in totals]


def naive_t(d: list[float]) -> float:
    mean = sum(d) / len(d)
    spread = math.sqrt(sum((x - mean) ** 2 for x in d) / (len(d) - 1))
    t = abs(mean) / (spread / math.sqrt(len(d)))
    n = len(d) - 1  # the tail of Student's t by Simpson's rule, in y = 1/x beyond 1
    constant = math.gamma((n + 1) / 2) / (math.sqrt(n * math.pi) * math.gamma(n / 2))

    def density(x: float) -> float:
        return constant * (1 + x * x / n) ** (-(n + 1) / 2)

    steps = 20_000
    h = t / steps
    inner = density(0) + density(t)
    inner += sum((4 if i % 2 else 2) * density(i * h) for i in range(1, steps))
    return 1 - 2 * inner * h / 3


def exact_wilcoxon(d: list[float]) -> float:
    """Every assignment of signs, for differences without zeros and ties."""
    ranks = [1 + sum(abs(y) < abs(x) for y in d) for x in d]
    observed = sum(r for r, x in zip(ranks, d, strict=True) if x > 0)
    all_sums = [
        sum(r for r, s in zip(ranks, signs, strict=True) if s)
        for signs in itertools.product((False, True), repeat=len(d))
    ]
    low = sum(w <= observed for w in all_sums) / len(all_sums)
    high = sum(w >= observed for w in all_sums) / len(all_sums)
    return min(1.0, 2 * min(low, high))


def naive_pratt(d: list[float]) -> float:
    """The normal approximation: rank with zeros, drop them, variance of the ranks that are left."""
    ranks = [
        sum(abs(y) < abs(x) for y in d) + (sum(abs(y) == abs(x) for y in d) + 1) / 2 for x in d
    ]
    plus = sum(r for r, x in zip(ranks, d, strict=True) if x > 0)
    left = [r for r, x in zip(ranks, d, strict=True) if x != 0]
    mean, variance = sum(left) / 2, sum(r * r for r in left) / 4
    return math.erfc(abs(plus - mean) / math.sqrt(2 * variance))


@given(st.lists(probability, min_size=1, max_size=12))
def test_holm_is_its_definition(p: list[float]) -> None:
    adjusted = holm(p)
    assert adjusted == pytest.approx(naive_holm(p), abs=1e-15)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    pairs = sorted(zip(p, adjusted, strict=True))
    assert all(a[1] <= b[1] for a, b in itertools.pairwise(pairs))


def test_holm_leaves_undefined_ones_out_of_the_family() -> None:
    adjusted = holm([0.01, math.nan, 0.04])
    assert adjusted[0] == 0.02
    assert math.isnan(adjusted[1])
    assert adjusted[2] == 0.04
    assert holm([]) == []


@given(st.integers(2, 5).flatmap(lambda m: st.lists(st.lists(value, min_size=m, max_size=m),
                                                    min_size=1, max_size=8)))  # fmt: skip
def test_ranks_are_their_definition(episodes: list[list[float]]) -> None:
    values = [list(row) for row in zip(*episodes, strict=True)]
    ranks = average_ranks(values)
    assert ranks.tolist() == pytest.approx(naive_ranks(values), abs=1e-12)
    assert ranks.sum() == pytest.approx(len(values) * (len(values) + 1) / 2)


def test_ranks_leave_undefined_episodes_out() -> None:
    assert average_ranks([[0.5, math.nan], [0.4, 0.9]]).tolist() == [1.0, 2.0]
    assert np.isnan(average_ranks([[math.nan], [0.4]])).all()


@pytest.mark.parametrize("n", [2, 3, 8, 30])
def test_t_is_its_definition(n: int) -> None:
    rng = np.random.default_rng(n)
    d = rng.normal(0.3, 1, n)
    assert t_test(d) == pytest.approx(naive_t(d.tolist()), abs=1e-6)
    assert t_test(d) == pytest.approx(scipy.stats.ttest_1samp(d, 0).pvalue, abs=1e-12)


def test_wilcoxon_counts_every_assignment_of_signs() -> None:
    rng = np.random.default_rng(5)
    for n in (2, 3, 6, 10):
        d = rng.normal(0.4, 1, n)
        assert wilcoxon(d) == pytest.approx(exact_wilcoxon(d.tolist()), abs=1e-12)


def test_wilcoxon_with_zeros_and_ties_is_pratts() -> None:
    rng = np.random.default_rng(6)
    for n in (5, 20, 90):
        d = rng.integers(-3, 5, n) / 4
        assert wilcoxon(d) == pytest.approx(naive_pratt(d.tolist()), abs=1e-12)
    d = rng.normal(0.1, 1, 80)  # too many for the exact distribution
    assert wilcoxon(d) == pytest.approx(naive_pratt(d.tolist()), abs=1e-12)


def test_degenerate_differences() -> None:
    nothing = paired([0.5, 0.25], [0.5, 0.25])
    assert (nothing.mean, nothing.half_width, nothing.t_p, nothing.wilcoxon_p) == (0, 0, 1, 1)
    assert (nothing.wins, nothing.ties, nothing.losses) == (0, 2, 0)
    assert t_test(np.array([0.25, 0.25])) == 0.0
    one = paired([0.5], [0.25])
    assert one.mean == 0.25
    assert math.isnan(one.half_width)
    assert math.isnan(one.t_p)
    assert math.isnan(one.wilcoxon_p)
    left_out = paired([0.5, math.nan, 0.25], [0.25, 0.5, math.nan])
    assert (left_out.n, left_out.mean, left_out.wins) == (1, 0.25, 1)
    assert math.isnan(paired([math.nan], [0.5]).mean)


def test_values_equal_but_for_the_last_bit_are_ties() -> None:
    a, b = 0.1 + 0.2, 0.3
    assert a != b
    result = paired([a, 0.5], [b, 0.25])
    assert (result.wins, result.ties) == (1, 1)
    assert average_ranks([[a], [b]]).tolist() == [1.5, 1.5]


def test_differences_need_the_same_episodes() -> None:
    with pytest.raises(BenchError, match="every episode"):
        differences([0.1, 0.2], [0.1])
    with pytest.raises(BenchError, match="every episode"):
        differences([[0.1]], [[0.1]])


@given(st.lists(st.tuples(value, value), min_size=2, max_size=30), st.randoms())
def test_symmetry_and_order(pairs: list[tuple[float, float]], random: object) -> None:
    a, b = ([pair[i] for pair in pairs] for i in (0, 1))
    forth, back = paired(a, b), paired(b, a)
    assert forth.mean == pytest.approx(-back.mean)
    assert (forth.wins, forth.ties, forth.losses) == (back.losses, back.ties, back.wins)
    assert forth.t_p == pytest.approx(back.t_p)
    assert forth.wilcoxon_p == pytest.approx(back.wilcoxon_p)
    random.shuffle(pairs)  # type: ignore[attr-defined]
    other = paired(*([pair[i] for pair in pairs] for i in (0, 1)))
    assert (other.wins, other.ties, other.losses) == (forth.wins, forth.ties, forth.losses)
    for name in ("mean", "half_width", "t_p", "wilcoxon_p"):
        assert getattr(other, name) == pytest.approx(getattr(forth, name), abs=1e-9)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=24),
       st.integers(1, 7))  # fmt: skip
def test_precision_at_recalls_is_its_definition(cells: list[tuple[int, bool]], steps: int) -> None:
    scores = np.array([[cell[0] for cell in cells]], np.float32)
    targets = np.array([[cell[1] for cell in cells]])
    found = precision_at_recalls(scores, targets, steps)[0]
    m = int(targets.sum())
    if not m:
        assert np.isnan(found).all()
        return
    for k in range(1, steps + 1):
        for threshold in sorted(set(scores[0].tolist()), reverse=True):
            chosen = scores[0] >= threshold
            hits = int(targets[0][chosen].sum())
            if hits * steps >= k * m:
                break
        assert found[k - 1] == pytest.approx(hits / chosen.sum())
    many = precision_at_recalls(scores, targets, 12 * m)[0]
    assert many.mean() == pytest.approx(label_ap(scores[..., None], targets[..., None])[0, 0])


def test_reliability_is_its_definition() -> None:
    rng = np.random.default_rng(3)
    s, y = rng.normal(0, 3, 500), rng.integers(0, 2, 500)
    result = reliability(s, y, bins=7)
    p = 1 / (1 + np.exp(-s))
    ece = 0.0
    for i in range(7):
        inside = [j for j in range(500) if math.floor(p[j] * 7) == i]
        assert result.count[i] == len(inside)
        assert result.confidence[i] == pytest.approx(np.mean(p[inside]))
        assert result.positive[i] == pytest.approx(np.mean(y[inside]))
        ece += len(inside) / 500 * abs(np.mean(p[inside]) - np.mean(y[inside]))
    assert result.ece == pytest.approx(ece)
    extreme = reliability([-1e4, 1e4], [0, 1], bins=4)
    assert extreme.count.tolist() == [1, 0, 0, 1]
    assert extreme.ece == 0.0
    assert np.isnan(extreme.confidence[1:3]).all()
    with pytest.raises(BenchError, match="needs a bin"):
        reliability([0.0], [0], bins=0)

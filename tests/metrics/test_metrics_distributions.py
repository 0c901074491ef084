"""Tails, quantiles and the signed-rank law against scipy; chance against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from mlfsic_bench.metrics.average_precision import expected_random_ap
from mlfsic_bench.metrics.distributions import Z, normal_tail, signed_rank_p, t_quantile, t_tail
from mlfsic_bench.metrics.intervals import wilcoxon
from mlfsic_bench.metrics.registry import chance_levels

FREEDOMS = (1, 1.5, 2, 3, 4.7, 9, 30, 59.3, 99, 99.9, 100, 101, 199, 1999, 9999)
PLACES = (0.01, 0.5, 1, 1.7, 1.8, 2.5, 4, 10, 40)


def test_students_t_is_that_of_scipy() -> None:
    for freedom in FREEDOMS:
        assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-12)
        for t in PLACES:
            expected = stats.t.sf(t, freedom)
            assert t_tail(t, freedom) == pytest.approx(expected, rel=1e-12, abs=1e-300)
    assert t_tail(0, 5) == 0.5
    assert t_tail(np.inf, 5) == 0


def test_the_normal_distribution_is_that_of_scipy() -> None:
    assert pytest.approx(stats.norm.ppf(0.975), rel=1e-15) == Z
    for z in (-3, 0, *PLACES[:-1]):
        assert normal_tail(z) == pytest.approx(stats.norm.sf(z), rel=1e-12)


@pytest.mark.parametrize("zeros", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("decimals", [1, 2, 12])
def test_wilcoxon_is_that_of_scipy(decimals: int, zeros: float) -> None:
    rng = np.random.default_rng(decimals)
    for n in (2, 3, 5, 20, 50, 51, 300):
        d = np.round(rng.normal(0.3, 1, n), decimals)
        d[rng.random(n) < zeros] = 0
        if not d.any():
            continue
        plain = n <= 50 and d.all() and len(np.unique(np.abs(d))) == n
        found = stats.wilcoxon(d, zero_method="pratt", method="exact" if plain else "asymptotic")
        assert wilcoxon(d) == pytest.approx(found.pvalue, rel=1e-12)


def test_the_exact_law_of_signed_ranks_is_whole() -> None:
    assert signed_rank_p(0, 50) == 2 / 2**50
    assert signed_rank_p(50 * 51 // 4, 50) == 1.0


def by_fractions(positives: int, total: int) -> float:
    others = Fraction(positives - 1, total - 1) if total > 1 else Fraction(0)
    return sum(float((1 + (k - 1) * others) / k) for k in range(1, total + 1)) / total


@pytest.mark.parametrize("total", [1, 2, 24, 64, 99, 100, 101, 1024, 5000])
def test_chance_in_closed_form_is_that_of_exact_fractions(total: int) -> None:
    for positives in {1, min(4, total), (total + 1) // 2, total}:
        expected = by_fractions(positives, total)
        assert expected_random_ap(positives, total) == pytest.approx(expected, abs=1e-12)


def test_chance_levels_are_means_of_single_levels() -> None:
    targets = np.zeros((3, 30, 4), bool)
    targets[:2, :5, 0] = targets[0, :9, 1] = targets[1, :2, 3] = True  # nothing in the third
    micro, macro = chance_levels(targets)
    expected = [np.mean([by_fractions(m, 30) for m in row]) for row in ((5, 9), (5, 2))]
    assert macro == pytest.approx(np.mean(expected), abs=1e-12)
    assert micro == pytest.approx((by_fractions(14, 120) + by_fractions(7, 120)) / 2, abs=1e-12)
    assert np.isnan(chance_levels(np.zeros((1, 3, 2)))).all()

"""Student's t, the normal distribution and the law of Wilcoxon's statistic, without scipy.

Reports need a few tails and one quantile of these. `import scipy.stats` takes longer than all that
a report computes, `scipy.special` as long as half of it. Tests compare every function here with
scipy, to 1e-12 of the value.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: 95 % lie within +- Z."""

# Gamma(a + 1/2) / (sqrt(a) Gamma(a)) in powers of 1 / a (Tricomi and Erdelyi 1951); for a >= LARGE
# exact to 2e-15, where a difference of two log-gammas would not be
_SERIES = (1, -1 / 8, 1 / 128, 5 / 1024, -21 / 32768, -399 / 262144, 869 / 4194304)
_LARGE = 50.0


def normal_tail(z: float) -> float:
    """P(X > z) of the normal distribution.

    >>> round(normal_tail(Z), 6)
    0.025
    """
    return 0.5 * math.erfc(z / math.sqrt(2))


def t_tail(t: float, freedom: float) -> float:
    """P(T > t) of Student's t, for t >= 0 and any degrees of freedom above 0.

    Half the regularised incomplete beta function I_x(freedom / 2, 1 / 2) at
    x = freedom / (freedom + t^2), by its continued fraction (Press et al., Numerical Recipes, 6.4).

    >>> round(t_tail(2.262, 9), 4), t_tail(0.0, 9)
    (0.025, 0.5)
    """
    if t == 0:
        return 0.5
    if math.isinf(t):
        return 0.0
    a, ratio = freedom / 2, t * t / freedom
    x, y = 1 / (1 + ratio), ratio / (1 + ratio)
    front = _density(t, freedom) * t  # x^a y^(1/2) / B(a, 1/2)
    if x < (a + 1) / (a + 2.5):
        return front * _fraction(a, 0.5, x) / (2 * a)
    return 0.5 - front * _fraction(0.5, a, y)


@lru_cache(maxsize=4096)
def t_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t: 95 % lie within +- it.

    >>> round(t_quantile(9), 3), round(t_quantile(1), 3)
    (2.262, 12.706)
    """
    # Begun by the expansion about the normal quantile (Abramowitz and Stegun 26.7.5), which lies
    # below where it is poor; the tail is convex, so Newton's steps from there never overshoot.
    z = Z
    t = (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
    for _ in range(100):
        step = (t_tail(t, freedom) - 0.025) / _density(t, freedom)
        t += step
        if abs(step) <= 1e-13 * t:
            break
    return t


def _density(t: float, freedom: float) -> float:
    a = freedom / 2
    if a >= _LARGE:
        gammas = math.sqrt(a) * sum(c / a**k for k, c in enumerate(_SERIES))
    else:
        gammas = math.exp(math.lgamma(a + 0.5) - math.lgamma(a))
    power = math.exp(-(a + 0.5) * math.log1p(t * t / freedom))
    return gammas * power / math.sqrt(math.pi * freedom)


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of I_x(a, b), after Lentz; quick for x < (a + 1) / (a + b + 2)."""
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    value = d
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 + term * d, 1 + term / c
            d = 1 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            value *= d * c
        if abs(d * c - 1) < 4e-16:
            break
    return value


def signed_rank_p(total: int, n: int) -> float:
    """Two-sided p value of a sum of positive ranks 1 ... n, exact: all 2^n signs are as likely.

    For n up to 50, where every count is a whole number that float64 holds.

    >>> signed_rank_p(11, 5)
    0.4375
    """
    ways: npt.NDArray[np.float64] = np.ones(1)  # [sum]: the subsets of 1 ... k with that sum
    for k in range(1, n + 1):
        longer = np.concatenate([ways, np.zeros(k)])
        longer[k:] += ways
        ways = longer
    below, above = float(ways[: total + 1].sum()), float(ways[total:].sum())
    return min(1.0, 2 * min(below, above) / 2.0**n)

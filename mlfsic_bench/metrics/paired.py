"""Two methods on the same episodes: paired differences, their tests, Holm, ranks with ties.

Values that are equal in exact arithmetic may differ in the last bit, because sums were taken in
another order. Differences and values are therefore rounded to 12 decimals before anything asks
whether they are equal (M52 in docs/methodology.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.metrics.intervals import t_interval

Float64 = npt.NDArray[np.float64]
DECIMALS = 12
EXACT_UP_TO = 50  # differences for which the exact distribution of Wilcoxon's statistic is used


@dataclass(frozen=True)
class Paired:
    """What the differences a - b over episodes say.

    Attributes
    ----------
    n: episodes in which both are defined.
    mean, half_width: of a - b, with the 95 % Student t interval over episodes.
    t_p, wilcoxon_p: two-sided p values of "no difference"; NaN below two episodes.
    wins, ties, losses: episodes in which a is above, equal to, below b.
    """

    n: int
    mean: float
    half_width: float
    t_p: float
    wilcoxon_p: float
    wins: int
    ties: int
    losses: int


def differences(a: npt.ArrayLike, b: npt.ArrayLike) -> Float64:
    """float64 [E]: a - b of each episode, rounded to 12 decimals; NaN where either is undefined."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise BenchError(
            "paired differences need a value of both methods for every episode",
            expected="two lists of the same length",
            found=f"shapes {list(x.shape)} and {list(y.shape)}",
            remedy="give one metric's values over the same episodes",
        )
    # adding 0.0 turns -0.0 into 0.0
    rounded: Float64 = np.round(x - y, DECIMALS) + 0.0
    return rounded


def paired(a: npt.ArrayLike, b: npt.ArrayLike) -> Paired:
    """The paired comparison of a and b, values [E] of one metric in the same episodes.

    >>> result = paired([0.5, 0.7, 0.6], [0.4, 0.5, 0.6])
    >>> round(result.mean, 3), result.wins, result.ties, result.losses
    (0.1, 2, 1, 0)
    """
    d = differences(a, b)
    d = d[~np.isnan(d)]
    mean, half = t_interval(d)
    return Paired(
        n=len(d),
        mean=mean,
        half_width=half,
        t_p=t_test(d),
        wilcoxon_p=wilcoxon(d),
        wins=int((d > 0).sum()),
        ties=int((d == 0).sum()),
        losses=int((d < 0).sum()),
    )


def t_test(d: Float64) -> float:
    """Two-sided p value of the paired t test: t = mean / (s / sqrt n), n - 1 degrees of freedom.

    NaN below two differences. Where all are equal, 1 if they are 0 and 0 otherwise.

    >>> round(t_test(np.array([0.1, 0.2, 0.3])), 4)
    0.0742
    """
    n = len(d)
    if n < 2:
        return float("nan")
    if (d == d[0]).all():
        return 1.0 if d[0] == 0 else 0.0
    from scipy.special import stdtr

    t = float(d.mean()) / (float(d.std(ddof=1)) / n**0.5)
    return float(2 * stdtr(n - 1, -abs(t)))


def wilcoxon(d: Float64) -> float:
    """Two-sided p value of Wilcoxon's signed-rank test, zeros after Pratt (`zero_method="pratt"`).

    Zero differences are ranked with the others and then left out, equal ones share their mean rank.
    Exact for up to 50 differences without zeros and ties, otherwise the normal approximation with
    scipy's correction for ties, without one for continuity. NaN below two differences, 1 where all
    are 0.

    >>> wilcoxon(np.array([0.1, 0.2, 0.3, -0.4, 0.5]))
    0.4375
    """
    if len(d) < 2:
        return float("nan")
    if not d.any():
        return 1.0
    from scipy.stats import wilcoxon as signed_rank

    plain = len(d) <= EXACT_UP_TO and d.all() and len(np.unique(np.abs(d))) == len(d)
    method = "exact" if plain else "approx"
    return float(signed_rank(d, zero_method="pratt", method=method).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p values of one family, in the order given.

    The i-th smallest of m is multiplied by m - i + 1, is at least the one before it and at most 1.
    NaN stays NaN and is not counted in m.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, np.float64)
    adjusted = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return [float(value) for value in adjusted]


def average_ranks(values: npt.ArrayLike) -> Float64:
    """float64 [M]: each method's mean rank over episodes; 1 is best, equal values share their mean.

    `values` is [M, E], higher is better; episodes undefined for some method are left out. NaN
    where no episode is left.

    >>> average_ranks([[0.9, 0.5], [0.9, 0.6], [0.1, 0.7]]).tolist()
    [2.25, 1.75, 2.0]
    """
    v = np.round(np.asarray(values, np.float64), DECIMALS)
    v = v[:, ~np.isnan(v).any(axis=0)]
    if not v.shape[1]:
        return np.full(len(v), np.nan)
    above = (v[None, :, :] > v[:, None, :]).sum(axis=1)
    equal = (v[None, :, :] == v[:, None, :]).sum(axis=1)  # itself included
    ranks: Float64 = (above + (equal + 1) / 2).mean(axis=1)
    return ranks

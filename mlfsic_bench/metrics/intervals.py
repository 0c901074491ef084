"""Intervals of a mean over episodes, and tests of paired differences.

The interval over images: how far a mean over episodes would move with other images.

Episodes are drawn from one pool of images, so two of them share some, and their values move
together. With h_e the value of episode e, its mean h over E episodes and s^2 their variance,

    Var(h) = s^2 / E + 1 / E^2 * sum over images i of [ (sum_e f_ei)^2 - sum_e f_ei^2 ]

The first term is the interval over episodes: right if no two shared an image. The second adds the
covariance of every two episodes with an image in common, f_ei being what image i does to episode e:

- as a query image: the value with it minus the value without (`influence`), less the mean of that
  difference over all query images drawn for the same label, since as many are drawn for each label
  whatever the pool is;
- as a support image: h_e - h, the only trace it leaves in scores. Over episodes that share a
  support image and little else, products of these average to the variance it causes.

An image is never both in one episode, but may be a query here and support there; the square
contains that covariance as well. An episode that has an image as support can't ask it, so its h_e
lacks what the image does as a query elsewhere; its mean is given back. The estimate of the second
term can come out negative by chance, while its true value is not, so the interval is never shorter
than that over episodes.

The quantile is Student's, with Satterthwaite's degrees of freedom: 2 Var(h)^2 over the variance of
the estimate of Var(h), which is 2 (s^2 / E)^2 / (E - 1) for the first term and for the second the
spread of what the images add; E - 1 at most.

What is estimated is the mean over episodes from an endless pool of the same population of images.
With few images a label the mean over episodes from a pool of that size lies elsewhere, because a
support image that shows several labels is taken from the queries; no interval around the found
mean knows that. Below SMALL_POOL images for some label it may cover less than 90 % (docs).

The differences are those of a jackknife over images, in closed form. A bootstrap over images with
multiplicities, which looks like the obvious way, has too small a spread here (docs/metrics.md).

Paired differences: values that are equal in exact arithmetic may differ in the last bit, because
sums were taken in another order. Differences and values are therefore rounded to 12 decimals before
anything asks whether they are equal (M52 in docs/methodology.md).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.metrics.distributions import (
    Z,
    normal_tail,
    signed_rank_p,
    t_quantile,
    t_tail,
)


def t_interval(values: npt.ArrayLike) -> tuple[float, float]:
    """(mean, half width) of the 95 % Student t interval of the mean, sample variance with ddof = 1.

    NaN values (undefined episodes) are left out. With one value left the half width is NaN, with
    none the mean is NaN too. It says how well the mean over *episodes like these* is known; they
    share a pool of images, so it is too short for the mean over new images.

    >>> mean, half = t_interval([0.2, 0.4, 0.6])
    >>> round(mean, 3), round(half, 3)
    (0.4, 0.497)
    """
    x = np.asarray(values, np.float64)
    if x.ndim != 1 or np.isinf(x).any():
        raise BenchError(
            "an interval is made of one finite number per episode",
            expected="a list of finite numbers; NaN where undefined",
            found=f"shape {list(x.shape)}" if x.ndim != 1 else "an infinite value",
            remedy="give one metric's values over the episodes",
        )
    x = x[~np.isnan(x)]
    n = len(x)
    if n == 0:
        return float("nan"), float("nan")
    mean = float(x.mean())
    if n == 1:
        return mean, float("nan")
    return mean, t_quantile(n - 1) * float(x.std(ddof=1)) / n**0.5


def clustered_interval(values: npt.ArrayLike, clusters: Sequence[Hashable]) -> tuple[float, float]:
    """(mean, half width) of the 95 % interval of the mean of n values that lie in G clusters.

    Values of one cluster may depend on each other in any way; clusters do not. The variance of the
    mean is G/(G-1) * sum over clusters g of (sum over i in g of (x_i - mean))^2 / n^2 (Liang and
    Zeger 1986), the quantile Student's t with G - 1 degrees of freedom. With a value a cluster
    this is `t_interval`. With one cluster the half width is NaN, without values the mean is too.

    >>> mean, half = clustered_interval([0.2, 0.4, 0.6], "abc")
    >>> round(mean, 3), round(half, 3)
    (0.4, 0.497)
    >>> round(clustered_interval([0.2, 0.4, 0.6] * 2, "abcabc")[1], 3)
    0.497
    """
    x = np.asarray(values, np.float64)
    if len(x) == 0:
        return float("nan"), float("nan")
    mean = float(x.mean())
    index = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    groups = len(index)
    if groups == 1:
        return mean, float("nan")
    sums = np.bincount([index[name] for name in clusters], x - mean, groups)
    variance = groups / (groups - 1) * float((sums**2).sum()) / len(x) ** 2
    return mean, t_quantile(groups - 1) * variance**0.5


Float64 = npt.NDArray[np.float64]
SMALL_POOL = 50  # images a label; from here on benchmarks/coverage_simulation.py finds 90 to 98 %


@dataclass(frozen=True)
class ImageInterval:
    """The interval over images of one metric.

    Attributes
    ----------
    mean: over the episodes in which the metric is defined; NaN when there is none.
    half_width: of the 95 % interval; NaN with fewer than two such episodes.
    variance: the estimate of Var(h) at the top of this file, without its lower bound. Where the
        support images are not known it covers query images only.
    """

    mean: float
    half_width: float
    variance: float


@dataclass(frozen=True, eq=False)
class EpisodeImages:
    """Which images the episodes are made of, as numbers.

    Attributes
    ----------
    count: number of distinct images.
    query: int64 [E, Q]. slots: int64 [Q], what each query was drawn for (all 0 when for nothing).
    support: int64 [n] and episode: int64 [n], each support image and the episode it is in; or None.
    """

    count: int
    query: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int64]
    support: npt.NDArray[np.int64] | None
    episode: npt.NDArray[np.int64] | None


def episode_images(
    query: npt.ArrayLike,
    support: Sequence[Sequence[str]] | None,
    drawn_for: npt.ArrayLike | None = None,
) -> EpisodeImages:
    """The images of E episodes, numbered.

    Parameters
    ----------
    query: text [E, Q], image ids.
    support: the ids of each episode's support images, or None when they are not known.
    drawn_for: int [Q], the label that each query was drawn for, or None.
    """
    ids = np.asarray(query)
    if ids.ndim != 2 or (support is not None and len(support) != len(ids)):
        raise BenchError(
            "an interval over images needs the images of every episode",
            expected="query ids [E, Q], and as many support sets",
            found=f"query ids {list(ids.shape)}, {None if support is None else len(support)} "
            "support sets",
            remedy="give both for the same episodes",
        )
    flat = [image for images in support or () for image in images]
    names, code = coded([*ids.ravel().tolist(), *flat])
    slots = np.zeros(ids.shape[1], np.int64) if drawn_for is None else np.asarray(drawn_for)
    return EpisodeImages(
        count=len(names),
        query=code[: ids.size].reshape(ids.shape),
        slots=slots.astype(np.int64),
        support=None if support is None else code[ids.size :],
        episode=None
        if support is None
        else np.repeat(np.arange(len(support)), [len(images) for images in support]),
    )


def coded(names: Sequence[str]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """(the different names, sorted; int64 [n], the place of each name among them)."""
    different = sorted(set(names))
    place = {name: i for i, name in enumerate(different)}
    return different, np.fromiter(map(place.__getitem__, names), np.int64, len(names))


def image_interval(
    values: npt.ArrayLike, influence: Float64, images: EpisodeImages
) -> ImageInterval:
    """The 95 % interval over images of the mean of `values`.

    Parameters
    ----------
    values: float [E], a metric's value in each episode; NaN where undefined.
    influence: float [E, Q], from `registry.query_influence`.
    images: what the episodes are made of.
    """
    h = np.asarray(values, np.float64)
    defined = ~np.isnan(h)
    E = int(defined.sum())
    mean, half = t_interval(h)
    if E < 2:
        return ImageInterval(mean, float("nan"), float("nan"))
    f = _centred(np.where(defined[:, None], influence, np.nan), images.slots)
    episodes = float(h[defined].var(ddof=1)) / E
    asked, query = _sums(f.ravel(), images.query.ravel(), images.count)
    shared = query
    if images.support is not None and images.episode is not None:
        d = np.where(defined, h - mean, 0.0)[images.episode]
        shown, support = _sums(d, images.support, images.count)
        often = np.bincount(images.support, defined[images.episode], images.count) / E
        # Where i is support it can't be a query: d lacks what i does as one, f_i / E on average.
        cross = 2 * (asked * shown + often * query)
        shared = query + support + cross
    each = shared / E**2  # what each image adds
    variance = episodes + float(each.sum())
    width = half
    if variance > episodes:
        noise = 2 * episodes**2 / (E - 1) + float(((each - each.mean()) ** 2).sum())
        freedom = min(E - 1.0, max(1.0, 2 * variance**2 / noise)) if noise > 0 else E - 1.0
        width = t_quantile(freedom) * variance**0.5
    return ImageInterval(mean, width, variance)


def _sums(f: Float64, image: npt.NDArray[np.int64], count: int) -> tuple[Float64, Float64]:
    """For each image the sum of its f, and the square of that less the sum of their squares."""
    total: Float64 = np.bincount(image, f, count).astype(np.float64)
    pairs: Float64 = total**2 - np.bincount(image, f**2, count)
    return total, pairs


def _centred(influence: Float64, slots: npt.NDArray[np.int64]) -> Float64:
    """Influence less its mean over the queries drawn for the same label; 0 where undefined."""
    f = influence.copy()
    whole = not np.isnan(f).any()
    for slot in sorted(set(slots.tolist())):
        columns = np.flatnonzero(slots == slot)
        own = f[:, columns]
        known = own.ravel() if whole else own[~np.isnan(own)]
        f[:, columns] = own - (known.mean() if known.size else 0.0)
    return f if whole else np.nan_to_num(f, nan=0.0)


DECIMALS = 12
LEVEL = 0.05  # below which an adjusted p value says that two methods differ
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
    t = float(d.mean()) / (float(d.std(ddof=1)) / n**0.5)
    return 2 * t_tail(abs(t), n - 1)


def wilcoxon(d: Float64) -> float:
    """Two-sided p value of Wilcoxon's signed-rank test, zeros after Pratt (`zero_method="pratt"`).

    Zero differences are ranked with the others and then left out, equal ones share their mean rank.
    Exact for up to 50 differences without zeros and ties, otherwise the normal approximation after
    Cureton (1967), with the correction for ties and none for continuity, as in scipy. NaN below two
    differences, 1 where all are 0.

    >>> wilcoxon(np.array([0.1, 0.2, 0.3, -0.4, 0.5]))
    0.4375
    """
    if len(d) < 2:
        return float("nan")
    if not d.any():
        return 1.0
    n, zeros = len(d), int((d == 0).sum())
    sizes, place, ties = np.unique(np.abs(d), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]
    total = float(ranks[d > 0].sum())
    if n <= EXACT_UP_TO and not zeros and len(sizes) == n:
        return signed_rank_p(round(total), n)
    mean = (n * (n + 1) - zeros * (zeros + 1)) / 4
    equal = ties[sizes > 0].astype(np.float64)
    variance = (n * (n + 1) * (2 * n + 1) - zeros * (zeros + 1) * (2 * zeros + 1)) / 24
    variance -= float((equal**3 - equal).sum()) / 48
    return 2 * normal_tail(abs(total - mean) / variance**0.5)


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


def p_of_interval(difference: float, half_width: float) -> float:
    """Two-sided p value of "no difference", from a difference and its 95 % interval.

    Of the normal distribution whose 95 % interval has that half width. NaN where either is NaN;
    with a half width of 0, 1 for no difference and 0 for any other.

    >>> round(p_of_interval(1.96, 1.96), 3), p_of_interval(0.0, 0.0)
    (0.05, 1.0)
    """
    gap = abs(round(difference, DECIMALS))
    if half_width == 0:
        return 0.0 if gap else 1.0
    return 2 * normal_tail(gap * Z / half_width)


def tied_ranks(methods: int, pairs: Mapping[tuple[int, int], tuple[float, float]]) -> list[int]:
    """Each method's rank: 1 + the number of methods that are significantly above it.

    `pairs` has for every two of the methods (i, j), i < j, by how much i is above j, over the
    episodes that both have, and the p value of "no difference". These are adjusted after Holm over
    all pairs; a method is significantly above another where it is above and the adjusted value
    below LEVEL. Methods that tie share a rank. A pair that ties with a third may not tie with each
    other, so ranks can leave out numbers.

    >>> tied_ranks(3, {(0, 1): (-0.2, 0.001), (0, 2): (-0.1, 0.02), (1, 2): (0.1, 0.4)})
    [3, 1, 1]
    """
    ranks = [1] * methods
    adjusted = holm([p for _, p in pairs.values()])
    for ((i, j), (gap, _)), value in zip(pairs.items(), adjusted, strict=True):
        if value < LEVEL:  # not of NaN
            ranks[i if gap < 0 else j] += 1
    return ranks


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

"""The interval over images: how far a mean over episodes would move with other images.

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
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.metrics.intervals import t_interval

Float64 = npt.NDArray[np.float64]
SMALL_POOL = 50  # images a label; from here on benchmarks/coverage_simulation.py finds 90 to 98 %


@dataclass(frozen=True)
class ImageInterval:
    """The interval over images of one metric, and what it is made of.

    Attributes
    ----------
    mean: over the episodes in which the metric is defined; NaN when there is none.
    half_width: of the 95 % interval; NaN with fewer than two such episodes.
    episodes: the variance of the mean if no two episodes shared an image.
    queries, supports, both: covariance because of images shared as queries, as support, and as one
        in one episode and the other in another. `supports` and `both` are None when the support
        images are not known; the interval then covers query images only.
    """

    mean: float
    half_width: float
    episodes: float
    queries: float
    supports: float | None
    both: float | None


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
    names, code = np.unique(np.array([*ids.ravel().tolist(), *flat]), return_inverse=True)
    slots = np.zeros(ids.shape[1], np.int64) if drawn_for is None else np.asarray(drawn_for)
    return EpisodeImages(
        count=len(names),
        query=code[: ids.size].reshape(ids.shape).astype(np.int64),
        slots=slots.astype(np.int64),
        support=None if support is None else code[ids.size :].astype(np.int64),
        episode=None
        if support is None
        else np.repeat(np.arange(len(support)), [len(images) for images in support]),
    )


def image_interval(
    values: npt.ArrayLike, influence: Float64, images: EpisodeImages
) -> ImageInterval:
    """The 95 % interval over images of the mean of `values`.

    Parameters
    ----------
    values: float [E], a metric's value in each episode; NaN where undefined.
    influence: float [E, Q], from `influence.query_influence`.
    images: what the episodes are made of.
    """
    from scipy.special import stdtrit  # the t quantile alone; scipy.stats takes far longer to load

    h = np.asarray(values, np.float64)
    defined = ~np.isnan(h)
    E = int(defined.sum())
    mean, half = t_interval(h)
    if E < 2:
        return ImageInterval(mean, float("nan"), float("nan"), float("nan"), None, None)
    f = _centred(np.where(defined[:, None], influence, np.nan), images.slots)
    episodes = float(h[defined].var(ddof=1)) / E
    asked, query = _sums(f.ravel(), images.query.ravel(), images.count)
    shared = query
    supports = both = None
    if images.support is not None and images.episode is not None:
        d = np.where(defined, h - mean, 0.0)[images.episode]
        shown, support = _sums(d, images.support, images.count)
        often = np.bincount(images.support, defined[images.episode], images.count) / E
        # Where i is support it can't be a query: d lacks what i does as one, f_i / E on average.
        cross = 2 * (asked * shown + often * query)
        supports, both = float(support.sum()) / E**2, float(cross.sum()) / E**2
        shared = query + support + cross
    each = shared / E**2  # what each image adds
    variance = episodes + float(each.sum())
    width = half
    if variance > episodes:
        noise = 2 * episodes**2 / (E - 1) + float(((each - each.mean()) ** 2).sum())
        freedom = min(E - 1.0, max(1.0, 2 * variance**2 / noise)) if noise > 0 else E - 1.0
        width = float(stdtrit(freedom, 0.975)) * variance**0.5
    return ImageInterval(mean, width, episodes, float(query.sum()) / E**2, supports, both)


def _sums(f: Float64, image: npt.NDArray[np.int64], count: int) -> tuple[Float64, Float64]:
    """For each image the sum of its f, and the square of that less the sum of their squares."""
    total: Float64 = np.bincount(image, f, count).astype(np.float64)
    pairs: Float64 = total**2 - np.bincount(image, f**2, count)
    return total, pairs


def _centred(influence: Float64, slots: npt.NDArray[np.int64]) -> Float64:
    """Influence less its mean over the queries drawn for the same label; 0 where undefined."""
    f = influence.copy()
    for slot in np.unique(slots):
        own = f[:, slots == slot]
        known = ~np.isnan(own)
        f[:, slots == slot] = own - (own[known].mean() if known.any() else 0.0)
    return np.nan_to_num(f, nan=0.0)

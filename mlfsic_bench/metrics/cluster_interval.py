"""The interval of a mean whose values come in clusters, such as several labels of one image."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt


def clustered_interval(
    values: npt.ArrayLike, clusters: Sequence[Hashable], confidence: float = 0.95
) -> tuple[float, float]:
    """(mean, half width) of the interval of the mean of n values that lie in G clusters.

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
    from scipy.special import stdtrit

    sums = np.bincount([index[name] for name in clusters], x - mean, groups)
    variance = groups / (groups - 1) * float((sums**2).sum()) / len(x) ** 2
    return mean, float(stdtrit(groups - 1, 0.5 + confidence / 2)) * variance**0.5

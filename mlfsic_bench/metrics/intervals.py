"""The interval over episodes: Student t of the mean."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError


def t_interval(values: npt.ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """(mean, half width) of the Student t interval of the mean, sample variance with ddof = 1.

    NaN values (undefined episodes) are left out. With one value left the half width is NaN, with
    none the mean is NaN too. It says how well the mean over *episodes like these* is known; they
    share a pool of images, so it is too short for the mean over new images.

    >>> mean, half = t_interval([0.2, 0.4, 0.6])
    >>> round(mean, 3), round(half, 3)
    (0.4, 0.497)
    """
    if not 0 < confidence < 1:
        raise BenchError(
            "an interval needs a confidence between 0 and 1",
            expected="e.g. 0.95",
            found=str(confidence),
            remedy="give the share of intervals that are to cover the mean",
        )
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
    from scipy.special import stdtrit  # the t quantile alone; scipy.stats takes far longer to load

    quantile = float(stdtrit(n - 1, 0.5 + confidence / 2))
    return mean, quantile * float(x.std(ddof=1)) / n**0.5

"""The plain cluster bootstrap over images: AP when the images are drawn again with replacement.

A replicate draws as many images as the queries have, with replacement, and counts every query with
the number of times its image was drawn, in all episodes alike. Episodes share images, so their APs
move together, which is what an interval over episodes misses.

It is here to be compared with (`benchmarks/coverage_simulation.py`): with four positives a label
its spread is too small and its centre is too high, so `score` uses `image_interval` instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.metrics.inputs import FloatArray, check_binary, check_scores
from mlfsic_bench.metrics.weighted import Ranking
from mlfsic_bench.randomness import splitmix64_array, stream_seed

Float64 = npt.NDArray[np.float64]
REPLICATES = 1000
NAMES = ("macro_ap", "micro_ap")


def bootstrap_means(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    query: npt.ArrayLike,
    *,
    names: Sequence[str] = NAMES,
    replicates: int = REPLICATES,
    key: str = "",
) -> dict[str, Float64]:
    """float64 [replicates] for each name: the mean over episodes in every replicate.

    Parameters
    ----------
    scores, targets: [E, Q, L].
    query: [E, Q], the id of each query image.
    names: of `macro_ap` and `micro_ap`.
    key: names the random stream; equal keys and images give equal replicates.

    An episode (for macro-AP a label) whose positives were not drawn is left out of its mean.
    """
    s = check_scores(scores)
    y = check_binary(targets, s.shape, "targets")
    for name in names:
        if name not in NAMES:
            raise unknown_name("metric of the cluster bootstrap", name, NAMES)
    ids = np.asarray(query)
    if ids.shape != s.shape[:2] or replicates < 2:
        raise BenchError(
            "a cluster bootstrap needs the image of every query, and replicates",
            expected=f"ids of shape {list(s.shape[:2])} and at least 2 replicates",
            found=f"ids of shape {list(ids.shape)} and {replicates} replicates",
            remedy="give one id per query",
        )
    unique, code = np.unique(ids, return_inverse=True)
    code = code.reshape(ids.shape)
    seed = stream_seed("metrics", "cluster bootstrap", key, len(unique))
    rankings = {name: _Rows(s, y, code, name) for name in names}
    means = {name: np.empty(replicates) for name in names}
    for b in range(replicates):
        weights = _multiplicities(seed, b, len(unique))
        for name, rows in rankings.items():
            means[name][b] = rows.mean(weights)
    return means


class _Rows:
    """The rankings behind one metric, ready for any whole weights: all rows in one flat array."""

    def __init__(
        self,
        scores: FloatArray,
        targets: npt.NDArray[np.bool_],
        code: npt.NDArray[np.int64],
        name: str,
    ) -> None:
        E, Q, L = scores.shape
        if name == "macro_ap":
            s, y = scores.transpose(0, 2, 1), targets.transpose(0, 2, 1)
            images = np.broadcast_to(code[:, None, :], s.shape)
        else:
            s, y = scores.reshape(E, 1, Q * L), targets.reshape(E, 1, Q * L)
            images = np.repeat(code, L, axis=1)[:, None, :]
        self.shape, n = s.shape[:2], s.shape[2]
        ranking = Ranking(s, y)
        self.images = np.take_along_axis(images, ranking.order, axis=-1).ravel()
        # Only positives add to an AP; of the others no more than their running weight is needed.
        self.positive = np.flatnonzero(ranking.targets)
        self.row = self.positive // n
        self.first = self.row * n
        self.last = self.first + ranking.last.ravel()[self.positive]
        self.first_positive = np.searchsorted(self.positive, self.first)
        self.last_positive = np.searchsorted(self.positive, self.last, side="right") - 1

    def mean(self, weights: Float64) -> float:
        """The mean over episodes of the mean over labels."""
        w = weights[self.images]
        own = w[self.positive]
        r, t = _running(w), _running(own)
        rank = r[self.last + 1] - r[self.first]
        hits = t[self.last_positive + 1] - t[self.first_positive]
        p = np.divide(hits, rank, out=np.zeros_like(hits), where=rank > 0)
        rows = self.shape[0] * self.shape[1]
        m = np.bincount(self.row, own, rows)
        ap = np.divide(np.bincount(self.row, own * p, rows), m, out=np.zeros(rows), where=m > 0)
        count = (m > 0).reshape(self.shape).sum(axis=1)
        some = count > 0
        total = ap.reshape(self.shape).sum(axis=1)
        return float((total[some] / count[some]).mean()) if some.any() else float("nan")


def _running(values: Float64) -> Float64:
    """The running sum before each element, and the sum of all at the end."""
    total = np.empty(len(values) + 1)
    total[0] = 0.0
    np.cumsum(values, out=total[1:])
    return total


def _multiplicities(seed: int, replicate: int, n: int) -> Float64:
    """float64 [n]: how often each of n images is drawn when n are drawn with replacement."""
    start = np.uint64(stream_seed(seed, replicate))
    words = splitmix64_array(np.array(start), np.arange(n, dtype=np.uint64))
    # 53 bits of a word make a number in [0, 1); n is far below 2**53, so none is favoured visibly
    drawn = ((words >> np.uint64(11)).astype(np.float64) / 2**53 * n).astype(np.int64)
    return np.bincount(drawn, minlength=n).astype(np.float64)

"""What a metric is: one object that says what its name stands for and computes it.

And what all metrics are made of: checked scores and targets, and counts at the decisions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError

FloatArray = npt.NDArray[np.floating[Any]]
"""float32 or float64."""


def check_scores(scores: npt.ArrayLike) -> FloatArray:
    """Scores [E, Q, L] as float32 when that holds them exactly, float64 otherwise.

    float16 and float32 become float32; integers and float64 become float64. Raises BenchError for
    other types, other shapes, NaN and infinity.
    """
    array = np.asarray(scores)
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise _shape("scores", "[episodes, queries >= 1, labels >= 1]", array.shape)
    whole = array.dtype.kind in "iu"
    if whole and array.size and max(int(array.max()), -int(array.min())) > 1 << 53:
        raise BenchError(
            "these whole numbers are too large for float64: some become equal",
            expected="scores within +-2**53",
            found=f"values from {array.min()} to {array.max()}",
            remedy="give the scores as float32 or float64",
        )
    if not (whole or array.dtype.kind == "f") or array.dtype.itemsize > 8:
        raise BenchError(
            "scores must be real numbers",
            expected="float32 or float64",
            found=str(array.dtype),
            remedy="return one real number per query and label, before any threshold",
        )
    narrow = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    result: FloatArray
    if narrow:
        result = array.astype(np.float32, copy=False)
    else:
        result = array.astype(np.float64, copy=False)
    finite = np.isfinite(result)
    if not finite.all():
        e, q, k = (int(i) for i in np.argwhere(~finite)[0])
        raise BenchError(
            "scores must be finite",
            expected="one finite real number per query and label",
            found=f"{result[e, q, k]} in episode {e}, query {q}, label {k} "
            f"({int((~finite).sum())} such values)",
            remedy="find what makes the method's scores NaN or infinite; nothing is replaced here",
        )
    return result


def check_binary(values: npt.ArrayLike, shape: tuple[int, ...], kind: str) -> npt.NDArray[np.bool_]:
    """`values` as bool of this shape; BenchError for another shape or values other than 0 and 1.

    `kind` names them in the message: targets or decisions.
    """
    array: npt.NDArray[Any] = np.asarray(values)
    if array.shape != shape:
        raise _shape(kind, f"{list(shape)}, as the scores", array.shape)
    if array.dtype == np.bool_:
        return array
    result: npt.NDArray[np.bool_] = array == 1
    if not (result | (array == 0)).all():
        raise BenchError(
            f"{kind} must be 0 or 1",
            expected="bool, or numbers that are 0 or 1",
            found=f"other values, type {array.dtype}",
            remedy=f"give the {kind} as a bool array",
        )
    return result


def _shape(kind: str, expected: str, shape: tuple[int, ...]) -> BenchError:
    return BenchError(
        f"{kind} have the wrong shape",
        expected=expected,
        found=str(list(shape)),
        remedy="give one row per query and one column per label, in the episodes' order",
    )


Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


class _Remembering:
    """What is computed of an object, kept with it."""

    @cached_property
    def _known(self) -> dict[Callable[[Any], Float64], Float64]:
        return {}

    def once(self, value: Callable[[Any], Float64]) -> Float64:
        """`value(self)`, computed when it is asked for first."""
        if value not in self._known:
            self._known[value] = value(self)
        return self._known[value]


@dataclass(frozen=True, eq=False)
class Counts(_Remembering):
    """How many queries are hit, predicted and positive: int64 [E, L] per label, or [E] over all."""

    hits: Int64
    predicted: Int64
    positive: Int64

    @cached_property
    def pooled(self) -> Counts:
        """The counts of each episode's Q x L pairs, int64 [E]: what micro averages are made of."""
        return Counts(self.hits.sum(axis=1), self.predicted.sum(axis=1), self.positive.sum(axis=1))


def count(decisions: Bool, targets: Bool) -> Counts:
    """The counts per label, int64 [E, L], of decisions and targets [E, Q, L]."""
    return Counts(_sum(decisions & targets), _sum(decisions), _sum(targets))


def precision(counts: Counts) -> Float64:
    """hits / predicted; 0 where nothing is predicted."""
    return _ratio(counts.hits, counts.predicted, 0.0)


def recall(counts: Counts) -> Float64:
    """hits / positive; NaN where nothing is positive."""
    return _ratio(counts.hits, counts.positive, np.nan)


def f1(counts: Counts) -> Float64:
    """2 hits / (predicted + positive); NaN where nothing is positive."""
    ratio = _ratio(2 * counts.hits, counts.predicted + counts.positive, 0.0)
    return np.where(counts.positive > 0, ratio, np.nan)


def harmonic_mean(p: Float64, r: Float64) -> Float64:
    """2 p r / (p + r), elementwise; 0 where both are 0, NaN where one is NaN.

    >>> harmonic_mean(np.array([0.5, 0.0]), np.array([1.0, 0.0])).round(4).tolist()
    [0.6667, 0.0]
    """
    total = p + r
    undefined = np.where(np.isnan(total), np.nan, 0.0)
    mean: Float64 = np.divide(2 * p * r, total, out=undefined, where=total > 0)
    return mean


def mean_over_tested(values: Float64, counts: Counts) -> Float64:
    """float64 [E]: mean of values [E, L] over labels with positives; NaN where there are none."""
    tested = counts.positive > 0
    total = np.where(tested, values, 0.0).sum(axis=1)
    return _ratio(total, tested.sum(axis=1), np.nan)


def _sum(values: Bool) -> Int64:
    total: Int64 = np.count_nonzero(values, axis=1).astype(np.int64)
    return total


def _ratio(above: npt.NDArray[np.generic], below: Int64, undefined: float) -> Float64:
    result: Float64 = np.full(below.shape, undefined)
    np.divide(above, below, out=result, where=below > 0)
    return result


class Episodes(_Remembering):
    """The scores, targets and decisions of some episodes, checked, with what metrics share.

    Parameters
    ----------
    scores: [E, Q, L], finite; raw scores, higher = more likely.
    targets: [E, Q, L] of 0 and 1.
    decisions: [E, Q, L] of 0 and 1; by default scores > 0, strictly (sigmoid(score) > 0.5).

    Raises BenchError for wrong shapes and for scores that are not finite.
    """

    def __init__(
        self,
        scores: npt.ArrayLike,
        targets: npt.ArrayLike,
        decisions: npt.ArrayLike | None = None,
    ) -> None:
        s = check_scores(scores)
        self.shape: tuple[int, int, int] = s.shape
        self.scores: FloatArray = s
        self.targets: Bool = check_binary(targets, s.shape, "targets")
        self.decisions: Bool = (
            s > 0 if decisions is None else check_binary(decisions, s.shape, "decisions")
        )

    @cached_property
    def counts(self) -> Counts:
        """Of each label, int64 [E, L]."""
        return count(self.decisions, self.targets)

    @cached_property
    def counts_without(self) -> Counts:
        """Of each label without each query, int64 [E * Q, L]: row e * Q + q is without query q."""
        E, Q, L = self.shape
        own = self.decisions & self.targets, self.decisions, self.targets
        whole = self.counts.hits, self.counts.predicted, self.counts.positive
        pairs = zip(whole, own, strict=True)
        return Counts(*((a[:, None, :] - b).reshape(E * Q, L) for a, b in pairs))

    def some(self, which: slice) -> Episodes:
        """These episodes alone."""
        return Episodes(self.scores[which], self.targets[which], self.decisions[which])

    def without(self, query: int) -> Episodes:
        """The same episodes without the query at this place."""
        arrays = (self.scores, self.targets, self.decisions)
        return Episodes(*(np.delete(array, query, axis=1) for array in arrays))


Form = Callable[[Episodes], Float64]


@dataclass(frozen=True, eq=False)
class Metric:
    """What a metric's name stands for, and how it is computed.

    Higher is better, and values are within `range`: tables show them in per cent.

    Attributes
    ----------
    name: the name in records, CSV and JSON, and on the command line.
    average, short: the head of its column in two parts, such as "macro" and "AP"; `average` may be
        empty.
    definition: in words, for one episode.
    formula: in the notation of `metrics/registry.py`.
    nan_policy: when it is undefined, and what happens then.
    oracle: the independent implementation that tests compare it with, to 1e-12.
    citation: a work that defines it.
    compute: float64 [E], its value in each episode; NaN where undefined.
    leave_one_out: float64 [E, Q], its value less that without each query; NaN where one of the two
        is undefined. None: computed anew without each query, which is slower.
    column: "always": a column of every table and a figure of every leaderboard entry; "known": the
        same, but entries made before the metric may lack it; "never": no column, unless asked for.
    range: smallest and largest value.
    ranks: whether it comes from the order of the scores alone, so that no decision changes it.
    """

    name: str
    average: str
    short: str
    definition: str
    formula: str
    nan_policy: str
    oracle: str
    citation: str
    compute: Form
    leave_one_out: Form | None = None
    column: Literal["always", "known", "never"] = "known"
    range: tuple[float, float] = (0.0, 1.0)
    ranks: bool = False

    @property
    def head(self) -> str:
        """Over its column: `Macro AP`."""
        return f"{self.average.capitalize()} {self.short}".strip()

    @property
    def text(self) -> str:
        """In running text: `macro-AP`, `micro precision`."""
        return self.name.replace("_ap", "-AP").replace("f1", "F1").replace("_", " ")

    def influence(self, episodes: Episodes) -> Float64:
        """float64 [E, Q]: the value of each episode less that without each of its queries."""
        if self.leave_one_out is not None:
            return self.leave_one_out(episodes)
        E, Q, _ = episodes.shape
        if Q == 1:
            return np.full((E, 1), np.nan)
        left = [self.compute(episodes.without(query)) for query in range(Q)]
        return self.compute(episodes)[:, None] - np.stack(left, axis=1)

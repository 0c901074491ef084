"""What a metric is: one object that says what its name stands for and computes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from mlfsic_bench.metrics import decisions as at
from mlfsic_bench.metrics.inputs import FloatArray, check_binary, check_scores

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


class Episodes:
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
    def counts(self) -> at.Counts:
        """Of each label, int64 [E, L]."""
        return at.count(self.decisions, self.targets)

    @cached_property
    def counts_without(self) -> at.Counts:
        """Of each label without each query, int64 [E * Q, L]: row e * Q + q is without query q."""
        E, Q, L = self.shape
        own = self.decisions & self.targets, self.decisions, self.targets
        whole = self.counts.hits, self.counts.predicted, self.counts.positive
        pairs = zip(whole, own, strict=True)
        return at.Counts(*((a[:, None, :] - b).reshape(E * Q, L) for a, b in pairs))

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
    formula: in the notation of `registry`.
    nan_policy: when it is undefined, and what happens then.
    oracle: the independent implementation that tests compare it with, to 1e-12.
    citation: a work that defines it.
    compute: float64 [E], its value in each episode; NaN where undefined.
    leave_one_out: float64 [E, Q], its value less that without each query; NaN where one of the two
        is undefined. None: computed anew without each query, which is slower.
    column: "always": a column of every table and a figure of every leaderboard entry; "known": the
        same, but entries made before the metric may lack it; "never": no column, unless asked for.
    range: smallest and largest value.
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

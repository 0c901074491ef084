"""Every metric of every episode: the convention is per episode, then the mean over episodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mlfsic_bench.metrics.metric import Episodes, Float64
from mlfsic_bench.metrics.registry import METRICS, check_names


def episode_metrics(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    decisions: npt.ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Float64]:
    """Each metric's value in each episode, float64 [E], by name; definitions in `registry`.

    Parameters
    ----------
    scores, targets, decisions: as for `metric.Episodes`.
    names: which metrics, all by default.

    A label without positives is left out of its episode's macro means; `undefined_counts` says how
    often. Raises BenchError for an unknown metric, wrong shapes, scores that are not finite.

    >>> scores = [[[2.0, -1.0], [-0.5, 3.0], [1.0, -2.0], [-3.0, 0.5]]]
    >>> targets = [[[1, 0], [0, 1], [0, 0], [1, 0]]]
    >>> values = episode_metrics(scores, targets, names=["macro_ap", "micro_precision"])
    >>> {name: value.round(4).tolist() for name, value in values.items()}
    {'macro_ap': [0.875], 'micro_precision': [0.5]}
    """
    wanted = check_names(names)
    episodes = Episodes(scores, targets, decisions)
    return {name: METRICS[name].compute(episodes) for name in wanted}


def query_influence(
    scores: npt.ArrayLike,
    targets: npt.ArrayLike,
    decisions: npt.ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Float64]:
    """float64 [E, Q] for each metric: its value in the episode less that without the query.

    Takes what `episode_metrics` takes. NaN where the metric is undefined with or without the query.
    """
    wanted = check_names(names)
    episodes = Episodes(scores, targets, decisions)
    return {name: METRICS[name].influence(episodes) for name in wanted}


def undefined_counts(
    scores: npt.ArrayLike, targets: npt.ArrayLike, decisions: npt.ArrayLike | None = None
) -> dict[str, int]:
    """How often a convention had to step in, over all episodes; for the record.

    Takes what `episode_metrics` takes. Keys: `labels_without_positives` (pairs of episode and label
    left out of macro means), `episodes_without_positives` (NaN), `labels_without_predictions` and
    `episodes_without_predictions` (precision 0).

    >>> undefined_counts([[[-1.0, 2.0]]], [[[1, 0]]])["labels_without_positives"]
    1
    """
    episodes = Episodes(scores, targets, decisions)
    has = np.logical_or.reduce(episodes.targets, axis=1)
    says = np.logical_or.reduce(episodes.decisions, axis=1)
    return {
        "labels_without_positives": int((~has).sum()),
        "episodes_without_positives": int((~has.any(axis=1)).sum()),
        "labels_without_predictions": int((~says).sum()),
        "episodes_without_predictions": int((~says.any(axis=1)).sum()),
    }

"""From scores to decisions: the threshold that is best on val, and the k highest-scored labels.

AP needs no decision. Precision, recall and F1 do, and then say as much about the decision rule as
about the scores. Three rules make them comparable (docs/metrics.md, M80 to M82):

    own     the method's own decisions; score > 0 where it has none
    val     score > t, t = `best_threshold` of the same method's scores on the val episodes
    count   the k highest-scored labels of each query image, k from a label-count head (`top_k`)
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.metrics.metric import check_binary, check_scores

Bool = npt.NDArray[np.bool_]
Rule = Literal["own", "val", "count"]
RULE_TEXTS: dict[Rule, str] = {
    "own": "the method's own decisions, score > 0 where it has none",
    "val": "score > the threshold with the best mean micro-F1 on the method's val episodes",
    "count": "the k highest-scored labels of an image, k predicted by a label-count head",
}
RULES: tuple[Rule, ...] = tuple(RULE_TEXTS)
TIE = 1e-9  # mean F1s so close are equal: many times the error of a sum, less than any difference


def above(scores: npt.ArrayLike, threshold: float) -> Bool:
    """bool [E, Q, L]: score > threshold, strictly; with threshold 0 what `own` is by default.

    >>> above([[[0.5, 0.2]]], 0.2).tolist()
    [[[True, False]]]
    """
    return np.asarray(check_scores(scores).astype(np.float64) > threshold)


def best_threshold(scores: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """The threshold t with the highest mean over episodes of the micro-F1 of `above(scores, t)`.

    Parameters
    ----------
    scores: [E, Q, L], finite. targets: [E, Q, L] of 0 and 1.

    All thresholds are compared: every distinct score, and the lowest score - 1, at which every
    label is predicted. Ties (means within 1e-9) go to the lowest. Episodes without positives have
    no F1 and are left out, scores and all; BenchError when no other is left.

    The mean changes only where t passes a score. Each episode is sorted once, which gives what each
    of its scores adds to the mean; these steps of all episodes, sorted together, add up to it.

    >>> best_threshold([[[3.0, 1.0], [2.0, 0.0]]], [[[1, 0], [1, 0]]])
    1.0
    """
    s = check_scores(scores).astype(np.float64)
    y = check_binary(targets, s.shape, "targets")
    pairs = s.shape[1] * s.shape[2]
    s, y = s.reshape(len(s), pairs), y.reshape(len(s), pairs)
    kept = y.any(axis=1)
    if not kept.any():
        raise BenchError(
            "a threshold can't be chosen without positives",
            expected="an episode in which some query image shows some label",
            found=f"{len(y)} episodes without positives",
            remedy="choose it on other episodes",
        )
    s, y = s[kept], y[kept]
    order = np.argsort(-s, axis=1, kind="stable")
    s, y = np.take_along_axis(s, order, axis=1), np.take_along_axis(y, order, axis=1)
    predicted = np.arange(1, s.shape[1] + 1)
    f1 = 2 * np.cumsum(y, axis=1) / (predicted + y.sum(axis=1, keepdims=True))
    step = np.diff(f1, axis=1, prepend=0.0) / len(s)
    # Within an episode equal scores lie side by side, so that their steps add up to that of all.
    together = np.argsort(-s, axis=None, kind="stable")
    value, mean = s.ravel()[together], np.cumsum(step.ravel()[together])
    last = np.flatnonzero(np.append(value[1:] != value[:-1], True))  # of each group of equal ones
    mean = mean[last]
    best = int(np.flatnonzero(mean >= mean.max() - TIE)[-1])  # the lowest
    below = last[best] + 1  # the highest score that is not predicted
    if below < len(value):
        return float(value[below])
    return float(min(value[-1] - 1, np.nextafter(value[-1], -np.inf)))


def top_k(scores: npt.ArrayLike, counts: npt.ArrayLike) -> Bool:
    """bool [E, Q, L]: the `counts` labels with the highest scores of each query image.

    `counts` is int [E, Q], or one number for all; a query with a count of L or more gets all
    labels. Of equal scores the label that stands first in the split is taken.

    >>> top_k([[[0.1, 0.7, 0.7]]], [[1]]).tolist()
    [[[False, True, False]]]
    """
    s = check_scores(scores)
    k = np.asarray(counts)
    if k.dtype.kind not in "iu" or k.shape not in ((), s.shape[:2]) or (k < 0).any():
        raise BenchError(
            "counts of labels must be whole numbers, one for each query",
            expected=f"int {list(s.shape[:2])}, none below 0",
            found=f"{k.dtype} {list(k.shape)}" + (f" from {k.min()}" if k.size else ""),
            remedy="give one count for each query image, in the episodes' order",
        )
    order = np.argsort(-s, axis=-1, kind="stable")
    chosen = np.zeros(s.shape, np.bool_)
    ranks = np.arange(s.shape[-1]) < k[..., None]
    np.put_along_axis(chosen, order, np.broadcast_to(ranks, s.shape), axis=-1)
    return chosen

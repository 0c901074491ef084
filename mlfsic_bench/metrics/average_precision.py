"""Average precision, exact with ties, for every label of every episode at once.

    AP = sum over distinct thresholds n, highest first, of (R_n - R_{n-1}) P_n

No interpolation. Equal scores form one threshold, so the order in which they are given can't
matter and a constant scorer gets the prevalence. With ranks counted from 1 this is

    AP = 1/m * sum over groups of equal scores of g * t / r

where m counts the positives, g those in the group, t those down to the end of the group, and r is
the rank of the group's last element.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.metrics.inputs import FloatArray, check_binary, check_scores
from mlfsic_bench.metrics.weighted import groups

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


def label_ap(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Float64:
    """float64 [E, L]: the AP of each label in each episode; NaN for a label without positives.

    Parameters
    ----------
    scores: [E, Q, L], finite; only their order matters.
    targets: [E, Q, L] of 0 and 1.

    >>> label_ap([[[0.9], [0.9], [0.3], [0.3]]], [[[1], [0], [1], [0]]]).tolist()
    [[0.5]]
    """
    s = check_scores(scores)
    y = check_binary(targets, s.shape, "targets")
    return ap_by_label(s, y)


def ap_by_label(scores: FloatArray, targets: Bool) -> Float64:
    """`label_ap` for arrays that `inputs` has checked."""
    episodes, queries, labels = scores.shape
    rows = _rows(scores.transpose(0, 2, 1), targets.transpose(0, 2, 1), queries)
    return rows.reshape(episodes, labels)


def ap_of_all_pairs(scores: FloatArray, targets: Bool) -> Float64:
    """float64 [E]: the AP of all Q x L pairs of each episode in one ranking (micro-AP).

    NaN for an episode without positives. Takes arrays that `inputs` has checked.
    """
    episodes, queries, labels = scores.shape
    return _rows(scores, targets, queries * labels).reshape(episodes)


def ap_without(scores: FloatArray, targets: Bool) -> Float64:
    """float64 [..., n]: each row's AP without each of its elements; NaN when no positive is left.

    Parameters
    ----------
    scores: [..., n], finite. targets: bool [..., n].

    Leaving one element of a ranking out moves only the ranks below it, so the AP without each
    element in turn follows from sums over the elements above and below it, and all of them together
    cost as much as one sort. With t and r as at the top of this file,

        m AP = sum over positives of t / r

    and without an element x of group G (x = 1 for a positive, 0 otherwise), positives above G keep
    t / r, those that stay in G get (t - x) / (r - 1), and so do those below.

    >>> ap_without(np.array([3.0, 2.0, 1.0]), np.array([False, True, True])).round(4).tolist()
    [1.0, 0.5, 0.5]
    """
    order = np.argsort(-scores, axis=-1, kind="stable")
    y = np.take_along_axis(targets, order, axis=-1).astype(np.float64)
    first, last = groups(np.take_along_axis(scores, order, axis=-1))

    def through(total: Float64, rank: npt.NDArray[np.int64]) -> Float64:
        """A running sum, up to and including a rank; 0 before the first."""
        padded = np.concatenate([np.zeros((*total.shape[:-1], 1)), total], axis=-1)
        return np.take_along_axis(padded, rank + 1, axis=-1)

    positives = np.cumsum(y, axis=-1)
    t, r = through(positives, last), last + 1.0
    fewer = np.maximum(r - 1, 1)  # a group that ends at rank 1 keeps nothing: its term is 0
    above = through(np.cumsum(y * t / r, axis=-1), first - 1)
    kept = t - through(positives, first - 1) - y
    # below G each term becomes (t - x) / (r - 1)
    shifted, ones = np.cumsum(y * t / fewer, axis=-1), np.cumsum(y / fewer, axis=-1)
    below = shifted[..., -1:] - through(shifted, last)
    below -= y * (ones[..., -1:] - through(ones, last))
    m = positives[..., -1:] - y
    value = np.divide(
        above + kept * (t - y) / fewer + below, m, out=np.full(y.shape, np.nan), where=m > 0
    )
    result: Float64 = np.empty_like(value)
    np.put_along_axis(result, order, value, axis=-1)
    return result


def expected_random_ap(positives: int, total: int) -> float:
    """The expected AP of a random ranking without ties: what chance gets.

    The element at rank k is positive with probability m/n, and the m - 1 other positives are
    spread evenly over the other n - 1 ranks, so

        E[AP] = 1/n * sum over k = 1..n of (1 + (k - 1)(m - 1)/(n - 1)) / k

    >>> round(expected_random_ap(4, 64), 3), round(expected_random_ap(4, 24), 3)
    (0.118, 0.267)
    """
    if not 1 <= positives <= total:
        raise BenchError(
            "chance is defined for 1 or more positives among all elements",
            expected="1 <= positives <= total",
            found=f"{positives} positives of {total}",
            remedy="leave labels without positives out",
        )
    others = Fraction(positives - 1, total - 1) if total > 1 else Fraction(0)
    terms = (float((1 + (k - 1) * others) / k) for k in range(1, total + 1))
    return sum(terms) / total


def _rows(scores: FloatArray, targets: Bool, n: int) -> Float64:
    """float64 [rows]: the AP of each run of n elements of the flattened arrays."""
    # Positives stand last among equal scores, so a group's last positive has the group's last rank
    # and only the positives, a small share, need to be visited.
    value: npt.NDArray[Any]
    if scores.dtype == np.float32:
        value = _packed(scores, targets).reshape(-1, n)
        value.sort(axis=1)
        positive = np.flatnonzero(value & np.uint64(1))
    else:
        s, y = scores.reshape(-1, n), targets.reshape(-1, n)
        order = np.lexsort((y, -s), axis=1)
        value = np.take_along_axis(s, order, axis=1)
        positive = np.flatnonzero(np.take_along_axis(y, order, axis=1))
    rows = len(value)
    row = positive // n
    m = np.bincount(row, minlength=rows)
    value = value.ravel()[positive]
    is_last = np.ones(len(positive), np.bool_)
    is_last[:-1] = (value[1:] != value[:-1]) | (row[1:] != row[:-1])
    last = np.flatnonzero(is_last)
    g = np.diff(last, prepend=-1)
    row = row[last]
    t = last + 1 - (np.cumsum(m) - m)[row]
    r = positive[last] + 1 - row * n
    total = np.bincount(row, weights=g * t / r, minlength=rows)
    ap: Float64 = np.divide(total, m, out=np.full(rows, np.nan), where=m > 0)
    return ap


def _packed(scores: FloatArray, targets: Bool) -> npt.NDArray[np.uint64]:
    """One sortable word per element, C-contiguous: highest score first, positives last among equal.

    The bits of a float32 sort like integers once those of negative numbers are turned over;
    turning over those of the others instead makes the order descending.
    """
    bits = np.ascontiguousarray(scores + np.float32(0)).view(np.uint32)  # -0.0 + 0 is 0.0
    sign = bits >> np.uint32(31)
    bits ^= (np.uint32(0x7FFFFFFF)) * (sign ^ np.uint32(1))
    key = bits.astype(np.uint64)
    key <<= np.uint64(1)
    key |= targets
    return key

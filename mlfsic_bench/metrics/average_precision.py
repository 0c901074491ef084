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

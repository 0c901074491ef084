"""Average precision, exact with ties, for every label of every episode at once.

    AP = sum over distinct thresholds n, highest first, of (R_n - R_{n-1}) P_n

No interpolation. Equal scores form one threshold, so the order in which they are given can't
matter and a constant scorer gets the prevalence. With ranks counted from 1 this is

    AP = 1/m * sum over groups of equal scores of g * t / r

where m counts the positives, g those in the group, t those down to the end of the group, and r is
the rank of the group's last element.

With weights w >= 0 each element counts w times: weight 2 is the element twice, 0 is left out.

The two interpolated APs of PASCAL VOC, with precision P_n and recall R_n at each threshold n, are

    11-point (VOC 2007)      1/11 * sum over r in 0, 0.1, ..., 1 of max over R_n >= r of P_n
    all-point (VOC 2010 on)  sum over n, highest first, of (R_n - R_{n-1}) max over m >= n of P_m

Everingham et al., IJCV 2010, section 4.2, and the development kit of VOC 2012. The kits break
ties by the order of the images.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.metrics.metric import FloatArray, check_binary, check_scores

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
BLOCK = 1 << 14  # elements that leave-one-out values are made of at a time: they fit into a cache
EULER = 0.5772156649015329  # the limit of H_n - log n


class Ranking:
    """Rows of elements, sorted once; `ap` gives each row's AP under any weights.

    Parameters
    ----------
    scores: [..., n], finite. targets: bool [..., n].

    Attributes
    ----------
    order: int64 [..., n], the element at each rank, highest score first.
    """

    def __init__(self, scores: FloatArray, targets: Bool) -> None:
        self.order: Int64 = np.argsort(-scores, axis=-1, kind="stable")
        s = np.take_along_axis(scores, self.order, axis=-1)
        self.targets: Float64 = np.take_along_axis(targets, self.order, axis=-1).astype(np.float64)
        self.first, self.last = groups(s)
        n = scores.shape[-1]
        self.tied = bool((self.last != np.arange(n)).any())

    def ap(self, weights: Float64) -> Float64:
        """float64 [...]: the AP of each row under weights [..., n], in the elements' own order."""
        return self.ap_of_sorted(np.take_along_axis(weights, self.order, axis=-1))

    def ap_of_sorted(self, w: Float64) -> Float64:
        """`ap` for weights that are in the order of ranks already."""
        positive = w * self.targets
        t, r = np.cumsum(positive, axis=-1), np.cumsum(w, axis=-1)
        m = t[..., -1]
        if self.tied:
            t, r = (np.take_along_axis(x, self.last, axis=-1) for x in (t, r))
        p = np.divide(t, r, out=np.zeros_like(t), where=r > 0)
        total = np.einsum("...n,...n->...", positive, p)
        ap: Float64 = np.divide(total, m, out=np.full(m.shape, np.nan), where=m > 0)
        return ap


def groups(s: FloatArray) -> tuple[Int64, Int64]:
    """(first, last): int64 [..., n], the ranks where each element's group of equal scores lies.

    `s` is sorted along its last axis; ranks count from 0.
    """
    n = s.shape[-1]
    rank = np.arange(n)
    change = s[..., 1:] != s[..., :-1]
    edge = np.ones((*s.shape[:-1], 1), np.bool_)
    begins = np.concatenate([edge, change], axis=-1)
    ends = np.concatenate([change, edge], axis=-1)
    first = np.maximum.accumulate(np.where(begins, rank, 0), axis=-1)
    last = np.minimum.accumulate(np.where(ends, rank, n)[..., ::-1], axis=-1)[..., ::-1]
    return first, np.ascontiguousarray(last)


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
    """`label_ap` for arrays that are checked."""
    episodes, queries, labels = scores.shape
    rows = _rows(scores.transpose(0, 2, 1), targets.transpose(0, 2, 1), queries)
    return rows.reshape(episodes, labels)


def ap_of_all_pairs(scores: FloatArray, targets: Bool) -> Float64:
    """float64 [E]: the AP of all Q x L pairs of each episode in one ranking (micro-AP).

    NaN for an episode without positives. Takes checked arrays.
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
    n = scores.shape[-1]
    rows, of_rows = scores.reshape(-1, n), targets.reshape(-1, n)
    result: Float64 = np.empty(rows.shape)
    step = max(1, BLOCK // n)
    for i in range(0, len(rows), step):
        result[i : i + step] = _without(rows[i : i + step], of_rows[i : i + step])
    return result.reshape(scores.shape)


def _without(scores: FloatArray, targets: Bool) -> Float64:
    """`ap_without` of a few rows [rows, n]."""
    order, s, y = _ranked(scores, targets)
    first = last = np.arange(s.shape[1])
    tied = bool((s[:, 1:] == s[:, :-1]).any())
    if tied:
        first, last = groups(s)

    def through(total: Float64) -> Float64:
        """A running sum, up to and including the group."""
        return np.take_along_axis(total, last, axis=1) if tied else total

    def before(total: Float64) -> Float64:
        """A running sum, up to the group."""
        padded = np.concatenate([np.zeros((len(total), 1)), total], axis=1)
        return np.take_along_axis(padded, first, axis=1) if tied else padded[:, :-1]

    positives = np.cumsum(y, axis=1)
    t, r = through(positives), last + 1.0
    fewer = np.maximum(r - 1, 1)  # a group that ends at rank 1 keeps nothing: its term is 0
    total = before(np.cumsum(y * t / r, axis=1))
    if tied:  # else an element is alone in its group
        total = total + (t - before(positives) - y) * (t - y) / fewer
    # below G each term becomes (t - x) / (r - 1)
    shifted, ones = np.cumsum(y * t / fewer, axis=1), np.cumsum(y / fewer, axis=1)
    below = shifted[:, -1:] - through(shifted)
    below -= y * (ones[:, -1:] - through(ones))
    m = positives[:, -1:] - y
    value = np.divide(total + below, m, out=np.full(y.shape, np.nan), where=m > 0)
    result: Float64 = np.empty_like(value)
    np.put_along_axis(result, order, value, axis=1)
    return result


def _ranked(scores: FloatArray, targets: Bool) -> tuple[Int64, npt.NDArray[Any], Float64]:
    """(element, score, target) at each rank of rows [rows, n], highest first.

    The scores of float32 come as whole numbers in whose order they are: whatever can be said of
    equal ones stays true.
    """
    n = scores.shape[1]
    if scores.dtype != np.float32 or n >= 1 << 31:
        order: Int64 = np.argsort(-scores, axis=1, kind="stable")
        y = np.take_along_axis(targets, order, axis=1).astype(np.float64)
        return order, np.take_along_axis(scores, order, axis=1), y
    key = _descending(scores) << np.uint64(32)
    key |= np.arange(n, dtype=np.uint64) << np.uint64(1)
    key |= targets
    key.sort(axis=1)
    low = key.astype(np.uint32)
    place = (low >> np.uint32(1)).astype(np.int64)
    return place, key >> np.uint64(32), (low & np.uint32(1)).astype(np.float64)


def expected_random_ap(positives: int, total: int) -> float:
    """The expected AP of a random ranking without ties: what chance gets.

    The element at rank k is positive with probability m/n, and the m - 1 other positives are
    spread evenly over the other n - 1 ranks, so with r = (m - 1)/(n - 1)

        E[AP] = 1/n * sum over k = 1..n of (1 + (k - 1) r) / k = ((1 - r) H_n + n r) / n

    where H_n = 1 + 1/2 + ... + 1/n.

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
    return float(random_ap(np.array(positives), total))


def random_ap(positives: npt.NDArray[np.integer[Any]], total: int) -> Float64:
    """`expected_random_ap` of each of these numbers of positives; NaN where there is none."""
    r = (positives - 1) / max(total - 1, 1)
    level: Float64 = ((1 - r) * _harmonic(total) + total * r) / total
    return np.where(positives > 0, level, np.nan)


def _harmonic(n: int) -> float:
    """1 + 1/2 + ... + 1/n."""
    if n < 100:
        return math.fsum(1 / k for k in range(1, n + 1))
    # Euler and Maclaurin; the next term is below 1 / (252 n^6)
    return math.log(n) + EULER + 1 / (2 * n) - 1 / (12 * n**2) + 1 / (120 * n**4)


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
    """A sortable number per element, C-contiguous: highest score first, positives last if equal."""
    key = _descending(scores) << np.uint64(1)
    key |= targets
    return key


def _descending(scores: FloatArray) -> npt.NDArray[np.uint64]:
    """Whole numbers below 2**32 that are the smaller the higher a float32 score; C-contiguous.

    The bits of a float32 sort like integers once those of negative numbers are turned over;
    turning over those of the others instead makes the order descending.
    """
    bits = np.ascontiguousarray(scores + np.float32(0)).view(np.uint32)  # -0.0 + 0 is 0.0
    sign = bits >> np.uint32(31)
    bits ^= (np.uint32(0x7FFFFFFF)) * (sign ^ np.uint32(1))
    return bits.astype(np.uint64)


def eleven_point_ap(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Float64:
    """float64 [E, L]: the 11-point AP of scores and targets [E, Q, L]; NaN without positives.

    >>> eleven_point_ap([[[2.0], [1.0]]], [[[0], [1]]]).tolist()
    [[0.5]]
    """
    p, t, m = _curve(scores, targets)[:3]
    best = np.zeros(m.shape)
    for k in range(11):
        reached = 10 * t >= k * m[..., None]  # whole numbers: 0.3 is not 3 / 10 in binary
        best += np.where(reached, p, 0.0).max(axis=-1)
    return np.where(m > 0, best / 11, np.nan)


def all_point_ap(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Float64:
    """float64 [E, L]: the all-point AP of scores and targets [E, Q, L]; NaN without positives.

    >>> all_point_ap([[[3.0], [2.0], [1.0]]], [[[1], [0], [1]]]).round(4).tolist()
    [[0.8333]]
    """
    p, _, m, y = _curve(scores, targets)
    envelope = np.maximum.accumulate(p[..., ::-1], axis=-1)[..., ::-1]
    total = (y * envelope).sum(axis=-1)
    result: Float64 = np.divide(total, m, out=np.full(m.shape, np.nan), where=m > 0)
    return result


def _curve(
    scores: npt.ArrayLike, targets: npt.ArrayLike
) -> tuple[Float64, npt.NDArray[np.int64], npt.NDArray[np.int64], Bool]:
    """(precision [E, L, Q], positives so far [E, L, Q], positives [E, L], targets by rank)."""
    s: FloatArray = check_scores(scores)
    y = check_binary(targets, s.shape, "targets")
    s, y = s.transpose(0, 2, 1), y.transpose(0, 2, 1)
    order = np.argsort(-s, axis=-1, kind="stable")
    y = np.take_along_axis(y, order, axis=-1)
    last = groups(np.take_along_axis(s, order, axis=-1))[1]
    t = np.take_along_axis(np.cumsum(y, axis=-1, dtype=np.int64), last, axis=-1)
    precision: Float64 = t / (last + 1)
    positives: npt.NDArray[np.int64] = y.sum(axis=-1, dtype=np.int64)
    return precision, t, positives, y


def precision_at_recalls(scores: FloatArray, targets: Bool, steps: int) -> Float64:
    """float64 [rows, steps]: precision at the recalls k / steps, k = 1 ... steps, of each ranking.

    Parameters
    ----------
    scores: [rows, n], finite. targets: bool [rows, n].

    The precision at recall r is that of the highest threshold whose recall reaches r; nothing is
    interpolated, equal scores are one threshold. Where the number of positives divides `steps` the
    mean of a row is its AP exactly. NaN for rows without positives.

    >>> s, y = np.array([[3.0, 2.0, 1.0, 0.0]]), np.array([[True, False, True, False]])
    >>> precision_at_recalls(s, y, 4).round(3).tolist()
    [[1.0, 1.0, 0.667, 0.667]]
    """
    result = np.full((len(scores), steps), np.nan)
    k = np.arange(1, steps + 1)
    for i, (s, y) in enumerate(zip(scores, targets, strict=True)):
        m = int(y.sum())
        if not m:
            continue
        order = np.argsort(-s, kind="stable")
        s, y = s[order], y[order]
        t = np.cumsum(y)
        # the rank that ends the group of equal scores each element is in
        ends = np.append(np.flatnonzero(s[1:] != s[:-1]), len(s) - 1)
        end = ends[np.searchsorted(ends, np.arange(len(s)))]
        precision = t[end] / (end + 1)
        needed = -(-k * m // steps)  # ceil(k m / steps) positives give recall k / steps
        result[i] = precision[np.searchsorted(t, needed)]
    return result

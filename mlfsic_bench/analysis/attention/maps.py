"""What an attention map says of an object: each (support image, label) of a run, once.

The image was squashed whole to the network's input, so cell (i, j) of an h x w map stands for the
rectangle from (i H/h, j W/w) to ((i+1) H/h, (j+1) W/w) of the H x W image (docs/attention.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.calls import method_call

if TYPE_CHECKING:
    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.methods.contract import Method, Support

TOLERANCE = 15.0  # pixels of an image squashed to FRAME x FRAME
FRAME = 224.0
MEASURED = ("pointing", "tolerant", "other", "share")  # the rows of Pair's arrays

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pair:
    """One label on one image.

    Attributes
    ----------
    image_id, label: which; labels: how many labels of the part the image carries.
    area: share of the image that the object covers.
    grid: (h, w) of the map.
    found: float64 [4, 1 + heads]; MEASURED of the heads together (column 0) and of each head.
    cells: float64 [1 + heads]; over how many cells the weights spread (`effective_cells`), column 0
        the mean over heads.
    chance: float64 [4]; the same of attention that is equal everywhere.
    centre: float64 [4]; the same of attention that lies all in the middle of the image.
    """

    image_id: str
    label: str
    labels: int
    area: float
    grid: tuple[int, int]
    found: Floats
    cells: Floats
    chance: Floats
    centre: Floats


def measure_pair(
    image_id: str,
    label: str,
    labels: int,
    scores: Floats,
    masks: dict[str, Bools],
) -> Pair:
    """The values of one map: scores before the softmax [heads, h, w], and the image's objects."""
    h, w = scores.shape[1:]
    mask = masks[label]
    covered = coverage(mask, h, w)
    on = centres(mask, h, w)
    others = [centres(other, h, w) for name, other in masks.items() if name != label]
    hits = (on, near(mask, h, w), np.any([np.zeros_like(on), *others], 0) & ~on)
    maps = np.concatenate([scores.sum(0, keepdims=True), scores])
    mu = softmax(scores)
    shares, spread = (mu * covered).sum((1, 2)), effective_cells(mu)
    centre = middle(h, w)
    return Pair(
        image_id=image_id,
        label=label,
        labels=labels,
        area=float(covered.mean()),
        grid=(h, w),
        found=np.stack(
            [*(at_the_top(maps, hit) for hit in hits), np.append(shares.mean(), shares)]
        ),
        cells=np.append(spread.mean(), spread),
        chance=np.array([value.mean() for value in (*hits, covered)]),
        centre=np.array([at_the_top(centre, value) for value in (*hits, covered)]),
    )


def measure_pairs(
    method: Method, supports: Iterable[Support], dataset: Dataset
) -> tuple[list[Pair], int]:
    """(pairs in the order met, how many more have no known object).

    A pair that several supports have is measured in the first of them. Raises BenchError for a
    method without `attention_scores` and for scores that are not finite [m, heads, h, w].
    """
    scores_of = getattr(method, "attention_scores", None)
    if scores_of is None:
        raise no_attention(method.name)
    pairs: list[Pair] = []
    seen: set[str] = set()
    unknown = 0
    for support in supports:
        ids = support.images.ids
        carried = support.targets.cpu().numpy() > 0
        new = [row for row, image_id in enumerate(ids) if image_id not in seen]
        seen.update(ids)
        masks = {row: dataset.masks(ids[row]) for row in new}
        for column, label in enumerate(support.labels):
            carriers = np.flatnonzero(carried[:, column]).tolist()
            known = [row for row in carriers if row in masks and label in masks[row]]
            unknown += sum(row in masks for row in carriers) - len(known)
            if not known:
                continue
            with method_call(method.name, "while giving attention scores"):
                maps = scores_of(support, column).detach().double().cpu().numpy()
            _check(method.name, maps, len(carriers))
            for row in known:
                scores, count = maps[carriers.index(row)], int(carried[row].sum())
                pairs.append(measure_pair(ids[row], label, count, scores, masks[row]))
    return pairs, unknown


@dataclass(frozen=True)
class Entropy:
    """How evenly the weights of a run's attention lie over the places of the support images.

    Attributes
    ----------
    share: entropy as a share of its most, log(places); 1 is a mean over all places. The mean over
        the (episode, label) pairs `maps`, each a mean over heads.
    lowest, highest: the labels' means that lie farthest apart.
    episodes, maps: how many were measured.
    """

    share: float
    lowest: tuple[str, float]
    highest: tuple[str, float]
    episodes: int
    maps: int


def entropy_of(method: Method, supports: Iterable[Support]) -> Entropy:
    """The entropy of the attention over all places of all support images of each label.

    A place is a cell of one of the label's images, as in the model's softmax; where a method gives
    `attention_weights`, these count, else the softmax of its scores. Labels that no support image
    carries, or whose images have one place together, are left out. Raises BenchError as
    `measure_pairs`.
    """
    scores_of = getattr(method, "attention_scores", None)
    if scores_of is None:
        raise no_attention(method.name)
    weights_of = getattr(method, "attention_weights", None)
    shares: dict[str, list[float]] = {}
    episodes = 0
    for support in supports:
        episodes += 1
        carriers = (support.targets > 0).sum(0).tolist()
        for column, label in enumerate(support.labels):
            if not carriers[column]:
                continue
            with method_call(method.name, "while giving attention scores"):
                given = (weights_of or scores_of)(support, column).detach().double().cpu().numpy()
            _check(method.name, given, int(carriers[column]))
            flat = given.swapaxes(0, 1).reshape(given.shape[1], 1, -1)  # heads, 1, places
            if flat.shape[2] < 2:
                continue
            mu = flat / flat.sum(2, keepdims=True) if weights_of else softmax(flat)
            entropy = np.log(effective_cells(mu)).mean()
            shares.setdefault(label, []).append(float(entropy) / np.log(flat.shape[2]))
    if not shares:
        raise no_attention(method.name)
    means = sorted((float(np.mean(own)), label) for label, own in shares.items())
    every = [share for own in shares.values() for share in own]
    (low, lowest), (high, highest) = means[0], means[-1]
    share = float(np.mean(every))
    return Entropy(share, (lowest, low), (highest, high), episodes, len(every))


def no_attention(name: str) -> BenchError:
    """The error for a method that has no attention over places."""
    return BenchError(
        f"the method {name!r} has no attention to show",
        expected="a method with `attention_scores(support, label)`, as word-guided-attention",
        found="none",
        remedy="name a run of such a method",
    )


def _check(name: str, maps: Floats, carriers: int) -> None:
    shaped = maps.ndim == 4 and len(maps) == carriers and 0 not in maps.shape
    if shaped and np.isfinite(maps).all():
        return
    raise BenchError(
        f"the method {name!r} gave attention scores that can't be measured",
        expected=f"finite scores [m, heads, h, w] of the {carriers} support images with the label",
        found="scores that are not finite" if shaped else f"the shape {list(maps.shape)}",
        remedy="correct the method's attention_scores",
    )


def coverage(mask: Bools, h: int, w: int) -> Floats:
    """float64 [h, w]: the share of each cell's area that the object covers.

    Its mean is the object's share of the image. A pixel that cells share counts in parts.

    >>> mask = np.zeros((3, 3), bool)
    >>> mask[:, 1] = True
    >>> coverage(mask, 1, 2).round(3).tolist()
    [[0.333, 0.333]]
    """
    shares: Floats = _overlap(h, mask.shape[0]) @ mask @ _overlap(w, mask.shape[1]).T
    return shares


def centres(mask: Bools, h: int, w: int) -> Bools:
    """bool [h, w]: whether the pixel at the cell's centre is on the object."""
    y = ((np.arange(h) + 0.5) * mask.shape[0] / h).astype(np.int64)
    x = ((np.arange(w) + 0.5) * mask.shape[1] / w).astype(np.int64)
    return mask[np.ix_(y, x)]


def near(mask: Bools, h: int, w: int) -> Bools:
    """bool [h, w]: whether the object is within 15 pixels of the cell's centre.

    Pixels as in an image squashed to 224 x 224: the tolerance of Zhang et al. (Top-Down Neural
    Attention by Excitation Backprop, IJCV 2018) at the usual input size.
    """
    hit = centres(mask, h, w).copy()
    for i, (rows, down) in enumerate(_windows(h, mask.shape[0])):
        for j, (columns, across) in enumerate(_windows(w, mask.shape[1])):
            disc = down[:, None] + across[None, :] <= TOLERANCE**2
            hit[i, j] |= bool((mask[rows, columns] & disc).any())
    return hit


def middle(h: int, w: int) -> Floats:
    """float64 [h, w]: scores that are highest in the middle cell (or the two or four there)."""
    y, x = np.arange(h) - (h - 1) / 2, np.arange(w) - (w - 1) / 2
    scores: Floats = -(y[:, None] ** 2) - x[None, :] ** 2
    return scores


def at_the_top(scores: Floats, values: npt.NDArray[np.generic]) -> Floats:
    """float64 [...]: the mean of `values` [h, w] over the cells where `scores` [..., h, w] peak.

    Almost always one cell. Where several share the highest score, this is what picking one of them
    at random gives on average, so a map that is the same everywhere gives the value of chance.
    """
    peak = scores == scores.max((-2, -1), keepdims=True)
    means: Floats = (peak * values).sum((-2, -1)) / peak.sum((-2, -1))
    return means


def softmax(scores: Floats) -> Floats:
    """float64 [..., h, w]: the weights mu within each map; they sum to 1."""
    weights = np.exp(scores - scores.max((-2, -1), keepdims=True))
    mu: Floats = weights / weights.sum((-2, -1), keepdims=True)
    return mu


def effective_cells(mu: Floats) -> Floats:
    """float64 [...]: exp of the entropy of the weights mu [..., h, w].

    From 1, all on one cell, to h w, equal everywhere.
    """
    logs = np.log(np.where(mu > 0, mu, 1.0))
    cells: Floats = np.exp(-(mu * logs).sum((-2, -1)))
    return cells


@lru_cache(maxsize=64)
def _overlap(cells: int, pixels: int) -> Floats:
    # [cells, pixels]: which share of a cell's length each pixel makes up; rows sum to 1.
    edges = np.arange(cells + 1) * pixels / cells
    at = np.arange(pixels)
    low = np.maximum(edges[:-1, None], at)
    high = np.minimum(edges[1:, None], at + 1)
    shares: Floats = np.clip(high - low, 0, None) * cells / pixels
    return shares


@lru_cache(maxsize=64)
def _windows(cells: int, pixels: int) -> list[tuple[slice, Floats]]:
    # For each cell the pixels within the tolerance of its centre, and their squared distances.
    away = (np.arange(pixels) + 0.5) * FRAME / pixels
    found = []
    for cell in range(cells):
        squares = (away - (cell + 0.5) * FRAME / cells) ** 2
        inside = np.flatnonzero(squares <= TOLERANCE**2)
        first, end = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
        found.append((slice(first, end), squares[first:end]))
    return found

"""From an object's mask to the cells of an attention map, and from a map to a hit.

The image was squashed whole to the network's input, so cell (i, j) of an h x w map stands for the
rectangle from (i H/h, j W/w) to ((i+1) H/h, (j+1) W/w) of the H x W image (docs/attention.md).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

TOLERANCE = 15.0  # pixels of an image squashed to FRAME x FRAME
FRAME = 224.0

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


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
    at random gives on average, so a map that is the same everywhere gives the chance figure.
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

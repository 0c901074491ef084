"""The label graph of `kggr`: co-occurrence between base labels, word similarity elsewhere.

A label graph is a matrix A [N, N]; A[i, j] says how much label i listens to label j.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def cooccurrence(targets: Tensor) -> Tensor:
    """float [L, L]: P(j | i), the share of the images of label i that show label j too.

    `targets` is [n, L] of 0 and 1, on base training images. The diagonal is 1; the row of a label
    without images is 0 elsewhere.

    >>> cooccurrence(torch.tensor([[1.0, 1], [1, 0], [0, 0]])).tolist()
    [[1.0, 0.5], [1.0, 1.0]]
    """
    Y = (targets > 0).to(targets.dtype)
    together = Y.T @ Y
    A = together / together.diagonal().clamp(min=1)[:, None]
    return A.fill_diagonal_(1)


def word_edges(words: Tensor, scale: float) -> Tensor:
    """float [N, N]: softmax over j != i of scale * cos(x_i, x_j); the diagonal is 0.

    `words` is [N, d_w], N >= 2; every row sums to 1.
    """
    x = normalize(words, dim=1)
    similarity = scale * (x @ x.T)
    return similarity.fill_diagonal_(-torch.inf).softmax(1)


def label_graph(base: Tensor, words: Tensor, scale: float) -> Tensor:
    """float [N, N]: the graph of base and novel labels together, base labels first.

    Edges between two base labels are `base` [B, B]; every edge that touches a novel label is that
    of `word_edges` over all N labels; the diagonal is 1, as in `base`.
    """
    A = word_edges(words, scale)
    A[: len(base), : len(base)] = base
    return A.fill_diagonal_(1)


def from_neighbours(rows: Tensor, words: Tensor, scale: float) -> Tensor:
    """float [N - B, d]: for each novel label the mean of `rows` [B, d] of the base labels.

    Weights are a softmax over base labels of scale * cos of the label vectors `words` [N, d_w].
    """
    x = normalize(words, dim=1)
    B = len(rows)
    return (scale * (x[B:] @ x[:B].T)).softmax(1) @ rows

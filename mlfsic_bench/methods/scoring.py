"""Scores between vectors, and dropout from an explicit generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Generator, Tensor

ScoreForm = Literal["cosine", "margin_distance"]


def score(x: Tensor, y: Tensor, lam: float, form: ScoreForm) -> Tensor:
    """The logit of every row of x with every row of y, equations (2) and (4).

    x: [a, d], y: [b, d]; returns [a, b]. `cosine` is the paper's lam * cos(x, y); `margin_distance`
    is lam * (1 - ||x/|x| - y/|y|||), the form of the authors' later code: the same ranking, but a
    logit of 0 at cos = 0.5 instead of cos = 0.
    """
    x, y = functional.normalize(x, dim=-1), functional.normalize(y, dim=-1)
    if form == "cosine":
        return lam * (x @ y.T)
    # Differences, not 2 - 2cos: that form loses half the digits where x and y nearly agree.
    distance = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    return lam * (1 - distance)


def dropout(x: Tensor, p: float, generator: Generator | None) -> Tensor:
    """`x` with each entry zeroed with probability p and the rest scaled by 1 / (1 - p).

    The mask is drawn on the CPU, so it is the same on every device. Without a generator (when not
    training) `x` comes back as it is.
    """
    if generator is None or p == 0:
        return x
    keep = torch.rand(x.shape, generator=generator) >= p
    return x * keep.to(x.device, x.dtype) / (1 - p)

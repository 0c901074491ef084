"""Attention of labels over the locations of the images that carry them, on sparse pairs.

A label attends only to images that carry it, and an image carries few labels. So the pairs (image,
label) are laid out as slots: image i has K of them, as many as the label-richest image needs, and
attention is one batched product per image over its own slots. Moving rows between labels and slots
is a product with a small one-hot matrix, whose gradient is again a product; on a CPU that is faster
than indexing and its gradient, a scatter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Slots:
    """The pairs (image, label) of S images and C labels.

    Attributes
    ----------
    label: int64 [S, K], the label of each slot; anything where the slot is empty.
    filled: bool [S, K]; an image's filled slots come first, in the order of the labels.
    one_hot: float [S * K, C], row of a filled slot: 1 at its label; row of an empty slot: 0.
    """

    label: Tensor
    filled: Tensor
    one_hot: Tensor

    @classmethod
    def of(cls, targets: Tensor, dtype: torch.dtype) -> Slots:
        """The slots of float or bool targets [S, C]; a label is carried where it is above 0."""
        carries = targets > 0
        S, C = carries.shape
        count = carries.sum(1)
        K = max(int(count.max()), 1) if S else 1
        label = torch.argsort(carries.to(torch.uint8), dim=1, descending=True, stable=True)[:, :K]
        filled = torch.arange(K, device=targets.device) < count[:, None]
        one_hot = torch.zeros(S, K, C, dtype=dtype, device=targets.device)
        one_hot.scatter_(2, label[:, :, None], filled[:, :, None].to(dtype))
        return cls(label, filled, one_hot.view(S * K, C))


def slot_scores(rows: Tensor, maps: Tensor, slots: Slots) -> Tensor:
    """Attention scores before the softmax, [S, K, H, P]; 0 in empty slots.

    rows: [C, H, n], each label's query per head, carried into the space of the maps.
    maps: [S, n, P], P locations of n channels per image.
    """
    C, H, n = rows.shape
    S, K = slots.filled.shape
    gathered = (slots.one_hot @ rows.reshape(C, H * n)).view(S, K * H, n)
    return torch.bmm(gathered, maps).view(S, K, H, -1)


def pool_joint(rows: Tensor, maps: Tensor, slots: Slots) -> Tensor:
    """For each label and head, the mean of the maps under one softmax over all its images.

    The sum over i of mu_i u_i of section 4, i running over all l = h * w * m locations: [C, H, n].
    0 for a label that no image carries.
    """
    C, H, n = rows.shape
    a = slot_scores(rows, maps, slots)
    S, K, _, P = a.shape
    top = _label_max(a, slots, C)
    e = (a - top[slots.label][..., None]).exp() * slots.filled[:, :, None, None]
    total = slots.one_hot.T @ e.sum(3).view(S * K, H)  # [C, H], at least 1 where a label is carried
    pooled = torch.bmm(e.view(S, K * H, P), maps.transpose(1, 2)).view(S * K, H * n)
    summed = (slots.one_hot.T @ pooled).view(C, H, n)
    return summed / torch.where(total > 0, total, 1)[..., None]


def pool_pairs(rows: Tensor, maps: Tensor, slots: Slots) -> tuple[Tensor, Tensor]:
    """For each filled slot and head: its own softmax mean of the map, and its log-sum-exp.

    Returns ([N, H, n], [N, H]) with the N filled slots in the order of images, then labels. The
    joint mean of a label is the mean of its pairs' under a softmax over their log-sum-exps.
    """
    S, K = slots.filled.shape
    a = slot_scores(rows, maps, slots)
    H, P = a.shape[2:]
    mu = a.softmax(3)
    pooled = torch.bmm(mu.view(S, K * H, P), maps.transpose(1, 2)).view(S, K, H, -1)
    return pooled[slots.filled], a.logsumexp(3)[slots.filled]


def _label_max(a: Tensor, slots: Slots, C: int) -> Tensor:
    """[C, H]: the largest score of each label and head, to keep exp in range; no gradient."""
    with torch.no_grad():
        S, K, H, _ = a.shape
        high = a.amax(3).masked_fill(~slots.filled[:, :, None], -torch.inf).view(S * K, H)
        index = slots.label.reshape(S * K, 1).expand(S * K, H)
        top = torch.full((C, H), -torch.inf, dtype=a.dtype, device=a.device)
        top.scatter_reduce_(0, index, high, "amax")
        return torch.where(top.isfinite(), top, 0)

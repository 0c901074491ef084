"""Prototypes of many episodes at once, from what no episode changes.

The weights and the label embeddings are fixed, so for each pair (image, label) the pooled value of
every head and the log-sum-exp of its scores are the same in every episode. They are computed once
per unique image; a prototype is then a softmax over the log-sum-exps of its episode's images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from mlfsic_bench.methods.contract import Images
from mlfsic_bench.methods.word_guided.attention_pool import Pairs, pool_pairs
from mlfsic_bench.methods.word_guided.model import features

if TYPE_CHECKING:
    from torch import Tensor

    from mlfsic_bench.methods.contract import Support
    from mlfsic_bench.methods.word_guided.model import WordGuidedAttention

IMAGES_AT_ONCE = 64  # maps in memory at a time: 64 x 2048 x 49 float32 are 26 MB


@dataclass(frozen=True, eq=False)
class PairTable:
    """One row for each pair of a unique image and a label that some episode says it carries.

    Attributes
    ----------
    row: int64 [images, C] on the CPU, the row of a pair or -1.
    value: [rows, n_a * d_a] heads side by side (joint), or [rows, d_j] prototypes (per image).
    weight: [rows, n_a] log-sum-exps (joint), or [rows, 1] scores (2) (per image).
    """

    row: npt.NDArray[np.int64]
    value: Tensor
    weight: Tensor


def shares_labels(supports: Sequence[Support]) -> bool:
    """Whether all supports have the same labels, label embeddings and feature source."""
    first = supports[0]
    return all(
        s.labels == first.labels
        and s.images.source is first.images.source
        and s.embeddings is not None
        and first.embeddings is not None
        and (s.embeddings is first.embeddings or torch.equal(s.embeddings, first.embeddings))
        for s in supports[1:]
    )


def prototypes_of_all(model: WordGuidedAttention, supports: Sequence[Support]) -> list[Tensor]:
    """The prototypes [C, d_j] of each support, as `model.prototypes` gives them one by one.

    For models that attend, with supports that share their labels (`shares_labels`).
    """
    w = supports[0].embeddings
    assert w is not None
    E, C = len(supports), len(w)
    ids = [image for support in supports for image in support.images.ids]
    episode = np.repeat(np.arange(E), [len(support.images) for support in supports])
    carries = torch.cat([support.targets for support in supports]).cpu().numpy() > 0
    unique, image = np.unique(np.asarray(ids, dtype=object).astype(str), return_inverse=True)
    union = np.zeros((len(unique), C), dtype=bool)
    np.logical_or.at(union, image, carries)
    table = pair_table(model, [str(i) for i in unique], union, supports[0])

    drawn, label = np.nonzero(carries)
    device = table.value.device
    row = torch.as_tensor(table.row[image[drawn], label], device=device)
    group = torch.as_tensor(episode[drawn] * C + label, device=device)
    p = _weighted(table.value[row], table.weight[row], group, E * C)
    if model.params.aggregation == "joint":
        p = model.mlp(p, None)
    carried = torch.zeros(E * C, dtype=torch.bool, device=device).index_fill_(0, group, True)
    w_hat = model.w_hat(w).repeat(E, 1)
    return list(torch.where(carried[:, None], p, w_hat).view(E, C, -1))


def pair_table(
    model: WordGuidedAttention, ids: Sequence[str], union: npt.NDArray[np.bool_], support: Support
) -> PairTable:
    """The table of these images and the labels `union` [images, C] they carry somewhere."""
    w, source = support.embeddings, support.images.source
    assert w is not None
    w_hat = model.w_hat(w)
    rows, _ = model.rows(w_hat)
    joint = model.params.aggregation == "joint"
    # Images with equally many labels stand together: a batch then has few runs (see Pairs).
    order = np.argsort(union.sum(1), kind="stable")
    values, weights = [], []
    for start in range(0, len(order), IMAGES_AT_ONCE):
        batch = order[start : start + IMAGES_AT_ONCE]
        images = Images(tuple(ids[i] for i in batch), source)
        f_loc, f_glo = features(images, model.reads_local)
        targets = torch.as_tensor(union[batch], device=f_glo.device)
        maps = model.maps(f_loc, f_glo, None)
        pooled, lse = pool_pairs(rows, maps, Pairs.of(targets, maps.dtype))
        value = model.values(pooled)
        if joint:
            values.append(value)
            weights.append(lse)
        else:
            values.append(model.mlp(value, None))
            s = model.score(model.f_hat(f_glo), w_hat)
            weights.append(s[targets][:, None])
    row = np.full(union.shape, -1, dtype=np.int64)
    at, label = np.nonzero(union[order])
    row[order[at], label] = np.arange(len(at))
    return PairTable(row, torch.cat(values), torch.cat(weights))


def _weighted(value: Tensor, weight: Tensor, group: Tensor, groups: int) -> Tensor:
    """[groups, d]: each group's mean of value [N, d] under a softmax of weight [N, heads]."""
    heads = weight.shape[1]
    index = group[:, None].expand(-1, heads)
    top = torch.full((groups, heads), -torch.inf, dtype=weight.dtype, device=weight.device)
    top.scatter_reduce_(0, index, weight, "amax")
    e = (weight - top[group]).exp()
    total = torch.zeros_like(top).index_add_(0, group, e)
    mu = e / total[group]
    parts = (value.view(len(value), heads, -1) * mu[:, :, None]).flatten(1)
    return parts.new_zeros(groups, parts.shape[1]).index_add_(0, group, parts)

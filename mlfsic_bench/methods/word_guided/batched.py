"""Prototypes of many episodes at once, from what no episode changes.

The weights and the label embeddings are fixed, so for each pair (image, label) the pooled value of
every head and the log-sum-exp of its scores are the same in every episode. They are computed once
per unique image; a prototype is then a softmax over the log-sum-exps of its episode's images.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from mlfsic_bench.features.sources import StoredFeatures
from mlfsic_bench.methods.contract import Images
from mlfsic_bench.methods.limited import LimitedFeatures
from mlfsic_bench.methods.word_guided.attention_pool import Pairs, pool_pairs
from mlfsic_bench.methods.word_guided.model import features

if TYPE_CHECKING:
    from torch import Tensor

    from mlfsic_bench.methods.contract import Support
    from mlfsic_bench.methods.word_guided.model import WordGuidedAttention

KEPT_BYTES = 1 << 28  # of pooled maps between calls: 4,000 pairs of 8 heads and 2048 channels
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


class Attended:
    """What no episode changes: of weights and label embeddings alone, and of images seen lately.

    Episodes are adapted to some at a time, and many images come again. What attention pools of an
    image depends on its map, its labels and the weights: the products of an image are its own,
    whichever images stand beside it in a batch, and have the same bits. That holds of stored maps
    on a CPU. A GPU may choose other kernels for other batches, and live maps come from a network
    that is run on a batch: there nothing is kept.

    Attributes
    ----------
    source: of the features.
    w_hat, rows, projected_values: of the model, as it says.
    """

    def __init__(self, model: WordGuidedAttention, support: Support) -> None:
        w, self.source = support.embeddings, support.images.source
        assert w is not None
        self._fixed = [one.detach().clone() for one in (w, *model.parameters())]
        self.w_hat = model.w_hat(w)
        self.rows, _ = model.rows(self.w_hat)
        self.projected_values = model.projected_values()
        # (image, its labels) -> what attention pooled, [labels, heads, n], and log-sum-exps
        self._images: OrderedDict[tuple[str, bytes], tuple[Tensor, Tensor]] = OrderedDict()
        self._pairs, self._most = 0, KEPT_BYTES // (4 * self.rows[0].numel())

    def fits(self, model: WordGuidedAttention, support: Support) -> bool:
        """Whether this is of the same weights, label embeddings and source of features."""
        now = (support.embeddings, *model.parameters())
        return self.source is support.images.source and all(
            one is not None and one.device == kept.device and torch.equal(one, kept)
            for one, kept in zip(now, self._fixed, strict=True)
        )

    def pooled(
        self, model: WordGuidedAttention, ids: Sequence[str], targets: npt.NDArray[np.bool_]
    ) -> tuple[Tensor, Tensor]:
        """`pool_pairs` of these images with these labels [m, C], in their order."""
        keys = [(one, labels.tobytes()) for one, labels in zip(ids, targets, strict=True)]
        new = [i for i, key in enumerate(keys) if key not in self._images]
        made = self._made(model, [ids[i] for i in new], targets[new]) if new else None
        found = {key: self._images[key] for key in keys if key in self._images}
        if made is not None:
            counts = targets[new].sum(1).tolist()
            split = zip(*(one.split_with_sizes(counts) for one in made), strict=True)
            found |= {keys[i]: one for i, one in zip(new, split, strict=True)}
        self._keep(found)
        if made is not None and len(new) == len(keys):
            return made
        values, sums = zip(*(found[key] for key in keys), strict=True)
        return torch.cat(values), torch.cat(sums)

    def _made(
        self, model: WordGuidedAttention, ids: Sequence[str], targets: npt.NDArray[np.bool_]
    ) -> tuple[Tensor, Tensor]:
        f_loc, f_glo = features(Images(tuple(ids), self.source), model.reads_local)
        maps = model.maps(f_loc, f_glo, None)
        pairs = Pairs.of(torch.as_tensor(targets, device=maps.device), maps.dtype)
        return pool_pairs(self.rows, maps, pairs)

    def _keep(self, images: dict[tuple[str, bytes], tuple[Tensor, Tensor]]) -> None:
        """Keep these in the place of those that were not asked for longest."""
        source = self.source.source if isinstance(self.source, LimitedFeatures) else self.source
        if not isinstance(source, StoredFeatures) or self.rows.device.type != "cpu":
            return
        for key, one in images.items():
            if key not in self._images:
                self._pairs += len(one[0])
            self._images[key] = one
            self._images.move_to_end(key)
        while self._pairs > self._most:
            _, gone = self._images.popitem(last=False)
            self._pairs -= len(gone[0])


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


def prototypes_of_all(
    model: WordGuidedAttention, supports: Sequence[Support], attended: Attended
) -> list[Tensor]:
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
    table = pair_table(model, [str(i) for i in unique], union, attended)

    drawn, label = np.nonzero(carries)
    device = table.value.device
    row = torch.as_tensor(table.row[image[drawn], label], device=device)
    group = torch.as_tensor(episode[drawn] * C + label, device=device)
    p = _weighted(table.value[row], table.weight[row], group, E * C)
    if model.params.aggregation == "joint":
        p = model.mlp(p, None)
    carried = torch.zeros(E * C, dtype=torch.bool, device=device).index_fill_(0, group, True)
    w_hat = attended.w_hat.repeat(E, 1)
    return list(torch.where(carried[:, None], p, w_hat).view(E, C, -1))


def pair_table(
    model: WordGuidedAttention,
    ids: Sequence[str],
    union: npt.NDArray[np.bool_],
    attended: Attended,
) -> PairTable:
    """The table of these images and the labels `union` [images, C] they carry somewhere."""
    joint = model.params.aggregation == "joint"
    # Images with equally many labels stand together: a batch then has few runs (see Pairs).
    order = np.argsort(union.sum(1), kind="stable")
    values, weights = [], []
    for start in range(0, len(order), IMAGES_AT_ONCE):
        batch = order[start : start + IMAGES_AT_ONCE]
        batch_ids = tuple(ids[i] for i in batch)
        pooled, lse = attended.pooled(model, batch_ids, union[batch])
        value = model.values(pooled, attended.projected_values)
        if joint:
            values.append(value)
            weights.append(lse)
        else:
            values.append(model.mlp(value, None))
            f_glo = Images(batch_ids, attended.source).averaged()
            s = model.score(model.f_hat(f_glo), attended.w_hat)
            targets = torch.as_tensor(union[batch], device=f_glo.device)
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

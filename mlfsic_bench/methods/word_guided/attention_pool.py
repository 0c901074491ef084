"""Attention of labels over the locations of the images that carry them, on the pairs that exist.

A label attends only to images that carry it, and an image carries few labels. So the work is laid
out by pairs (image, label): a run of images that carry equally many labels is one batched product,
with nothing padded.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Pairs:
    """The N pairs (image, label) of S images and C labels, in the order of images, then labels.

    Any order of the images is right; the fewer the runs, the faster. Sorting the images by their
    number of labels (`by_label_count`) leaves one run for each number.

    Attributes
    ----------
    label: int64 [N], the label of each pair.
    labels: C.
    runs: (images, labels each) of successive runs of images that carry equally many labels.
    one_hot: float [N, C], 1 at the pair's label; None where rows are added in order without it.
    """

    label: Tensor
    labels: int
    runs: tuple[tuple[int, int], ...]
    one_hot: Tensor | None

    @classmethod
    def of(cls, targets: Tensor, dtype: torch.dtype) -> Pairs:
        """The pairs of float or bool targets [S, C]; a label is carried where it is above 0."""
        carries = (targets > 0).cpu()  # the shapes of the work depend on it
        label = carries.nonzero()[:, 1].to(targets.device)
        runs = tuple((len(list(run)), k) for k, run in groupby(carries.sum(1).tolist()))
        C = targets.shape[1]
        one_hot = None if adds_in_order(label) else functional.one_hot(label, C).to(dtype)
        return cls(label, C, runs, one_hot)

    @property
    def image_counts(self) -> list[int]:
        """The number of images of each run."""
        return [m for m, _ in self.runs]

    @property
    def pair_counts(self) -> list[int]:
        """The number of pairs of each run."""
        return [m * k for m, k in self.runs]

    def of_label(self, x: Tensor) -> Tensor:
        """Each pair's row of its label: [C, d] to [N, d]."""
        return x.index_select(0, self.label) if self.one_hot is None else self.one_hot @ x

    def of_image(self, x: Tensor) -> Tensor:
        """Each pair's entry of its image: [S, ...] to [N, ...]."""
        parts = zip(x.split_with_sizes(self.image_counts), self.runs, strict=True)
        return torch.cat(
            [part[:, None].expand(-1, k, *x.shape[1:]).flatten(0, 1) for part, (_, k) in parts]
        )

    def sum_by_label(self, x: Tensor) -> Tensor:
        """The sum of the rows of each label's pairs: [N, d] to [C, d]."""
        if self.one_hot is not None:
            return self.one_hot.T @ x
        return x.new_zeros(self.labels, x.shape[1]).index_add(0, self.label, x)


def adds_in_order(index: Tensor) -> bool:
    """Whether adding rows by this index, as the gradient of indexing does, has a fixed order.

    A GPU adds them in any order, so that two equal trainings differ in the last digits; there a
    product with a one-hot matrix, whose gradient is again a product, takes its place.
    """
    return index.device.type == "cpu"


def by_label_count(targets: Tensor) -> list[int]:
    """The images' positions, those with fewest labels first; the order Pairs is fastest in."""
    order: list[int] = (targets > 0).sum(1).cpu().argsort(stable=True).tolist()
    return order


def pair_scores(rows: Tensor, maps: Tensor, pairs: Pairs) -> Tensor:
    """Attention scores before the softmax, [N, H, P].

    rows: [C, H, n], each label's query per head, carried into the space of the maps.
    maps: [S, n, P], P locations of n channels per image.
    """
    gathered = pairs.of_label(rows.flatten(1)).view(-1, *rows.shape[1:])
    return _per_image(gathered, maps, pairs)


def pool_joint(rows: Tensor, maps: Tensor, pairs: Pairs) -> Tensor:
    """For each label and head, the mean of the maps under one softmax over all its images.

    The sum over i of mu_i u_i of section 4, i running over all l = h * w * m locations: [C, H, n].
    0 for a label that no image carries.
    """
    C, H, n = rows.shape
    mu = joint_weights(pair_scores(rows, maps, pairs), pairs)
    pooled = _per_image(mu, maps.transpose(1, 2), pairs)
    return pairs.sum_by_label(pooled.flatten(1)).view(C, H, n)


def joint_weights(a: Tensor, pairs: Pairs) -> Tensor:
    """Scores [N, H, P] to weights: for each label and head one softmax over all its images."""
    e = (a - _label_max(a, pairs)[pairs.label][..., None]).exp()
    total = pairs.of_label(pairs.sum_by_label(e.sum(2)))  # [N, H], of the pair's label
    return e / total[..., None]


def pool_pairs(rows: Tensor, maps: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """For each pair and head: its own softmax mean of the map, and its log-sum-exp.

    Returns ([N, H, n], [N, H]). The joint mean of a label is the mean of its pairs' under a softmax
    over their log-sum-exps.
    """
    a = pair_scores(rows, maps, pairs)
    return _per_image(a.softmax(2), maps.transpose(1, 2), pairs), a.logsumexp(2)


def _per_image(x: Tensor, maps: Tensor, pairs: Pairs) -> Tensor:
    """Each pair's rows x [N, H, a] times the matrix of its image, maps [S, a, b]: [N, H, b]."""
    H, b = x.shape[1], maps.shape[2]
    parts = zip(
        x.split_with_sizes(pairs.pair_counts),
        maps.split_with_sizes(pairs.image_counts),
        pairs.runs,
        strict=True,
    )
    products = [
        torch.bmm(rows.reshape(m, k * H, -1), u).view(m * k, H, b)
        for rows, u, (m, k) in parts
        if k > 0
    ]
    return torch.cat(products) if products else x.new_zeros(0, H, b)


def _label_max(a: Tensor, pairs: Pairs) -> Tensor:
    """[C, H]: the largest score of each label and head, to keep exp in range; no gradient."""
    with torch.no_grad():
        top = torch.full((pairs.labels, a.shape[1]), -torch.inf, dtype=a.dtype, device=a.device)
        index = pairs.label[:, None].expand(-1, a.shape[1])
        return top.scatter_reduce_(0, index, a.amax(2), "amax")

"""The pools of a part: for each label, the images that have it, packed in one array."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlfsic_bench.splits.split import Part


@dataclass(frozen=True, eq=False)
class Pools:
    """Label i's pool is `images[starts[i] : starts[i + 1]]`, rows of the part in ascending order.

    A part's images are sorted by id, so ascending rows are sorted ids.

    Attributes
    ----------
    images: int64 [sum of sizes]; the pools one after another, in the order of the labels.
    starts: int64 [L + 1]; where each pool begins.
    order: int64 [L]; labels by pool size, smallest first, ties in the order of the labels.
    """

    images: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """int64 [L]: how many images have each label."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, label: int) -> npt.NDArray[np.int64]:
        """int64 [size]: the rows of the images that have this label, ascending."""
        if not 0 <= label < len(self):
            raise IndexError(label)
        return self.images[self.starts[label] : self.starts[label + 1]]


def build_pools(targets: npt.NDArray[np.bool_]) -> Pools:
    """The pools of bool targets [n, L]."""
    n, count = targets.shape
    flat = np.flatnonzero(np.ascontiguousarray(targets.T))
    sizes = np.count_nonzero(targets, axis=0)
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    images = flat - np.repeat(np.arange(count, dtype=np.int64) * n, sizes)
    return Pools(images, starts, np.argsort(sizes, kind="stable").astype(np.int64))


# Building costs more than drawing 200 episodes, and a part never changes.
_BUILT: weakref.WeakKeyDictionary[Part, Pools] = weakref.WeakKeyDictionary()


def pools_of(part: Part) -> Pools:
    """The pools of a part, built at the first call and kept as long as the part lives."""
    pools = _BUILT.get(part)
    if pools is None:
        pools = _BUILT[part] = build_pools(part.targets)
    return pools

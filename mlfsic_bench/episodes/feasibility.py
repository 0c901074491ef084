"""The pools of a part, and whether they are enough: Hall's condition, checked by matching.

An episode needs distinct images for all labels at once. Labels for which there are enough are
feasible, the others are excluded.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError, unknown_name
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


def hall_violator(pools: Pools, labels: Sequence[int], need: int) -> tuple[int, ...]:
    """Labels whose pools together hold fewer than `need` images each; empty when there are none.

    Gives each label in `labels` its `need` images by augmenting paths (P. Hall, On representatives
    of subsets, 1935; the paths are Kuhn's). Where no path ends in a free image, the labels reached
    by the search own every image of their pools together and still need more: they are returned,
    sorted. An empty answer proves that distinct images exist for all labels.
    """
    tight = _tight(pools, labels, need)
    owner: dict[int, int] = {}
    for label in tight:
        for _ in range(need):
            reached = _augment(pools, label, owner)
            if reached:
                return tuple(sorted(reached))
    return ()


def _tight(pools: Pools, labels: Sequence[int], need: int) -> list[int]:
    """The labels left when those that always find images last are taken away, one by one."""
    sizes = pools.sizes
    left = sorted(labels, key=lambda label: (int(sizes[label]), label))
    while left and sizes[left[-1]] >= need * len(left):
        left.pop()  # all others together use at most need * (len(left) - 1) images of its pool
    return left


def _augment(pools: Pools, label: int, owner: dict[int, int]) -> set[int]:
    """Give `label` one more image; the set of labels searched when that is impossible."""
    reached = {label}
    came_from: dict[int, int] = {}  # image -> the label whose pool it was found in
    held: dict[int, int] = {}  # label -> its image that would be handed on
    queue = deque([label])
    while queue:
        current = queue.popleft()
        for image in pools[current].tolist():
            if image in came_from:
                continue
            came_from[image] = current
            holder = owner.get(image)
            if holder is None:
                while True:
                    taker = came_from[image]
                    owner[image] = taker
                    if taker == label:
                        return set()
                    image = held[taker]
            if holder not in reached:
                reached.add(holder)
                held[holder] = image
                queue.append(holder)
    return reached


def check_feasible(part: Part, need: int) -> None:
    """BenchError naming the labels when the part has no `need` distinct images for every label."""
    if not part.labels:
        raise BenchError(
            "a part without labels has no episodes",
            expected="at least one label",
            found="none; with --min-pool, labels with small pools have left",
            remedy="use a smaller --min-pool, or more images",
        )
    pools = pools_of(part)
    small = [i for i in range(len(pools)) if pools.sizes[i] < need]
    short = small or hall_violator(pools, range(len(pools)), need)
    if not short:
        return
    listed = ", ".join(f"{part.labels[i]} ({pools.sizes[i]})" for i in short)
    together = len(np.unique(np.concatenate([pools[i] for i in short])))
    found = f"{together} images together for {len(short)} label(s), by label: {listed}"
    raise BenchError(
        f"the pools are too small to draw episodes: {', '.join(part.labels[i] for i in short)}",
        expected=f"{need} distinct images for every label at once ({need * len(short)} for these)",
        found=found,
        remedy=(
            f"use all images of the data set, smaller --shots or --queries, or let labels with "
            f"small pools leave the part with --min-pool N (N at least {need})"
        ),
    )


def feasible_labels(part: Part, need: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(feasible, excluded): the labels that episodes can be drawn for, and the others.

    Labels with fewer than `need` images are excluded. While the rest still breaks Hall's condition,
    the label with the smallest pool of the violating set (the first of equals) is excluded as well.
    Both tuples keep the part's order.
    """
    pools = pools_of(part)
    kept = [i for i in range(len(pools)) if pools.sizes[i] >= need]
    while short := hall_violator(pools, kept, need):
        kept.remove(min(short, key=lambda i: (int(pools.sizes[i]), i)))
    chosen = set(kept)
    return (
        tuple(name for i, name in enumerate(part.labels) if i in chosen),
        tuple(name for i, name in enumerate(part.labels) if i not in chosen),
    )


def restrict(part: Part, labels: Sequence[str]) -> Part:
    """The part with only these labels (in the part's order); images left without one leave too.

    Raises BenchError for a label the part does not have. With all labels, the same part returns.
    """
    wanted = set(labels)
    for name in sorted(wanted - set(part.labels)):
        raise unknown_name("label", name, part.labels)
    columns = [i for i, name in enumerate(part.labels) if name in wanted]
    if len(columns) == len(part.labels):
        return part
    targets = part.targets[:, columns]
    rows = np.flatnonzero(targets.any(axis=1))
    return Part(
        tuple(part.labels[i] for i in columns),
        tuple(part.image_ids[i] for i in rows),
        np.ascontiguousarray(targets[rows]),
    )

"""What `reference_sampler.py` defines, for many episodes at once, equal to it bit for bit.

Every position draws its first candidate at the same time. A candidate that equals the present
candidate of an *earlier* position of the same episode is rejected and the position goes on to its
next one, until no position has to. The outcome is that of drawing in turn: a rejected image stays
occupied by an earlier position for ever (if its occupant moves on, it does so because a still
earlier position holds that image), so drawing in turn would have rejected it too, and what remains
at the end no earlier position holds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlfsic_bench.episodes.feasibility import Pools
from mlfsic_bench.episodes.reference_sampler import draw_episode, last_accepted, position_labels
from mlfsic_bench.randomness import splitmix64_array

ROUNDS = 24
"""Episodes with a collision left after so many rounds (small pools, dry attempts) go one by one."""

BLOCK_POSITIONS = 1 << 15
"""Positions handled together, so that the work stays in a processor's cache."""

Words = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]


def draw_episodes_at_once(pools: Pools, seeds: Words, support: int, query: int) -> Rows:
    """int64 [E, L * (support + query)]: row e is `draw_episode(pools, seeds[e], support, query)`.

    Every pool must be non-empty. Raises BenchError like `draw_episode`.
    """
    labels = position_labels(pools, support, query)
    table = _Table(pools, labels)
    block = max(1, BLOCK_POSITIONS // max(1, len(labels)))
    taken = np.empty((len(seeds), len(labels)), np.int64)
    for first in range(0, len(seeds), block):
        part = slice(first, first + block)
        unresolved = _draw_block(table, seeds[part], taken[part])
        for row in unresolved.tolist():
            taken[first + row] = draw_episode(pools, int(seeds[first + row]), support, query)
    return taken


class _Table:
    """What each position needs to turn a word into an image: all arrays are [positions]."""

    def __init__(self, pools: Pools, labels: Rows) -> None:
        sizes = pools.sizes
        last = np.array([last_accepted(n) for n in sizes.tolist()], np.uint64)
        self.images = pools.images
        self.n = sizes[labels].astype(np.uint64)
        self.start = pools.starts[:-1][labels]
        self.last = last[labels]
        # Image and position share one sortable key; 32 bits sort twice as fast as 64.
        self.shift = max(1, int(len(labels) - 1).bit_length())
        top = int(pools.images.max(initial=0)) << self.shift
        self.key_type: type[np.unsignedinteger] = np.uint32 if top < 1 << 31 else np.uint64
        self.count = len(labels)


def _draw_block(table: _Table, seeds: Words, taken: Rows) -> Rows:
    """Fill `taken` [E, positions]; int64 [unresolved]: the episodes that still have a collision."""
    position = np.arange(table.count, dtype=np.uint64)
    stream = splitmix64_array(seeds[:, None], position[None, :])
    word = np.zeros(stream.shape, np.uint64)  # the next unread word of each stream
    taken[:] = _candidates(table, stream, word, np.arange(table.count)[None, :])
    live = np.arange(len(seeds))
    for _ in range(ROUNDS):
        row, column = _collisions(table, taken[live])
        if len(row) == 0:
            return live[:0]
        row = live[row]
        next_word = word[row, column]
        taken[row, column] = _candidates(table, stream[row, column], next_word, column)
        word[row, column] = next_word
        live = np.unique(row)
    row, _ = _collisions(table, taken[live])
    return np.unique(live[row])


def _candidates(table: _Table, stream: Words, word: Words, column: Rows) -> Rows:
    """The image each stream names next; moves `word` on, past words that are passed over."""
    x = splitmix64_array(stream, word)
    word += np.uint64(1)
    while (over := x > table.last[column]).any():
        x[over] = splitmix64_array(stream[over], word[over])
        word[over] += np.uint64(1)
    offset = (x % table.n[column]).astype(np.int64)
    images: Rows = table.images[table.start[column] + offset]
    return images


def _collisions(table: _Table, taken: Rows) -> tuple[Rows, Rows]:
    """(row, position) of every position whose image an earlier position of its row holds."""
    key = taken.astype(table.key_type)
    key <<= table.key_type(table.shift)
    key |= np.arange(table.count, dtype=table.key_type)
    key.sort(axis=1)
    one = table.key_type(1 << table.shift)
    # neighbours with the same image differ in the bits of the position only
    same = np.flatnonzero((key[:, 1:] ^ key[:, :-1]) < one)
    row, rank = np.divmod(same, table.count - 1)
    return row, (key[row, rank + 1] & (one - table.key_type(1))).astype(np.int64)

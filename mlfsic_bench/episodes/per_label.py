"""Protocols that draw K support and Q query images *for* each label of a part, all distinct.

`one_per_label-v1` is the paper's (its sections 3 and 5): K = 1 and Q = 4. `k_per_label-v1` is the
same law with any other K and Q. `disjoint_per_label-v1` draws a whole set in which no image is in
two episodes. All have one law, here, and one stream of seeds, named after the first of them:

    episode seed = stream_seed("episodes", "one_per_label-v1", split hash, purpose, index)

so that an episode depends on the split, K and Q, what it is for and its number, and on nothing
else: not on how many are drawn, in which order, or where.

Labels are ordered by the size of their pools, smallest first, ties in the part's order. An episode
has L(K + Q) *positions*: for each label in that order its K support images, then for each label in
that order its Q query images.

Attempt t of the episode with seed e draws the positions p = 0, 1, 2, ... in turn. Position p has
the SplitMix64 stream that starts at

    splitmix64(e, t * 2**32 + p)

Each word x of it, in turn, is a candidate: with n images in the pool, x is passed over when it is
not below the largest multiple of n up to 2**64, and otherwise names image `x mod n` of the pool
(its images sorted by id), so that every image is exactly equally likely. The position takes the
first candidate that no earlier position of the attempt has taken: the image is uniform over those
of the pool not yet used. When every image of the pool is used the attempt has run dry, and the
whole episode is drawn again with t + 1. The result is therefore the sequential law conditioned on
not running dry.

`draw_episode` is this law as it stands. `draw_episodes_at_once` draws the same images, bit for
bit, for many episodes: every position draws its first candidate at the same time. A candidate that
equals the present candidate of an *earlier* position of the same episode is rejected and the
position goes on to its next one, until no position has to. The outcome is that of drawing in turn:
a rejected image stays occupied by an earlier position for ever (if its occupant moves on, it does
so because a still earlier position holds that image), so drawing in turn would have rejected it
too, and what remains at the end no earlier position holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlfsic_bench.episodes.feasibility import Pools, check_feasible, pools_of
from mlfsic_bench.episodes.files import wrong
from mlfsic_bench.episodes.protocol import Episode, Protocol
from mlfsic_bench.errors import BenchError
from mlfsic_bench.randomness import splitmix64, splitmix64_array, stream_seeds
from mlfsic_bench.splits.split import Part, Split
from mlfsic_bench.works import LAFARGUE_2024, YAN_2022

ATTEMPTS = 1000
"""An episode that runs dry this many times is an error."""

ATTEMPT_STRIDE = 1 << 32


def position_labels(pools: Pools, support: int, query: int) -> npt.NDArray[np.int64]:
    """int64 [L * (support + query)]: the label each position draws for."""
    return np.concatenate([np.repeat(pools.order, support), np.repeat(pools.order, query)])


def last_accepted(n: int) -> int:
    """The largest 64-bit word that is not passed over for a pool of n >= 1 images."""
    return (1 << 64) // n * n - 1


def draw_episode(pools: Pools, seed: int, support: int, query: int) -> npt.NDArray[np.int64]:
    """int64 [L * (support + query)]: the image row each position takes, in order of positions.

    Raises BenchError when 1000 attempts in a row have run dry.
    """
    labels = position_labels(pools, support, query).tolist()
    for attempt in range(ATTEMPTS):
        taken = draw_attempt(pools, labels, seed, attempt)
        if taken is not None:
            return np.array(taken, np.int64)
    raise BenchError(
        f"an episode ran dry {ATTEMPTS} times in a row",
        expected="pools large enough that labels drawn early leave images for the others",
        found=f"pool sizes {sorted(pools.sizes.tolist())}, many images shared between labels",
        remedy="use more images, or let labels with small pools leave the part with --min-pool N",
    )


def draw_attempt(pools: Pools, labels: list[int], seed: int, attempt: int) -> list[int] | None:
    """The image each position takes in this attempt, or None when it runs dry.

    `labels` is the label of each position.
    """
    taken: list[int] = []
    used: set[int] = set()
    for position, label in enumerate(labels):
        pool = pools[label]
        n = len(pool)
        if n <= len(used) and used.issuperset(pool.tolist()):
            return None
        stream = splitmix64(seed, attempt * ATTEMPT_STRIDE + position)
        last = last_accepted(n)
        word = 0
        while True:
            x = splitmix64(stream, word)
            word += 1
            if x > last:
                continue
            image = int(pool[x % n])
            if image not in used:
                break
        taken.append(image)
        used.add(image)
    return taken


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


class PerLabel(Protocol):
    """K support and Q query images drawn for each label of the part, all of them distinct."""

    counts = {"val": 100, "novel": 200}  # noqa: RUF012
    queries: int

    @property
    def need(self) -> int:
        """Images of each label in an episode."""
        return self.shots + self.queries

    def sampler(self, part: Part, split_hash: str, purpose: str) -> EpisodeSampler:
        """Draws episodes of a part for a purpose: `novel`, `val` or `train/<training seed>`."""
        return EpisodeSampler(self, part, split_hash, purpose)

    def draw(self, split: Split, part: str, indices: Sequence[int]) -> list[Episode]:
        """The episodes with these numbers, drawn for testing on the part."""
        return self.sampler(split.parts[part], split.hash, part).draw(indices)  # type: ignore[index]

    def check(self, split: Split, part: str, episodes: Sequence[Episode], name: str) -> None:
        """BenchError unless every image is one of the part and has the label it was drawn for."""
        content = split.parts[part]  # type: ignore[index]
        count = len(content.labels)
        for i, episode in enumerate(episodes):
            if len(episode.support) != count * self.shots:
                found = f"{len(episode.support)} support images in episode {i}"
                whose = f"{self.shots} for each of {count} labels"
                expected = f"{count * self.shots} support images, {whose}"
                raise wrong(name, expected, found)
            for images, each in ((episode.support, self.shots), (episode.query, self.queries)):
                try:
                    targets = content.targets_of(images)
                except KeyError as error:
                    found = f"image {error.args[0]!r} in episode {i}"
                    raise wrong(name, f"images of the {part} part", found) from None
                for place, image in enumerate(images):
                    if not targets[place, place // each]:
                        label = content.labels[place // each]
                        found = f"image {image!r} without it in episode {i}"
                        raise wrong(name, f"an image with the label {label!r}", found)

    def file_name(self, split_id: str, part: str) -> str:
        """`SPLIT.PART-episodes.json`, with what was chosen before `episodes`."""
        return f"{split_id}.{'-'.join(filter(None, [part, self.tag, 'episodes']))}.json"


@dataclass(frozen=True)
class OnePerLabel(PerLabel):
    """One support image and four query images for each label."""

    name = "one_per_label"
    bibtex = YAN_2022
    shots = 1
    queries = 4


ONE_PER_LABEL = OnePerLabel()


@dataclass(frozen=True)
class KPerLabel(PerLabel):
    """K support images and Q query images for each label, other than one and four."""

    name = "k_per_label"
    takes = ("shots", "queries")
    defaults = {"queries": 4}  # noqa: RUF012
    bibtex = YAN_2022
    shots: int
    queries: int

    @classmethod
    def of(cls, **chosen: int) -> PerLabel:
        """The one with these K and Q; K = 1 and Q = 4 have a name already, `one_per_label`."""
        made = cls(**chosen)
        same = made.need == ONE_PER_LABEL.need and made.shots == ONE_PER_LABEL.shots
        return ONE_PER_LABEL if same else made


@dataclass(frozen=True)
class DisjointPerLabel(PerLabel):
    """As many episodes as the part gives with no image in two of them.

    The episodes are drawn in turn. Episode i is drawn like that of `k_per_label` with the same
    number, from the images that no earlier episode has; so it does not depend on how many are
    drawn. The set ends where the images left hold no further episode, or where 1000 attempts have
    run dry.
    """

    name = "disjoint_per_label"
    takes = ("shots", "queries")
    defaults = {"shots": 1, "queries": 4}  # noqa: RUF012
    counts = {"val": None, "novel": None}  # noqa: RUF012
    disjoint = True
    bibtex = LAFARGUE_2024
    shots: int
    queries: int

    @property
    def tag(self) -> str:
        """`disjoint-1-shot-4-query`."""
        return f"disjoint-{super().tag}"

    def default_count(self, split: Split, part: str) -> int:
        """As many as the part gives."""
        return len(self._in_turn(split, part, None))

    def draw(self, split: Split, part: str, indices: Sequence[int]) -> list[Episode]:
        """The episodes with these numbers; BenchError where the part does not give so many."""
        last = max(indices, default=0)
        drawn = self._in_turn(split, part, last + 1)
        if last >= len(drawn):
            raise BenchError(
                f"the {part} part of split {split.id!r} has no {last + 1} disjoint episodes",
                expected=f"at most {len(drawn)} for {self.title}",
                found=str(last + 1),
                remedy="ask for fewer, or leave the count out to draw them all",
            )
        return [drawn[i] for i in indices]

    def check(self, split: Split, part: str, episodes: Sequence[Episode], name: str) -> None:
        """Also BenchError for an image in two episodes."""
        super().check(split, part, episodes, name)
        seen: dict[str, int] = {}
        for i, episode in enumerate(episodes):
            for image in (*episode.support, *episode.query):
                if image in seen:
                    found = f"{image!r} in episodes {seen[image]} and {i}"
                    raise wrong(name, "each image in one episode only", found)
                seen[image] = i

    def _in_turn(self, split: Split, part: str, most: int | None) -> list[Episode]:
        """The first `most` episodes, or as many as there are; the first must exist."""
        left: Part = split.parts[part]  # type: ignore[index]
        drawn = self.sampler(left, split.hash, part).draw([0])
        while most is None or len(drawn) < most:
            used = {*drawn[-1].support, *drawn[-1].query}
            rows = [row for row, image in enumerate(left.image_ids) if image not in used]
            ids = tuple(left.image_ids[row] for row in rows)
            left = Part(left.labels, ids, np.ascontiguousarray(left.targets[rows]))
            try:
                drawn += self.sampler(left, split.hash, part).draw([len(drawn)])
            except BenchError:  # the images left are too few
                break
        return drawn


class EpisodeSampler:
    """Draws episodes of one part for one purpose; keeps what is the same for all of them.

    Parameters
    ----------
    protocol: says how many images each label has. The support of an episode does not depend on the
        number of its queries.
    part: the part whose labels every episode has.
    split_hash: hash of the split the part belongs to.
    purpose: `novel`, `val` or `train/<training seed>`; part of every episode's seed.

    Raises BenchError naming the labels when no episode can exist (`feasibility.check_feasible`).
    """

    def __init__(self, protocol: PerLabel, part: Part, split_hash: str, purpose: str) -> None:
        check_feasible(part, protocol.need)
        self.part = part
        self.pools = pools_of(part)
        self.support_per_label, self.query_per_label = protocol.shots, protocol.queries
        self._key = ("episodes", ONE_PER_LABEL.id, split_hash, purpose)
        self._ids = np.array(part.image_ids, dtype=object)
        # the position that fills each place of the result: positions go by pool size
        place = np.argsort(self.pools.order)  # the label's turn
        s, q = self.support_per_label, self.query_per_label
        support = place[:, None] * s + np.arange(s)
        query = len(place) * s + place[:, None] * q + np.arange(q)
        self._gather = np.concatenate([support.ravel(), query.ravel()])

    def seeds(self, indices: Sequence[int]) -> npt.NDArray[np.uint64]:
        """uint64 [len(indices)]: the seed of each episode."""
        return np.array(stream_seeds(self._key, indices), np.uint64)

    def draw_rows(self, indices: Sequence[int]) -> npt.NDArray[np.int64]:
        """int64 [len(indices), L * (K + Q)]: rows of the part; K of each label, then Q of each.

        Labels are in the part's order. Raises BenchError when an episode can't be drawn.
        """
        if any(i < 0 for i in indices):
            raise BenchError(
                "episodes are numbered from 0",
                expected="0 or more",
                found=str(min(indices)),
                remedy="name an episode that exists",
            )
        taken = draw_episodes_at_once(
            self.pools, self.seeds(indices), self.support_per_label, self.query_per_label
        )
        return taken[:, self._gather]

    def draw(self, indices: Sequence[int]) -> list[Episode]:
        """The episodes with these numbers, in this order; each the same alone as among others."""
        support = self.support_per_label * len(self.pools)
        ids = self._ids[self.draw_rows(indices)].tolist()
        return [Episode(tuple(row[:support]), tuple(row[support:])) for row in ids]

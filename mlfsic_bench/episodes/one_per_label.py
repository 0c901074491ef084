"""Protocol `one_per_label-v1`: every label of a part in each episode (the paper's section 3).

    episode seed = stream_seed("episodes", "one_per_label-v1", split hash, purpose, index)

so that an episode depends on the split, what it is for and its number, and on nothing else: not on
how many are drawn, in which order, or where. What is drawn from the seed is said in `law.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mlfsic_bench.episodes.episode import Episode
from mlfsic_bench.episodes.pools import pools_of
from mlfsic_bench.episodes.servable import check_servable
from mlfsic_bench.episodes.vectorised import draw_episodes_at_once
from mlfsic_bench.errors import BenchError
from mlfsic_bench.randomness import stream_seeds
from mlfsic_bench.splits.split import Part

PROTOCOL = "one_per_label-v1"
SUPPORT_PER_LABEL = 1
QUERY_PER_LABEL = 4


class EpisodeSampler:
    """Draws episodes of one part for one purpose; keeps what is the same for all of them.

    Parameters
    ----------
    part: the part whose labels every episode has.
    split_hash: hash of the split the part belongs to.
    purpose: `novel`, `val` or `train/<training seed>`; part of every episode's seed.
    support_per_label, query_per_label: images per label; 1 and 4 in the protocol's files. The
        support of an episode does not depend on `query_per_label`.

    Raises BenchError naming the labels when no episode can exist (see `servable.check_servable`).
    """

    def __init__(
        self,
        part: Part,
        split_hash: str,
        purpose: str,
        *,
        support_per_label: int = SUPPORT_PER_LABEL,
        query_per_label: int = QUERY_PER_LABEL,
    ) -> None:
        if support_per_label < 1 or query_per_label < 1:
            raise BenchError(
                "an episode needs support and query images for every label",
                expected="at least 1 of each per label",
                found=f"{support_per_label} support and {query_per_label} query images per label",
                remedy="ask for 1 or more",
            )
        check_servable(part, support_per_label + query_per_label)
        self.part = part
        self.pools = pools_of(part)
        self.support_per_label = support_per_label
        self.query_per_label = query_per_label
        self._key = ("episodes", PROTOCOL, split_hash, purpose)
        self._ids = np.array(part.image_ids, dtype=object)
        self._gather = self._gather_index()

    def seeds(self, indices: Sequence[int]) -> npt.NDArray[np.uint64]:
        """uint64 [len(indices)]: the seed of each episode."""
        return np.array(stream_seeds(self._key, indices), np.uint64)

    def draw_rows(self, indices: Sequence[int]) -> npt.NDArray[np.int64]:
        """int64 [len(indices), L * (s + q)]: rows of the part; s of each label, then q of each.

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
        """The episodes with these numbers, in this order."""
        support = self.support_per_label * len(self.pools)
        ids = self._ids[self.draw_rows(indices)].tolist()
        return [Episode(tuple(row[:support]), tuple(row[support:])) for row in ids]

    def draw_one(self, index: int) -> Episode:
        """The episode with this number, the same alone as among others."""
        return self.draw([index])[0]

    def _gather_index(self) -> npt.NDArray[np.int64]:
        """The position that fills each place of the result: positions go by pool size."""
        place = np.argsort(self.pools.order)  # the label's turn
        s, q = self.support_per_label, self.query_per_label
        support = place[:, None] * s + np.arange(s)
        query = len(place) * s + place[:, None] * q + np.arange(q)
        return np.concatenate([support.ravel(), query.ravel()])


def draw_episodes(
    part: Part,
    split_hash: str,
    purpose: str,
    indices: Sequence[int],
    *,
    support_per_label: int = SUPPORT_PER_LABEL,
    query_per_label: int = QUERY_PER_LABEL,
) -> list[Episode]:
    """The episodes of `part` with these numbers; see `EpisodeSampler`, which draws them."""
    sampler = EpisodeSampler(
        part,
        split_hash,
        purpose,
        support_per_label=support_per_label,
        query_per_label=query_per_label,
    )
    return sampler.draw(indices)

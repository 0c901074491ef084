"""Protocol `one_per_label-v1`: every label of a part in each episode (the paper's section 3).

    episode seed = stream_seed("episodes", "one_per_label-v1", split hash, purpose, index)

so that an episode depends on the split, what it is for and its number, and on nothing else: not on
how many are drawn, in which order, or where. What is drawn from the seed is said in
`reference_sampler.py`. A protocol with other numbers of images per label is another `PerLabel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlfsic_bench.episodes.fast_sampler import draw_episodes_at_once
from mlfsic_bench.episodes.feasibility import check_feasible, pools_of
from mlfsic_bench.episodes.files import wrong
from mlfsic_bench.episodes.protocol import Episode, Protocol
from mlfsic_bench.errors import BenchError
from mlfsic_bench.randomness import stream_seeds
from mlfsic_bench.splits.split import Part, Split


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
                raise wrong(name, f"{self.shots} support image per label ({count})", found)
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
    shots = 1
    queries = 4


ONE_PER_LABEL = OnePerLabel()


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
        self._key = ("episodes", protocol.id, split_hash, purpose)
        self._ids = np.array(part.image_ids, dtype=object)
        self._gather = self._gather_index()

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

    def _gather_index(self) -> npt.NDArray[np.int64]:
        """The position that fills each place of the result: positions go by pool size."""
        place = np.argsort(self.pools.order)  # the label's turn
        s, q = self.support_per_label, self.query_per_label
        support = place[:, None] * s + np.arange(s)
        query = len(place) * s + place[:, None] * q + np.arange(q)
        return np.concatenate([support.ravel(), query.ravel()])

"""The base, val and novel parts of a split as a method sees them: episodes with features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from mlfsic_bench.episodes.episode import Episode
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.base_images import first_base_images
from mlfsic_bench.evaluation.meta import BaseImages
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.methods.contract import Images, Support, TrainingEpisode, TrainingPart
from mlfsic_bench.randomness import stream_seed
from mlfsic_bench.splits.split import Part, Split

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from mlfsic_bench.embeddings.label_embeddings import LabelEmbeddings
    from mlfsic_bench.features.source import FeatureSource

SELECTION_EPISODES = 100
DRAWN_TOGETHER = 32  # training episodes drawn in one call of the sampler


@dataclass(frozen=True, eq=False)
class Selection:
    """What a method that trains is trained and selected on.

    Attributes
    ----------
    base: the base part over the labels that can serve episodes.
    val: the val part likewise; None when fewer than two labels of it can: there is nothing to
        select on.
    episodes: the fixed selection episodes of `val`.
    sitting_out: part name -> labels whose pools are too small for an episode.
    hash: of the labels and the selection episodes.
    base_images: how many base images of how many, where `base` was cut; None for all.
    """

    base: Part
    val: Part | None
    episodes: tuple[Episode, ...]
    sitting_out: dict[str, list[str]]
    hash: str
    base_images: BaseImages | None = None


def select_parts(split: Split, base_images: int | None = None) -> Selection:
    """The base and val parts to train and select on, labels without a sufficient pool left out.

    Val episodes are the shipped ones; where the split has none they are drawn, over the labels
    that can serve. `base_images`: only the first so many base images (`first_base_images`); the
    val part and its episodes stay what they are.
    """
    from mlfsic_bench.episodes.servable import restrict, servable_labels

    whole, cut = split.base, None
    if base_images is not None:
        whole, cut = first_base_images(split, base_images)

    parts: dict[str, Part] = {}
    out: dict[str, list[str]] = {}
    for name, part in (("base", whole), ("val", split.val)):
        kept, left = servable_labels(part)
        parts[name] = restrict(part, kept) if left else part
        if left:
            out[name] = list(left)
    base, val = parts["base"], parts["val"]
    if len(val.labels) < 2:  # with one label every query image shows it: macro-AP is always 100 %
        val = restrict(val, ())
    if not base.labels:
        raise BenchError(
            f"no base label of split {split.id!r} has images enough for a training episode",
            expected="5 distinct images of a label: one for support, four for queries",
            found=f"{len(whole.image_ids)} base images",
            remedy="use more images, or a method that does not train",
        )
    episodes = _selection_episodes(split, val) if val.labels else ()
    value = {
        "base": list(base.labels),
        "val": list(val.labels),
        "episodes": [[list(e.support), list(e.query)] for e in episodes],
    }
    return Selection(base, val if val.labels else None, episodes, out, hash_json(value), cut)


def _selection_episodes(split: Split, val: Part) -> tuple[Episode, ...]:
    from mlfsic_bench.episodes.files import sample_episode_set, shipped_episode_set
    from mlfsic_bench.episodes.one_per_label import draw_episodes

    if val is split.val:
        shipped = shipped_episode_set(split, "val")
        return (shipped or sample_episode_set(split, "val", SELECTION_EPISODES)).episodes
    return tuple(draw_episodes(val, split.hash, "val", range(SELECTION_EPISODES)))


class PartView:
    """A part with its features: turns drawn episodes into what a method sees.

    Parameters
    ----------
    part: labels, images and targets.
    purpose: `novel`, `val` or `train/<training seed>`; names the stream of `Support.seed`.
    split_hash, seed: the split and the training seed, which name it too.
    source: where the features of the part's images come from.
    embeddings: vectors of all of the part's labels, or None.
    """

    def __init__(
        self,
        part: Part,
        purpose: str,
        split_hash: str,
        seed: int,
        source: FeatureSource,
        embeddings: LabelEmbeddings | None,
    ) -> None:
        self.part = part
        self.purpose = purpose
        self.split_hash = split_hash
        self.seed = seed
        self.source = source
        self.embeddings = (
            None if embeddings is None else self._tensor(embeddings.select(part.labels))
        )

    def support(self, index: int, episode: Episode) -> Support:
        """The support set of episode `index`, targets float32 [s, L]."""
        return Support(
            images=Images(episode.support, self.source),
            targets=self._tensor(self.part.targets_of(episode.support)),
            labels=self.part.labels,
            embeddings=self.embeddings,
            seed=stream_seed("adapt", self.split_hash, self.purpose, index, self.seed),
        )

    def query(self, episode: Episode) -> Images:
        """The query images, sorted by id, without their targets.

        An episode lists them by the label each was drawn for; in that order the places alone
        would tell a method most of the answers.
        """
        return Images(tuple(sorted(episode.query)), self.source)

    def training_part(
        self, episode: Callable[[int], Episode], n_episodes: int | None
    ) -> TrainingPart:
        """The part as `fit` gets it; `episode(i)` gives the ids of training episode i."""

        def training_episode(index: int) -> TrainingEpisode:
            ids = episode(index)
            query = self.query(ids)
            targets = self._tensor(self.part.targets_of(query.ids))
            return TrainingEpisode(self.support(index, ids), query, targets)

        return TrainingPart(
            images=Images(self.part.image_ids, self.source),
            targets=self._tensor(self.part.targets),
            labels=self.part.labels,
            embeddings=self.embeddings,
            episode=training_episode,
            n_episodes=n_episodes,
        )

    def _tensor(self, array: npt.NDArray[np.bool_] | npt.NDArray[np.float32]) -> Tensor:
        import torch

        return torch.as_tensor(array).to(self.source.device, torch.float32)


def endless_episodes(part: Part, split_hash: str, seed: int) -> Callable[[int], Episode]:
    """Training episode i of a part, for any i >= 0, from the stream `train/<seed>`."""
    from mlfsic_bench.episodes.one_per_label import EpisodeSampler

    sampler = EpisodeSampler(part, split_hash, f"train/{seed}")

    @lru_cache(maxsize=2)
    def block(number: int) -> list[Episode]:
        first = number * DRAWN_TOGETHER
        return sampler.draw(range(first, first + DRAWN_TOGETHER))

    def episode(index: int) -> Episode:
        if index < 0:
            raise IndexError(f"training episodes are numbered from 0, not {index}")
        return block(index // DRAWN_TOGETHER)[index % DRAWN_TOGETHER]

    return episode


def fixed_episodes(episodes: Sequence[Episode]) -> Callable[[int], Episode]:
    """Selection episode i of a fixed list, 0 <= i < len(episodes)."""

    def episode(index: int) -> Episode:
        if not 0 <= index < len(episodes):
            raise IndexError(f"there are {len(episodes)} selection episodes, not number {index}")
        return episodes[index]

    return episode

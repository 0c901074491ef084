"""The base, val and novel parts of a split as a method sees them: episodes with features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from mlfsic_bench.episodes.protocol import Episode, EpisodeSet
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.meta import BaseImages
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.methods.contract import Images, Support, TrainingEpisode, TrainingPart
from mlfsic_bench.randomness import stream_seed
from mlfsic_bench.splits.split import Part, Split

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from mlfsic_bench.embeddings.label_embeddings import LabelEmbeddings
    from mlfsic_bench.features.sources import FeatureSource

DRAWN_TOGETHER = 32  # training episodes drawn in one call of the sampler


@dataclass(frozen=True, eq=False)
class Selection:
    """What a method that trains is trained and selected on.

    Attributes
    ----------
    base: the base part over the labels that are feasible: those with images for an episode.
    val: the val part likewise; None when fewer than two labels of it are: there is nothing to
        select on.
    episodes: the fixed selection episodes of `val`.
    excluded_labels: part name -> labels whose pools are too small for an episode.
    hash: of the labels and the selection episodes.
    base_images: how many base images of how many, where `base` was cut, and how many labels where
        these were cut; None for all.
    """

    base: Part
    val: Part | None
    episodes: tuple[Episode, ...]
    excluded_labels: dict[str, list[str]]
    hash: str
    base_images: BaseImages | None = None


def select_parts(
    split: Split, base_images: int | None = None, base_labels: int | None = None
) -> Selection:
    """The base and val parts to train and select on, over the labels that are feasible.

    Val episodes are the shipped ones; where the split has none they are drawn. `base_labels`: only
    the so many base labels with the most images (`largest_base_labels`). `base_images`: only the
    first so many base images of what is left (`first_base_images`). The val part and its episodes
    stay what they are.
    """
    from mlfsic_bench.episodes.feasibility import feasible_labels, restrict
    from mlfsic_bench.episodes.per_label import ONE_PER_LABEL

    whole, cut = split.base, None
    if base_labels is not None:
        whole = largest_base_labels(split, base_labels)
        cut = BaseImages(
            used=len(whole.image_ids), of=len(split.base.image_ids), labels=base_labels
        )
    if base_images is not None:
        whole = first_base_images(split, base_images, whole)
        cut = BaseImages(used=base_images, of=len(split.base.image_ids), labels=base_labels)

    parts: dict[str, Part] = {}
    out: dict[str, list[str]] = {}
    for name, part in (("base", whole), ("val", split.val)):
        kept, left = feasible_labels(part, ONE_PER_LABEL.need)
        parts[name] = restrict(part, kept) if left else part
        if left:
            out[name] = list(left)
    base, val = parts["base"], parts["val"]
    if len(val.labels) < 2:  # with one label every query image shows it: macro-AP is always 100 %
        val = restrict(val, ())
    if not base.labels:
        raise BenchError(
            f"no base label of split {split.id!r} has enough images for a training episode",
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


def val_episodes(split: Split, selection: Selection) -> tuple[Part, EpisodeSet]:
    """The val part and its selection episodes, as a run with `part` val scores them."""
    from mlfsic_bench.episodes.per_label import ONE_PER_LABEL
    from mlfsic_bench.episodes.protocol import episode_set

    if selection.val is None:
        raise BenchError(
            f"split {split.id!r} has no val episodes to score",
            expected="a val part with two labels that have enough images for an episode",
            found="excluded: " + ", ".join(selection.excluded_labels.get("val", ["(none)"])),
            remedy="use more images, or another split",
        )
    return selection.val, episode_set(ONE_PER_LABEL, split, "val", selection.episodes)


def base_order(split_hash: str, image_ids: tuple[str, ...]) -> list[str]:
    """The ids in the order in which a learning curve takes them (docs/methodology.md, M48).

    An id's place is its number `stream_seed("base-images", split hash, id)`, the ids themselves
    settling ties. No training seed and no N is in it, so the images of a smaller N are among those
    of a larger one, and every method gets the same.
    """
    return sorted(image_ids, key=lambda i: (stream_seed("base-images", split_hash, i), i))


def largest_base_labels(split: Split, count: int) -> Part:
    """The base part with only the `count` labels that most base images show, in the split's order.

    Of labels with equally many images the first of the split stays (docs/methodology.md, M83).
    Images with none of these labels leave. Raises BenchError for a count below one or above the
    number of base labels.
    """
    from mlfsic_bench.episodes.feasibility import restrict

    labels = split.base.labels
    if not 1 <= count <= len(labels):
        raise BenchError(
            f"can't train on {count:,} base labels of split {split.id!r}",
            expected=f"a number from 1 to {len(labels):,}",
            found=str(count),
            remedy="correct --base-labels, or leave it out to train on all of them",
        )
    order = np.argsort(-split.base.targets.sum(axis=0, dtype=np.int64), kind="stable")
    return restrict(split.base, [labels[column] for column in order[:count]])


def first_base_images(split: Split, count: int, base: Part | None = None) -> Part:
    """The base part (or `base`, what is left of it) with only its first `count` images.

    All labels stay, also those that no image is left of. Raises BenchError for a count below one
    or above the number of base images.
    """
    base = split.base if base is None else base
    total = len(base.image_ids)
    if not 1 <= count <= total:
        with_labels = f" with one of {len(base.labels)} labels" if base is not split.base else ""
        raise BenchError(
            f"can't train on {count:,} base images{with_labels} of split {split.id!r}",
            expected=f"a number from 1 to {total:,}",
            found=str(count),
            remedy="correct --base-images, or leave it out to train on all of them",
        )
    chosen = set(base_order(split.hash, base.image_ids)[:count])
    rows = np.array([i for i, name in enumerate(base.image_ids) if name in chosen], np.int64)
    ids = tuple(base.image_ids[row] for row in rows)
    return Part(base.labels, ids, np.ascontiguousarray(base.targets[rows]))


def _selection_episodes(split: Split, val: Part) -> tuple[Episode, ...]:
    from mlfsic_bench.episodes.files import find_episodes
    from mlfsic_bench.episodes.per_label import ONE_PER_LABEL

    if val is split.val:
        return find_episodes(ONE_PER_LABEL, split, "val").episodes
    drawn = ONE_PER_LABEL.sampler(val, split.hash, "val")
    return tuple(drawn.draw(range(ONE_PER_LABEL.default_count(split, "val"))))


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

        last = -1

        def training_episode(index: int) -> TrainingEpisode:
            nonlocal last
            ids = episode(index)
            if n_episodes is None:
                # as far ahead as this one is of the last: one of several processes skips some
                after = episode(index + max(1, index - last))
                self.source.begin_episode(index, (*after.support, *after.query))
                last = index
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
    from mlfsic_bench.episodes.per_label import ONE_PER_LABEL

    sampler = ONE_PER_LABEL.sampler(part, split_hash, f"train/{seed}")

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

"""A small made-up world for the contract tests: features in which each label has a direction.

Nothing here is a measurement, but the golden gate (tests/golden) stores scores made in it. Every
image has one to three labels; each label adds its direction to some cells of the image's map, and
label embeddings are a linear image of the directions, so that a method that learns has something to
learn, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlfsic_bench.features.sources import FeatureSource
from mlfsic_bench.methods.contract import Images, Support, TrainingEpisode, TrainingPart
from mlfsic_bench.methods.limited import LimitedFeatures
from mlfsic_bench.randomness import splitmix64, stream_seed, torch_generator

CHANNELS = 24
GRID = (2, 3)  # not square, so that a swap of h and w is seen
EMBEDDING_DIMS = 10
BASE = ("apple", "boat", "cat", "drum", "egg", "fork")
VAL = ("goat", "hat", "ink", "jar")
NOVEL = ("kite", "lamp", "moon", "nest", "owl")
IMAGES_PER_LABEL = 12
QUERY_PER_LABEL = 2


class CheckSource(FeatureSource):
    """A frozen FeatureSource over maps that lie in memory; remembers what it handed out.

    Attributes
    ----------
    handed: pairs (tensor that was handed out, what it was), to see whether it was changed.
    remember: whether `handed` is being filled.
    """

    def __init__(self, ids: Sequence[str], maps: Tensor) -> None:
        self.channels = CHANNELS
        self.grid = GRID
        self.dim = CHANNELS
        self.device = torch.device("cpu")
        self.handed: list[tuple[Tensor, Tensor]] = []
        self.remember = False
        self._row = {name: i for i, name in enumerate(ids)}
        self._maps = maps

    def local(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c, h, w]."""
        return self._hand(self._maps[[self._row[i] for i in ids]])

    def pooled(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c]."""
        return self._hand(self._maps[[self._row[i] for i in ids]].mean((2, 3)))

    def _hand(self, tensor: Tensor) -> Tensor:
        if self.remember:
            self.handed.append((tensor, tensor.clone()))
        return tensor


@dataclass(frozen=True)
class CheckPart:
    """One part of the made-up world: images, targets float32 [n, L], labels, embeddings or None."""

    images: Images
    targets: Tensor
    labels: tuple[str, ...]
    embeddings: Tensor | None

    def support(self, rows: Sequence[int], seed: int = 7) -> Support:
        """The support set made of these rows, with tensors of its own."""
        embeddings = None if self.embeddings is None else self.embeddings.clone()
        return Support(
            self.images.subset(rows), self.targets[list(rows)], self.labels, embeddings, seed
        )

    def draw(self, index: int) -> tuple[list[int], list[int]]:
        """Rows of episode `index`: support, one a label, then query, two a label; all distinct."""
        seed = stream_seed("check episode", self.labels[0], index)
        used: list[int] = []
        for step, label in enumerate([*range(len(self.labels))] * (1 + QUERY_PER_LABEL)):
            pool = [r for r in self.targets[:, label].nonzero()[:, 0].tolist() if r not in used]
            used.append(pool[splitmix64(seed, step) % len(pool)])
        return used[: len(self.labels)], used[len(self.labels) :]

    def episode(self, index: int) -> TrainingEpisode:
        """Episode `index`, with its query targets."""
        support, query = self.draw(index)
        return TrainingEpisode(
            self.support(support, seed=stream_seed("check seed", index)),
            self.images.subset(query),
            self.targets[query],
        )

    def training(self, n_episodes: int | None) -> TrainingPart:
        """The part as `fit` gets it."""
        return TrainingPart(
            self.images, self.targets, self.labels, self.embeddings, self.episode, n_episodes
        )


@dataclass(frozen=True)
class CheckWorld:
    """The three parts, and the source behind the one they share."""

    source: CheckSource
    base: CheckPart
    val: CheckPart
    novel: CheckPart


def check_world(with_embeddings: bool = True, text_side: bool = False) -> CheckWorld:
    """The made-up world, always the same, with label embeddings or without.

    text_side: whether the embeddings live in the space of the images, that is, are the directions.
    """
    ids: list[str] = []
    maps: list[Tensor] = []
    parts: dict[str, tuple[tuple[str, ...], Tensor, Tensor]] = {}
    mixing = torch.randn(CHANNELS, EMBEDDING_DIMS, generator=torch_generator("check", "mixing"))
    for name, labels in (("base", BASE), ("val", VAL), ("novel", NOVEL)):
        generator = torch_generator("check", name)
        directions = 2 * torch.randn(len(labels), CHANNELS, generator=generator)
        n = IMAGES_PER_LABEL * len(labels)
        extra = torch.rand(n, len(labels), generator=generator) < 0.2
        targets = extra.float()
        targets[torch.arange(n), torch.arange(n) % len(labels)] = 1
        cells = torch.rand(n, len(labels), *GRID, generator=generator)
        noise = torch.randn(n, CHANNELS, *GRID, generator=generator)
        planted = torch.einsum("nl,lc,nlhw->nchw", targets, directions, cells)
        maps.append((planted + 0.5 * noise).relu())
        ids += [f"{name}/{i:03d}" for i in range(n)]
        mixed = directions @ mixing / CHANNELS**0.5
        parts[name] = (labels, targets, directions if text_side else mixed)
    source = CheckSource(ids, torch.cat(maps))
    limited = LimitedFeatures(source)
    built = {
        name: CheckPart(
            Images(tuple(i for i in ids if i.startswith(f"{name}/")), limited),
            targets,
            labels,
            embeddings if with_embeddings else None,
        )
        for name, (labels, targets, embeddings) in parts.items()
    }
    return CheckWorld(source, built["base"], built["val"], built["novel"])

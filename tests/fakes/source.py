"""A tiny feature source in memory, and parts and episodes on it, for tests of methods."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mlfsic_bench.methods.contract import Images, Support, TrainingEpisode, TrainingPart
from mlfsic_bench.randomness import torch_generator


class FakeSource:
    """Feature maps drawn at random from a stream keyed by the image's id.

    With `patterns` (float [C, c]) and `carried` (id -> label numbers) an image shows the pattern of
    each of its labels at one place, so there is something to learn.
    """

    def __init__(
        self,
        channels: int = 6,
        grid: tuple[int, int] = (2, 3),
        *,
        dtype: torch.dtype = torch.float32,
        patterns: Tensor | None = None,
        carried: dict[str, Sequence[int]] | None = None,
    ) -> None:
        self.channels, self.grid, self.dtype = channels, grid, dtype
        self.dim, self.vector = channels, "mean"
        self.device = torch.device("cpu")
        self.patterns, self.carried = patterns, carried or {}

    def local(self, ids: Sequence[str]) -> Tensor:
        return torch.stack([self._map(i) for i in ids]).to(self.dtype)

    def pooled(self, ids: Sequence[str]) -> Tensor:
        return self.local(ids).mean((2, 3))

    def averaged(self, ids: Sequence[str]) -> Tensor:
        return self.pooled(ids)

    def trainable_parameters(self) -> list[nn.Parameter]:
        return []

    def train(self, mode: bool) -> None:
        return None

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        return None

    def _map(self, image_id: str) -> Tensor:
        h, w = self.grid
        generator = torch_generator("fake-map", image_id)
        u = torch.rand(self.channels, h * w, generator=generator)
        if self.patterns is not None:
            labels = self.carried.get(image_id, ())
            places = torch.randperm(h * w, generator=generator)
            for place, label in zip(places, labels, strict=False):
                u[:, place] += 3 * self.patterns[label]
        return u.view(self.channels, h, w)


class TrainableFakeSource(FakeSource):
    """FakeSource behind one trainable 1x1 layer and a count of training batches, as batch norm."""

    def __init__(self, channels: int = 6, grid: tuple[int, int] = (2, 3)) -> None:
        super().__init__(channels, grid)
        self.weight = nn.Parameter(torch.eye(channels))
        self.batches = torch.zeros((), dtype=torch.int64)
        self.training = False
        self.calls = 0

    def local(self, ids: Sequence[str]) -> Tensor:
        self.calls += 1
        if self.training:
            self.batches += 1
        return torch.einsum("dc,nchw->ndhw", self.weight, super().local(ids))

    def trainable_parameters(self) -> list[nn.Parameter]:
        return [self.weight]

    def train(self, mode: bool) -> None:
        self.training = mode

    def state(self) -> dict[str, Tensor]:
        return {"weight": self.weight.detach().clone(), "batches": self.batches.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            self.weight.copy_(state["weight"])
            self.batches.copy_(state["batches"])


def fake_targets(ids: Sequence[str], labels: int, *, extra: float = 0.2) -> Tensor:
    """float32 [n, labels]: image i carries label i % labels and each other one by chance."""
    rows = []
    for i, image_id in enumerate(ids):
        chance = torch.rand(labels, generator=torch_generator("fake-targets", image_id))
        chance[i % labels] = 0
        rows.append((chance < extra).float())
    return torch.stack(rows)


def fake_support(
    source: FakeSource,
    labels: int = 5,
    *,
    prefix: str = "s",
    d_w: int = 4,
    extra: float = 0.2,
    images: int | None = None,
    seed: int = 7,
) -> Support:
    """A support of one image per label (or `images`), with random label embeddings."""
    ids = tuple(f"{prefix}{i}" for i in range(labels if images is None else images))
    embeddings = torch.randn(labels, d_w, generator=torch_generator("fake-words", labels, d_w))
    names = tuple(f"label {i}" for i in range(labels))
    targets = fake_targets(ids, labels, extra=extra)
    return Support(Images(ids, source), targets, names, embeddings.to(source.dtype), seed)


def fake_episode(
    source: FakeSource, labels: int = 5, *, prefix: str = "s", queries: int = 2, d_w: int = 4
) -> TrainingEpisode:
    """A training episode with `queries` query images per label."""
    support = fake_support(source, labels, prefix=prefix, d_w=d_w)
    ids = tuple(f"{prefix}q{i}" for i in range(labels * queries))
    return TrainingEpisode(support, Images(ids, source), fake_targets(ids, labels))


def learnable_part(
    name: str,
    *,
    labels: int = 4,
    images: int = 40,
    channels: int = 8,
    n_episodes: int | None = None,
    source: FakeSource | None = None,
    queries: int = 2,
) -> TrainingPart:
    """A part whose labels can be told from their images and from their label embeddings.

    A label's vector is (a random view of) the pattern its images show at one place.
    """
    ids = tuple(f"{name}{i:03d}" for i in range(images))
    targets = fake_targets(ids, labels, extra=0.15)
    patterns = torch.randn(labels, channels, generator=torch_generator("fake-pattern", name))
    view = torch.randn(channels, channels + 1, generator=torch_generator("fake-view"))
    carried = {i: t.nonzero()[:, 0].tolist() for i, t in zip(ids, targets, strict=True)}
    if source is None:
        source = FakeSource(channels, patterns=patterns, carried=carried)
    row = {image: i for i, image in enumerate(ids)}
    embeddings = patterns @ view
    names = tuple(f"{name} {i}" for i in range(labels))

    def episode(i: int) -> TrainingEpisode:
        generator = np.random.Generator(np.random.PCG64([i, len(name)]))
        order = generator.permutation(images)
        first = [next(int(j) for j in order if targets[j, c] > 0) for c in range(labels)]
        support_ids = tuple(ids[j] for j in dict.fromkeys(first))
        rest = [int(j) for j in order if ids[j] not in support_ids][: labels * queries]
        query_ids = tuple(ids[j] for j in rest)
        support_targets = targets[[row[j] for j in support_ids]]
        support = Support(Images(support_ids, source), support_targets, names, embeddings, seed=i)
        return TrainingEpisode(support, Images(query_ids, source), targets[rest])

    return TrainingPart(Images(ids, source), targets, names, embeddings, episode, n_episodes)

"""Feature sources, which a method asks for maps: ids in, maps out.

Stored maps, or several networks side by side; those of a network that runs now are in `live`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.base import MEAN
from mlfsic_bench.features.backbones.registry import JOIN
from mlfsic_bench.features.compute import parse_device
from mlfsic_bench.features.store.manifest import Manifest, manifest_of
from mlfsic_bench.hashing import hash_json

if TYPE_CHECKING:
    from mlfsic_bench.features.backbones.base import Backbone
    from mlfsic_bench.features.store.store import FeatureStore


@dataclass(frozen=True)
class Shape:
    """What the features of a source look like.

    Attributes
    ----------
    channels, grid: c and (h, w) of a map.
    dim, vector: d of a global vector, and what that is.
    """

    channels: int
    grid: tuple[int, int]
    dim: int
    vector: str

    @classmethod
    def of(cls, source: Shape | FeatureSource) -> Shape:
        """That of a source."""
        return cls(source.channels, source.grid, source.dim, source.vector)


@runtime_checkable
class FeatureSource(Protocol):
    """Where a method gets its features from, stored or live, behind one interface.

    `channels` is c and `grid` is (h, w) of a map; `dim` is d of a global vector, and `vector` what
    that is (`Backbone.vector`); `device` is where the tensors lie. What a class that derives from
    this one leaves out is as in a frozen source.
    """

    channels: int
    grid: tuple[int, int]
    dim: int
    vector: str = MEAN
    device: torch.device

    def local(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c, h, w]: the local feature maps f_loc of these images, in this order."""

    def pooled(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, d]: their global vectors; for the mean, f_glo of equation 1 of the paper."""

    def averaged(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c]: the averages of their maps over h and w, whatever the global vector is.

        Where that is the mean, these are `pooled`: not made from maps rounded to float16.
        """
        return self.pooled(ids) if self.vector == MEAN else self.local(ids).mean(dim=(2, 3))

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """The backbone's parameters when it is trained end to end; empty for a frozen source."""
        return []

    def train(self, mode: bool) -> None:
        """Put a trainable backbone in training or evaluation mode; nothing for a frozen one."""
        return

    def begin_episode(self, number: int, upcoming: Sequence[str]) -> None:
        """Training episode `number` begins, and `upcoming` are likely the images of the next one.

        A live source decodes these meanwhile, and draws what it draws at random by the number.
        """
        return

    def state(self) -> dict[str, Tensor]:
        """The backbone's weights when it is trainable; empty for a frozen source."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        return


CHECKED = 16  # images whose maps are looked at together


class StoredFeatures(FeatureSource):
    """A FeatureSource over a store: frozen, no images needed."""

    def __init__(self, store: FeatureStore, device: str | torch.device = "cpu") -> None:
        self.store = store
        self.device = parse_device(device)
        self.channels, self.grid = store.manifest.channels, store.manifest.grid
        self.dim, self.vector = store.manifest.dim, store.manifest.vector

    def local(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c, h, w] on `device`, from float16 rows; BenchError for unknown images."""
        return self.store.gather_local(ids).to(self.device)

    def pooled(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, d] on `device`; stored in float32, not made from the rounded maps.

        BenchError naming the first image whose row is damaged, that is not finite.
        """
        pooled = self.store.gather_pooled(ids)
        self._refuse_damaged(ids, pooled)
        return pooled.to(self.device)

    def check(self, ids: Sequence[str]) -> None:
        """BenchError naming the first of these images whose stored features are not finite.

        `local` does not look: it would cost a good part of the gathering.
        """
        self.pooled(ids)
        for start in range(0, len(ids), CHECKED):
            some = ids[start : start + CHECKED]
            self._refuse_damaged(some, self.store.gather_local(some).flatten(1))

    def _refuse_damaged(self, ids: Sequence[str], values: Tensor) -> None:
        if math.isfinite(float(values.sum())):  # many times cheaper than looking at each
            return
        finite = torch.isfinite(values).all(1).tolist()
        bad = [name for name, sound in zip(ids, finite, strict=True) if not sound]
        if not bad:  # the sum alone was too large
            return
        folder = self.store.folder
        raise BenchError(
            f"{folder}: the feature store is damaged",
            expected="finite features of every image, as they were when they were stored",
            found=f"NaN or infinity for {bad[0]}"
            + (f" and {len(bad) - 1} more" if len(bad) > 1 else ""),
            remedy=f"see the extent with `mlfsic-bench features verify {folder}`, then remove the "
            "store's folder and extract again",
        )

    def load_state(self, state: dict[str, Tensor]) -> None:
        """BenchError when a state is offered: it belongs to a run with a trainable backbone."""
        if state:
            raise BenchError(
                "this run's features are stored, but the saved state holds a backbone",
                expected="an empty state",
                found=f"{len(state)} tensors, such as {next(iter(state))}",
                remedy="resume with the live backbone the run was started with",
            )


Grid = tuple[int, int]


class JoinedFeatures(FeatureSource):
    """A FeatureSource that sets the features of several side by side.

    Source: docs/methodology.md, M34. Channels come in the order of the sources, unscaled. The maps
    are brought to the coarsest grid by `to_grid`, which keeps averages. `pooled` is the networks'
    global vectors side by side: where each is a mean, the average of `local`. Every network keeps
    its own transform and input size, and a store of its own.

    Parameters
    ----------
    sources: a source for each network, by the network's name; at least one.
    """

    def __init__(self, sources: dict[str, FeatureSource]) -> None:
        self.sources = sources
        every = list(sources.values())
        self.device = every[0].device
        self.channels = sum(source.channels for source in every)
        self.grid = coarsest([source.grid for source in every])
        self.dim = sum(source.dim for source in every)
        self.vector = join_vectors([source.vector for source in every])

    def local(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c1 + c2, h, w]: the maps side by side, on the coarsest grid."""
        maps = [to_grid(source.local(ids), self.grid) for source in self.sources.values()]
        return torch.cat(maps, dim=1)

    def pooled(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, d1 + d2]: the global vectors side by side."""
        return torch.cat([source.pooled(ids) for source in self.sources.values()], dim=1)

    def averaged(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c1 + c2]: the averages of the maps side by side."""
        return torch.cat([source.averaged(ids) for source in self.sources.values()], dim=1)

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """The parameters of all networks that are trained."""
        return [p for source in self.sources.values() for p in source.trainable_parameters()]

    def train(self, mode: bool) -> None:
        """Put every trainable network in training or evaluation mode."""
        for source in self.sources.values():
            source.train(mode)

    def begin_episode(self, number: int, upcoming: Sequence[str]) -> None:
        """Tell every network, all of which then draw the same for an image."""
        for source in self.sources.values():
            source.begin_episode(number, upcoming)

    def state(self) -> dict[str, Tensor]:
        """The weights of all trainable networks, each name prefixed by `<network>/`."""
        return {
            f"{name}/{key}": value
            for name, source in self.sources.items()
            for key, value in source.state().items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned; BenchError when it does not fit."""
        parts: dict[str, dict[str, Tensor]] = {name: {} for name in self.sources}
        for key, value in state.items():
            name, _, inner = key.partition("/")
            if name not in parts:
                raise BenchError(
                    "the saved state belongs to other networks",
                    expected=f"weights of {', '.join(self.sources)}",
                    found=key,
                    remedy="name the backbones the state was saved with, in --backbone",
                )
            parts[name][inner] = value
        for name, source in self.sources.items():
            source.load_state(parts[name])


def join_vectors(vectors: Sequence[str]) -> str:
    """What several networks' global vectors side by side are.

    >>> join_vectors(["mean", "mean"]), join_vectors(["mean", "class token"])
    ('mean', 'mean + class token')
    """
    return vectors[0] if len(set(vectors)) == 1 else " + ".join(vectors)


def coarsest(grids: Sequence[Grid]) -> Grid:
    """(h, w): the smallest height and the smallest width."""
    return min(h for h, _ in grids), min(w for _, w in grids)


def to_grid(maps: Tensor, grid: Grid) -> Tensor:
    """float [n, c, h, w] of maps on a finer grid: every cell averages what it covers, by area.

    Where one grid divides the other (14 x 14 to 7 x 7) this is ordinary average pooling. Where it
    does not (9 x 9 to 7 x 7), cells at the border of two are divided between them, so that the
    average over the map, the pooled feature, stays the same; adaptive pooling would count them
    twice.
    """
    if maps.shape[2:] == grid:
        return maps
    rows, columns = (
        _shares(fine, coarse).to(maps) for fine, coarse in zip(maps.shape[2:], grid, strict=True)
    )
    return rows @ maps @ columns.T


def _shares(fine: int, coarse: int) -> Tensor:
    """float64 [coarse, fine]: the share each fine cell has in each coarse one; rows sum to 1."""
    # In units of 1 / (fine coarse) of the side, all borders are whole numbers.
    i, j = torch.arange(coarse)[:, None], torch.arange(fine)[None]
    start = torch.maximum(i * fine, j * coarse)
    end = torch.minimum((i + 1) * fine, (j + 1) * coarse)
    return (end - start).clamp(min=0).double() / fine


@dataclass(frozen=True)
class Description(Shape):
    """What a record and a key say about the features of one or several networks.

    Attributes
    ----------
    name, transform: those of the networks, joined by + (transforms by ` + `).
    weights_hash: of one network its own; of several, SHA-256 of the list of theirs.
    channels, dim: their sums. grid: the coarsest.
    vector: what the global vectors are.
    """

    name: str
    weights_hash: str
    transform: str


def describe(backbones: Sequence[Backbone]) -> Description:
    """The description of these networks' features side by side."""
    return describe_stored([manifest_of("", backbone, "fp32") for backbone in backbones])


def describe_stored(manifests: Sequence[Manifest]) -> Description:
    """The description of stored features side by side, of a manifest for each network."""
    hashes = [one.weights_hash for one in manifests]
    return Description(
        name=JOIN.join(one.backbone for one in manifests),
        weights_hash=hashes[0] if len(hashes) == 1 else hash_json(hashes),
        transform=" + ".join(one.transform for one in manifests),
        channels=sum(one.channels for one in manifests),
        grid=coarsest([one.grid for one in manifests]),
        dim=sum(one.dim for one in manifests),
        vector=join_vectors([one.vector for one in manifests]),
    )


def join(backbones: Sequence[Backbone], sources: Sequence[FeatureSource]) -> FeatureSource:
    """The source itself when there is one network, else a JoinedFeatures of them all."""
    if len(sources) == 1:
        return sources[0]
    names = [backbone.name for backbone in backbones]
    return JoinedFeatures(dict(zip(names, sources, strict=True)))

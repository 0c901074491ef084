"""Several networks' features side by side: concatenated channels on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.names import JOIN
from mlfsic_bench.hashing import hash_json

if TYPE_CHECKING:
    from mlfsic_bench.features.backbones.base import Backbone
    from mlfsic_bench.features.source import FeatureSource

Grid = tuple[int, int]


class JoinedFeatures:
    """A FeatureSource that asks several and sets their answers side by side.

    Source: docs/methodology.md, M34. Channels come in the order of the sources, unscaled. The maps
    are brought to the coarsest grid by `to_grid`; as that keeps averages, `pooled` is both the
    networks' pooled features side by side and the average of `local`. Every network keeps its own
    transform and input size, and a store of its own.

    Implements `features.source.FeatureSource`; see there for the members.

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

    def local(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c1 + c2, h, w]: the maps side by side, on the coarsest grid."""
        maps = [to_grid(source.local(ids), self.grid) for source in self.sources.values()]
        return torch.cat(maps, dim=1)

    def pooled(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c1 + c2]: the pooled features side by side."""
        return torch.cat([source.pooled(ids) for source in self.sources.values()], dim=1)

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """The parameters of all networks that are trained."""
        return [p for source in self.sources.values() for p in source.trainable_parameters()]

    def train(self, mode: bool) -> None:
        """Put every trainable network in training or evaluation mode."""
        for source in self.sources.values():
            source.train(mode)

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
class Description:
    """What a record and a key say about the features of one or several networks.

    Attributes
    ----------
    name, transform: those of the networks, joined by + (transforms by ` + `).
    weights_hash: of one network its own; of several, SHA-256 of the list of theirs.
    channels: their sum. grid: the coarsest.
    """

    name: str
    weights_hash: str
    transform: str
    channels: int
    grid: Grid


def describe(backbones: Sequence[Backbone]) -> Description:
    """The description of these networks' features side by side."""
    hashes = [backbone.weights_hash for backbone in backbones]
    return Description(
        name=JOIN.join(backbone.name for backbone in backbones),
        weights_hash=hashes[0] if len(hashes) == 1 else hash_json(hashes),
        transform=" + ".join(backbone.transform_id for backbone in backbones),
        channels=sum(backbone.channels for backbone in backbones),
        grid=coarsest([(backbone.grid[0], backbone.grid[1]) for backbone in backbones]),
    )


def join(backbones: Sequence[Backbone], sources: Sequence[FeatureSource]) -> FeatureSource:
    """The source itself when there is one network, else a JoinedFeatures of them all."""
    if len(sources) == 1:
        return sources[0]
    names = [backbone.name for backbone in backbones]
    return JoinedFeatures(dict(zip(names, sources, strict=True)))

"""Features of exactly the images a method asks for, extracted when it first asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mlfsic_bench.methods.limited import not_given

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mlfsic_bench.features.source import FeatureSource


class DeferredFeatures:
    """A frozen feature source that is opened at the first request.

    Methods differ in what they look at: a random scorer needs no features at all, a classifier on
    frozen features no base images. Opening late spares them the extraction.

    Parameters
    ----------
    channels, grid, device: what the source will have, known from the backbone.
    wanted: the images that will be asked for; extracted at the first request.
    others: images that may be asked for; extracted when one of them is.
    open_source: makes the source of these images.

    Images of neither kind are refused: `fit` is not given images of the novel part.

    Attributes
    ----------
    source: what was opened; None before the first request.
    """

    def __init__(
        self,
        channels: int,
        grid: tuple[int, int],
        device: torch.device,
        wanted: Sequence[str],
        others: Sequence[str],
        open_source: Callable[[Sequence[str]], FeatureSource],
    ) -> None:
        self.channels = channels
        self.grid = grid
        self.device = device
        self._wanted = frozenset(wanted)
        self._others = frozenset(others)
        self._open = open_source
        self.source: FeatureSource | None = None

    def local(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c, h, w]: local feature maps."""
        return self._opened(ids).local(ids)

    def pooled(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c]: pooled features."""
        return self._opened(ids).pooled(ids)

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """None: the backbone is frozen."""
        return []

    def train(self, mode: bool) -> None:
        """Nothing: the backbone is frozen."""

    def state(self) -> dict[str, Tensor]:
        """Empty: the backbone is frozen."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing: the backbone is frozen."""

    def _opened(self, ids: Sequence[str]) -> FeatureSource:
        foreign = [i for i in ids if i not in self._wanted and i not in self._others]
        if foreign:
            raise not_given(foreign)
        if self.source is None or not self._wanted.issuperset(ids):
            if not self._wanted.issuperset(ids):
                self._wanted |= self._others
            self.source = self._open(sorted(self._wanted))
        return self.source

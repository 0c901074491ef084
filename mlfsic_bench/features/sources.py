"""Feature sources: stored maps, or a backbone that runs inside the graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.weights import load_strictly
from mlfsic_bench.features.compute import parse_device

if TYPE_CHECKING:
    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.features.backbones.base import Backbone
    from mlfsic_bench.features.store.store import FeatureStore

DECODERS = 4
CHECKED = 16  # images whose maps are looked at together


class StoredFeatures:
    """A FeatureSource over a store: frozen, no images needed.

    Implements `features.source.FeatureSource`; see there for the members.
    """

    def __init__(self, store: FeatureStore, device: str | torch.device = "cpu") -> None:
        self.store = store
        self.device = parse_device(device)
        self.channels = store.manifest.channels
        self.grid = store.manifest.grid

    def local(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c, h, w] on `device`, from float16 rows; BenchError for unknown images."""
        return self.store.gather_local(ids).to(self.device)

    def pooled(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c] on `device`; stored in float32, not made from the rounded maps.

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

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """None: stored features are frozen."""
        return []

    def train(self, mode: bool) -> None:
        """Nothing to do."""

    def state(self) -> dict[str, Tensor]:
        """Nothing to save."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """BenchError when a state is offered: it belongs to a run with a trainable backbone."""
        if state:
            raise BenchError(
                "this run's features are stored, but the saved state holds a backbone",
                expected="an empty state",
                found=f"{len(state)} tensors, such as {next(iter(state))}",
                remedy="resume with the live backbone the run was started with",
            )


class LiveFeatures:
    """A FeatureSource that decodes images and runs the backbone when asked.

    With `trainable` the backbone's weights receive gradients and `train(True)` puts its batch
    norms in training mode; without, it stays in evaluation mode and builds no graph. Each call
    runs the network: a method that wants both maps and pooled features of the same images should
    average the maps itself. The backbone given is moved to `device` and used, not copied.

    Implements `features.source.FeatureSource`; see there for the members.
    """

    def __init__(
        self,
        backbone: Backbone,
        dataset: Dataset,
        device: str | torch.device = "cpu",
        trainable: bool = False,
    ) -> None:
        self.device = parse_device(device)
        self.backbone = backbone.to(self.device).requires_grad_(trainable).eval()
        self._dataset = dataset
        self.trainable = trainable
        self.channels, self.grid = backbone.channels, (backbone.grid[0], backbone.grid[1])

    def local(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c, h, w] on `device`, in the graph when trainable."""
        if not len(ids):
            return torch.empty(0, self.channels, *self.grid, device=self.device)
        x = self.inputs(ids)
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            maps: Tensor = self.backbone(x)
        return maps

    def pooled(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c] on `device`: the average of `local` over h and w."""
        return self.local(ids).mean(dim=(2, 3))

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """The backbone's parameters when trainable, else none."""
        return list(self.backbone.parameters()) if self.trainable else []

    def train(self, mode: bool) -> None:
        """Training or evaluation mode of a trainable backbone; a frozen one stays in evaluation."""
        self.backbone.train(mode and self.trainable)

    def state(self) -> dict[str, Tensor]:
        """Copies of the backbone's weights on the CPU when trainable, else nothing."""
        if not self.trainable:
            return {}
        state = self.backbone.state_dict()
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned; BenchError when it does not fit."""
        if self.trainable or state:
            load_strictly(self.backbone, state, "the saved state of the backbone")

    def inputs(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, 3, height, width] on `device`: what the network is given."""
        with ThreadPoolExecutor(DECODERS) as threads:
            return torch.stack(list(threads.map(self._input, ids))).to(self.device)

    def _input(self, image_id: str) -> Tensor:
        return self.backbone.transform(self._dataset.open_image(image_id))

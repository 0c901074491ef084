"""The interface a method asks for feature maps: ids in, maps out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@runtime_checkable
class FeatureSource(Protocol):
    """Where a method gets its features from, stored or live, behind one interface.

    `channels` is c, `grid` is (h, w), `device` is where the tensors lie. What a class that derives
    from this one leaves out is as in a frozen source.
    """

    channels: int
    grid: tuple[int, int]
    device: torch.device

    def local(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c, h, w]: the local feature maps f_loc of these images, in this order."""

    def pooled(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c]: their average over h and w, f_glo (equation 1 of the paper)."""

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """The backbone's parameters when it is trained end to end; empty for a frozen source."""
        return []

    def train(self, mode: bool) -> None:
        """Put a trainable backbone in training or evaluation mode; nothing for a frozen one."""
        return

    def state(self) -> dict[str, Tensor]:
        """The backbone's weights when it is trainable; empty for a frozen source."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""

"""A feature source that serves the images at hand, and whose failures are not a method's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

from mlfsic_bench.errors import BenchError

if TYPE_CHECKING:
    from torch import Tensor

    from mlfsic_bench.features.source import FeatureSource
    from mlfsic_bench.methods.contract import Images


def not_given(foreign: Sequence[str]) -> BenchError:
    """The error of a method that asks for the features of these images, which it was not given."""
    return BenchError(
        f"a method asked for features of {len(foreign)} images that it was not given",
        expected="images of the support or query at hand (in fit: of base and val)",
        found=", ".join(foreign[:3]),
        remedy="correct the method: ask only for images that were handed over",
    )


class LimitedFeatures:
    """A FeatureSource that refuses images other than those at hand (`limited_to`).

    Implements `features.source.FeatureSource`; see there for the members.

    Attributes
    ----------
    source: where features come from.
    allowed: the images that are served; None for all that the source has.
    """

    def __init__(self, source: FeatureSource) -> None:
        self.source = source
        self.channels, self.grid, self.device = source.channels, source.grid, source.device
        self.allowed: frozenset[str] | None = None

    def local(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c, h, w]: local feature maps."""
        with self._serving(ids):
            return self.source.local(ids)

    def pooled(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c]: pooled features."""
        with self._serving(ids):
            return self.source.pooled(ids)

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """Those of the source."""
        return self.source.trainable_parameters()

    def train(self, mode: bool) -> None:
        """As the source does."""
        self.source.train(mode)

    def state(self) -> dict[str, Tensor]:
        """That of the source."""
        return self.source.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """As the source does."""
        self.source.load_state(state)

    @contextmanager
    def _serving(self, ids: Sequence[str]) -> Iterator[None]:
        if isinstance(ids, str) or not all(isinstance(i, str) for i in ids):
            raise TypeError("features are asked for with a list or tuple of image ids")
        foreign = [] if self.allowed is None else [i for i in ids if i not in self.allowed]
        if foreign:
            raise not_given(foreign)
        # Features are made outside of the caller's inference mode: what a source keeps is used in
        # training too, where tensors made in that mode can't be.
        grad = torch.is_grad_enabled()
        try:
            with torch.inference_mode(False), torch.set_grad_enabled(grad):
                yield
        except BenchError:
            raise
        except Exception as error:
            raise BenchError(
                f"the features of {len(ids)} images can't be read or made",
                expected="features of every image",
                found=f"{type(error).__name__}: {error}",
                remedy="see what was found; it is not the method that is wrong",
            ) from error


@contextmanager
def limited_to(*images: Images, and_ids: Sequence[str] = ()) -> Iterator[None]:
    """In the block the sources of these images serve these images (and `and_ids`) and no other."""
    allowed = frozenset(and_ids).union(*(one.ids for one in images))
    with ExitStack() as stack:
        seen: list[LimitedFeatures] = []
        for one in images:
            source = one.source
            if isinstance(source, LimitedFeatures) and not any(source is s for s in seen):
                seen.append(source)
                stack.callback(setattr, source, "allowed", source.allowed)
                source.allowed = allowed
        yield

"""A feature source that gives the images at hand, and whose failures are not a method's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.sources import Shape

if TYPE_CHECKING:
    from torch import Tensor

    from mlfsic_bench.features.sources import FeatureSource
    from mlfsic_bench.methods.contract import Images


def not_given(foreign: Sequence[str]) -> BenchError:
    """The error of a method that asks for the features of these images, which it was not given."""
    return BenchError(
        f"a method asked for features of {len(foreign)} images that it was not given",
        expected="images of this episode's support or query (in fit: of base and val)",
        found=", ".join(foreign[:3]),
        remedy="correct the method: ask only for images that were handed over",
    )


class LimitedFeatures:
    """A FeatureSource that gives the features of the images at hand (`limited_to`) and no others.

    Implements `features.sources.FeatureSource`; see there for the members.

    Attributes
    ----------
    source: where features come from; None where it is not open yet (`deferred`).
    allowed: the images at hand; None for all that the source has.
    """

    source: FeatureSource | None

    def __init__(self, source: FeatureSource) -> None:
        self._set_shape(Shape.of(source), source.device)
        self.source = source

    @classmethod
    def deferred(
        cls,
        shape: Shape,
        device: torch.device,
        wanted: Sequence[str],
        others: Sequence[str],
        open_source: Callable[[Sequence[str]], FeatureSource],
    ) -> LimitedFeatures:
        """A frozen source that is opened at the first request.

        Methods differ in what they look at: a random scorer needs no features at all, a classifier
        on frozen features no base images. Opening late spares them the extraction.

        Parameters
        ----------
        shape, device: what the source will have, known from the backbone.
        wanted: the images that will be asked for; extracted at the first request.
        others: images that may be asked for; extracted when one of them is. Images of neither kind
            are refused: `fit` is not given images of the novel part.
        open_source: makes the source of these images.
        """
        made = cls.__new__(cls)
        made._set_shape(shape, device)
        made.source = None
        made._wanted, made._all = frozenset(wanted), frozenset((*wanted, *others))
        made._open = open_source
        return made

    def _set_shape(self, shape: Shape, device: torch.device) -> None:
        self.channels, self.grid, self.device = shape.channels, shape.grid, device
        self.dim, self.vector = shape.dim, shape.vector
        self.allowed: frozenset[str] | None = None
        self._wanted: frozenset[str] = frozenset()
        self._all: frozenset[str] | None = None  # None: the source says what it has
        self._open: Callable[[Sequence[str]], FeatureSource] | None = None

    def local(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c, h, w]: local feature maps."""
        with self._opened(ids) as source:
            return source.local(ids)

    def pooled(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, d]: global vectors."""
        with self._opened(ids) as source:
            return source.pooled(ids)

    def averaged(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c]: averages of the maps."""
        with self._opened(ids) as source:
            return source.averaged(ids)

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """Those of the source; none where it is opened late, for it is frozen then."""
        return self.source.trainable_parameters() if self.source else []

    def train(self, mode: bool) -> None:
        """As the source does."""
        if self.source:
            self.source.train(mode)

    def begin_episode(self, number: int, upcoming: Sequence[str]) -> None:
        """As the source does; a frozen one that is opened late need not know."""
        if self.source:
            self.source.begin_episode(number, upcoming)

    def state(self) -> dict[str, Tensor]:
        """That of the source."""
        return self.source.state() if self.source else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """As the source does."""
        if self.source:
            self.source.load_state(state)

    @contextmanager
    def _opened(self, ids: Sequence[str]) -> Iterator[FeatureSource]:
        if isinstance(ids, str) or not all(isinstance(i, str) for i in ids):
            raise TypeError("features are asked for with a list or tuple of image ids")
        for known in (self.allowed, self._all):
            foreign = [] if known is None else [i for i in ids if i not in known]
            if foreign:
                raise not_given(foreign)
        # Features are made outside of the caller's inference mode: what a source keeps is used in
        # training too, where tensors made in that mode can't be.
        grad = torch.is_grad_enabled()
        try:
            with torch.inference_mode(False), torch.set_grad_enabled(grad):
                if self._open and self._all is not None:
                    more = not self._wanted.issuperset(ids)
                    if more:
                        self._wanted = self._all
                    if self.source is None or more:
                        self.source = self._open(sorted(self._wanted))
                assert self.source is not None
                yield self.source
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
    """In the block the sources of these images give these (and `and_ids`) and no others."""
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

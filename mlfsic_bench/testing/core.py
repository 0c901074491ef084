"""What every contract test uses: the failure with its explanation, the bench, comparisons."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mlfsic_bench.methods.calls import adapting, predictor_of
from mlfsic_bench.methods.contract import FitContext, Images, Method, Predictor, Support
from mlfsic_bench.methods.limited import limited_to
from mlfsic_bench.plugins.surroundings import preserved
from mlfsic_bench.testing.contract import CheckFailedError, CheckNotMadeError
from mlfsic_bench.testing.world import CheckWorld, check_world

if TYPE_CHECKING:
    from mlfsic_bench.testing.process import FreshProcess

TOLERANCE = 1e-4  # relative to the largest score: float32 sums in another order, not a dependence
FIT_SEED = 20220222
_GLOBAL_SEED = 1


class Bench:
    """The method under test and the world it is tested in.

    Every call into the method goes through here and starts from the same global random state, so
    that a method which reads global randomness fails the test for that and no other.
    """

    def __init__(self, make: Callable[[], Method], fresh: FreshProcess | None = None) -> None:
        self.make = make
        self.fresh = fresh
        first = make()
        self.method_class = type(first)
        # other methods are given none
        self.with_embeddings = first.needs_embeddings or first.uses_embeddings
        self.text_side = first.needs_text_side
        self.transductive = first.transductive
        self.world = self.made_up()
        self.whole_ways: list[tuple[Tensor, list[str]]] = []  # filled by score_tests
        self._fitted: Method | None = None
        self._supports: dict[int, tuple[Predictor, Images]] = {}

    def made_up(self) -> CheckWorld:
        """A made-up world as this method is given one."""
        return check_world(self.with_embeddings, self.text_side)

    def fitted(self) -> Method:
        """A fitted method for one test: fitted once, then copied."""
        if self._fitted is None:
            self._fitted = self.fit()
        try:
            return copy.deepcopy(self._fitted)
        except Exception:  # a method that can't be copied is fitted anew; no rule forbids it
            return self.fit()

    def fit(
        self, world: CheckWorld | None = None, *, with_val: bool = True, seed: int = FIT_SEED
    ) -> Method:
        """A fresh method, fitted on `world`, or on one made for it."""
        world = world or self.made_up()
        with same_global_state():
            return fitted_on(self.make(), world, with_val=with_val, seed=seed)

    def support(self, index: int = 0) -> Support:
        """The support of novel episode `index`."""
        return self.world.novel.episode(index).support

    def query(self, index: int = 0) -> Images:
        """The query of novel episode `index`."""
        return self.world.novel.episode(index).query

    def many_queries(self, count: int = 30) -> Images:
        """More query images than a small episode has; none of them in the support of episode 0."""
        support, _ = self.world.novel.draw(0)
        rows = [row for row in range(len(self.world.novel.images)) if row not in support]
        return self.world.novel.images.subset(rows[:count])

    def adapt(self, method: Method, support: Support) -> Predictor:
        """`method.adapt(support)`."""
        return self.adapt_each(method, [support])[0]

    def adapt_each(self, method: Method, supports: Sequence[Support]) -> list[Predictor]:
        """`method.adapt` of one support after the other."""
        predictors = []
        with same_global_state():
            for support in supports:
                with adapting(method, [support]):
                    predictor = method.adapt(support)
                predictors.append(self._known(predictor_of(method, predictor), support))
        return predictors

    def adapt_all(self, method: Method, supports: Sequence[Support]) -> Any:
        """`method.adapt_all(supports)`, which need not be the list that it should be."""
        with same_global_state(), adapting(method, supports):
            found: Any = method.adapt_all(supports)
        if not isinstance(found, list) or len(found) != len(supports):
            return found
        return [
            self._known(predictor_of(method, one), support)
            for one, support in zip(found, supports, strict=True)
        ]

    def _known(self, predictor: Predictor, support: Support) -> Predictor:
        self._supports[id(predictor)] = predictor, support.images
        return predictor

    @contextmanager
    def asking(self, predictor: Predictor, query: Images) -> Iterator[None]:
        """What surrounds a call of a predictor: these images and its support have features."""
        known = self._supports.get(id(predictor))
        support = known[1].ids if known is not None else ()
        with torch.no_grad(), limited_to(query, and_ids=support):
            yield

    def scores(self, predictor: Predictor, query: Images) -> Tensor:
        """The scores as float64 [q, L]; CheckNotMadeError when they aren't a tensor [q, L]."""
        return usable(self.raw_scores(predictor, query), len(query))

    def raw_scores(self, predictor: Predictor, query: Images) -> Any:
        """Whatever the predictor returns, called as a run calls it."""
        with same_global_state(), self.asking(predictor, query):
            return predictor(query)

    def ask(self, method: Method, support: Support, query: Images) -> Tensor:
        """Adapt and score in one go."""
        return self.scores(self.adapt(method, support), query)

    def decisions(self, predictor: Predictor, query: Images) -> Tensor | None:
        """What `decide` returns; None when the predictor has none."""
        decide: Callable[[Images], Tensor] | None = getattr(predictor, "decide", None)
        if decide is None:
            return None
        with same_global_state(), self.asking(predictor, query):
            return decide(query)


def fitted_on(
    method: Method, world: CheckWorld, *, with_val: bool = True, seed: int = FIT_SEED
) -> Method:
    """`method`, fitted on the base and val parts of `world`."""
    val = world.val.training(4) if with_val else None
    images = [world.base.images, *([world.val.images] if with_val else [])]
    with limited_to(*images):
        method.fit(world.base.training(None), val, FitContext(seed))
    return method


def usable(scores: Any, rows: int) -> Tensor:
    """`scores` as float64, when a comparison can be made of them; else CheckNotMadeError."""
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != rows:
        raise CheckNotMadeError("the scores have no usable form; see the test `scores`")
    return scores.detach().double()


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference of two score tables, relative to the largest score; inf if shapes
    or NaNs differ.
    """
    if a.shape != b.shape or not torch.equal(a.isnan(), b.isnan()):
        return float("inf")
    a, b = a.nan_to_num(), b.nan_to_num()
    if a.numel() == 0 or torch.equal(a, b):
        return 0.0
    return float((a - b).abs().max() / torch.maximum(a.abs().max(), b.abs().max()))


def require_same(
    a: Tensor, b: Tensor, *, done: str, cause: str, remedy: str, exact: bool = False
) -> None:
    """CheckFailedError unless two score tables agree, to `TOLERANCE` or exactly."""
    found = difference(a, b)
    limit = 0.0 if exact else TOLERANCE
    if not found <= limit:
        raise CheckFailedError(
            done,
            expected="the same scores" + ("" if exact else f" (to {limit:g} of the largest)"),
            came=f"a difference of {found:.3g} of the largest score"
            + ("" if a.shape == b.shape else f" (shapes {list(a.shape)} and {list(b.shape)})"),
            cause=cause,
            remedy=remedy,
        )


@contextmanager
def same_global_state(seed: int = _GLOBAL_SEED) -> Iterator[None]:
    """Run with the global generators at `seed`; then all is as before (`surroundings`).

    This is the one place where global seeds are set: to find out whether anyone reads them.
    """
    with preserved():
        seed_globals(seed)
        yield


def seed_globals(seed: int) -> None:
    """Seed the global generators of random, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the legacy generator is the one under test
    torch.manual_seed(seed)

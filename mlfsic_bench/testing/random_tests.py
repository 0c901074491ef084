"""Contract tests of randomness: same seed, same scores; global random state left alone."""

from __future__ import annotations

import torch
from torch import Tensor

from mlfsic_bench.methods.calls import adapting, predictor_of
from mlfsic_bench.methods.limited import limited_to
from mlfsic_bench.methods.surroundings import RANDOM, preserved, watching
from mlfsic_bench.testing.core import (
    Bench,
    Check,
    CheckFailedError,
    CheckNotMadeError,
    difference,
    fitted_on,
    require_same,
    seed_globals,
    usable,
)
from mlfsic_bench.testing.world import check_world


def determinism(bench: Bench) -> None:
    """Fit and adapt twice with the same seeds: bit for bit the same scores."""
    first = bench.answers(bench.fitted(), bench.support(), bench.query())
    second = bench.answers(bench.fit(), bench.support(), bench.query())
    require_same(
        first,
        second,
        done="A fresh method was fitted, adapted and asked, twice, with the same seeds.",
        cause="a generator without a seed, hash() or the order of a set, the clock, or a cache "
        "outside the instance",
        remedy="draw only from a generator seeded with context.seed (in fit) or support.seed "
        "(in adapt), e.g. mlfsic_bench.randomness.torch_generator('my-method', support.seed)",
        exact=True,
    )


def global_rng(bench: Bench) -> None:
    """Nothing depends on the global random state, and nothing changes it."""
    ways = _whole_ways(bench)
    changed = sorted({name for _, names in ways for name in names if name in RANDOM})
    if changed:
        raise CheckFailedError(
            "The method was fitted, adapted and asked, and the state of the global "
            "generators compared before and after.",
            expected="the global states of random, numpy.random and torch.random as before",
            came=f"{', '.join(changed)} had changed",
            cause="a draw without a generator (torch.randn(...), np.random.rand(), "
            "random.shuffle, an nn.Module that initialises itself, dropout), or a call "
            "of a global seed",
            remedy="give every draw a generator of its own; initialise modules under "
            "torch.random.fork_rng() seeded from context.seed",
        )
    results = [scores for scores, _ in ways]
    if difference(results[0], results[1]) > 0:
        raise CheckNotMadeError("even one global seed gives two results; see `determinism`")
    if difference(results[1], results[2]) > 0:
        raise CheckFailedError(
            "The method was fitted, adapted and asked under two global seeds.",
            expected="the same scores",
            came=f"a difference of {difference(results[1], results[2]):.3g} of the largest score",
            cause="the global random state is read (and put back)",
            remedy="seed from context.seed and support.seed, not from the global state",
        )


def global_state(bench: Bench) -> None:
    """Nothing else of the process is changed: dtypes, modes, the working folder and the like."""
    # Not of the first way: modules that are imported in there set filters and variables.
    changed = sorted({n for _, names in _whole_ways(bench)[1:] for n in names if n not in RANDOM})
    if changed:
        raise CheckFailedError(
            "The method was made, fitted, adapted and asked, and the state of the process compared "
            "before and after.",
            expected="everything as before: whatever comes next runs in the same process",
            came=f"changed: {', '.join(changed)}",
            cause="a default or mode of torch, numpy or Python is set for all (a run puts it back)",
            remedy="give dtype and device to each tensor, paths to each file; use `with` for modes",
        )


def _whole_ways(bench: Bench) -> list[tuple[Tensor, list[str]]]:
    """(scores, what had changed around them) of three fresh methods: two global seeds."""
    if not bench.whole_ways:
        ways = []
        for seed in (11, 11, 12):
            with preserved():
                seed_globals(seed)
                with watching() as changed, preserved():
                    scores = _whole_way(bench)
            ways.append((scores, sorted(changed)))
        bench.whole_ways = ways
    return bench.whole_ways


def _whole_way(bench: Bench) -> Tensor:
    """Scores of a fresh method, with the global state as the caller left it."""
    method = fitted_on(bench.make(), check_world(bench.with_embeddings))
    support, query = bench.support(), bench.query()
    with adapting(method, [support]):
        predictor = predictor_of(method, method.adapt(support))
    with torch.no_grad(), limited_to(query, and_ids=support.images.ids):
        scores = usable(predictor(query), len(query))
        decide = getattr(predictor, "decide", None)
        if decide is not None:
            decide(query)
    method.load_state(method.state())
    return scores


CHECKS = (
    Check("determinism", "the same seeds give the same scores", determinism),
    Check("global-rng", "global random state is neither read nor changed", global_rng),
    Check("global-state", "nothing else of the process is changed", global_state),
)

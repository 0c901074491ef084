"""Contract tests of randomness: same seed, same scores; global random state left alone."""

from __future__ import annotations

import torch
from torch import Tensor

from mlfsic_bench.methods.check_core import (
    FIT_SEED,
    Bench,
    Check,
    CheckFailedError,
    CheckNotMadeError,
    changed_globals,
    difference,
    global_state,
    require_same,
    restore_globals,
    seed_globals,
    usable,
)
from mlfsic_bench.methods.check_data import check_world
from mlfsic_bench.methods.contract import FitContext, Method


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
    kept = global_state()
    try:
        results = []
        for seed in (11, 11, 12):
            seed_globals(seed)
            before = global_state()
            results.append(_whole_way(bench))
            changed = changed_globals(before)
            if changed:
                raise CheckFailedError(
                    "The method was fitted, adapted and asked, and the state of the global "
                    "generators compared before and after.",
                    expected="the global states of random, numpy.random and torch as before",
                    came=f"{', '.join(changed)} had changed",
                    cause="a draw without a generator (torch.randn(...), np.random.rand(), "
                    "random.shuffle, an nn.Module that initialises itself, dropout), or a call "
                    "of a global seed",
                    remedy="give every draw a generator of its own; initialise modules under "
                    "torch.random.fork_rng() seeded from context.seed",
                )
    finally:
        restore_globals(kept)
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


def _whole_way(bench: Bench) -> Tensor:
    """Scores of a fresh method, with the global state as the caller left it."""
    method: Method = bench.make()
    world = check_world()
    method.fit(world.base.training(None), world.val.training(4), FitContext(FIT_SEED))
    query = bench.query()
    labeller = method.adapt(bench.support())
    with torch.no_grad():
        return usable(labeller(query), len(query))


CHECKS = (
    Check("determinism", "the same seeds give the same scores", determinism),
    Check("global-rng", "global random state is neither read nor changed", global_rng),
)

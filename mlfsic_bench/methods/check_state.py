"""Contract tests of state: saving, nothing mutated, nothing leaking between episodes."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.check_core import (
    Bench,
    Check,
    CheckFailedError,
    CheckNotMadeError,
    require_same,
    same_global_state,
)
from mlfsic_bench.methods.params import build_params


def state(bench: Bench) -> None:
    """`state()` is a dict of named tensors."""
    found: Any = bench.fitted().state()
    bad = _not_tensors(found)
    if bad:
        raise CheckFailedError(
            "`state()` of a fitted method was called.",
            expected="a dict from names to torch tensors, nothing else",
            came=bad,
            cause="numbers, lists or modules are put in the state; they would need pickle",
            remedy="wrap numbers in torch.tensor(...), give a module's state_dict() entry by "
            "entry, and keep parameters out (they are recorded by themselves)",
        )


def save_load(bench: Bench) -> None:
    """Saved and loaded in a fresh instance: the same scores."""
    method = bench.fitted()
    found = method.state()
    if _not_tensors(found):
        raise CheckNotMadeError("the state can't be saved; see the test `state`")
    file = io.BytesIO()
    torch.save(found, file)
    file.seek(0)
    with same_global_state():
        fresh = bench.make()
        fresh.load_state(torch.load(file, weights_only=True))
    require_same(
        bench.answers(method, bench.support(), bench.query()),
        bench.answers(fresh, bench.support(), bench.query()),
        done="state() of a fitted method was saved and loaded in a fresh instance, which was not "
        "fitted; both adapted to the same support and scored the same images.",
        cause="load_state does nothing, or state() leaves out something that fit learnt",
        remedy="put every tensor that fit sets in state(), and set it in load_state()",
    )


def trains(bench: Bench) -> None:
    """A method that says trains = False scores the same without fit."""
    if bench.method_class.trains:
        return
    require_same(
        bench.answers(bench.fitted(), bench.support(), bench.query()),
        bench.answers(bench.make(), bench.support(), bench.query()),
        done="The method says trains = False; it was asked with and without fit.",
        cause="fit learns something although trains is False; a run then skips the features "
        "of base images",
        remedy="set trains = True on the class",
    )


def without_val(bench: Bench) -> None:
    """`fit` works without a val part."""
    bench.answers(bench.fit(with_val=False), bench.support(), bench.query())


def no_mutation(bench: Bench) -> None:
    """Fit, adapt and score leave everything they were given as it was."""
    world = bench.world
    given = {
        f"{part} {kind}": tensor
        for part, data in (("base", world.base), ("val", world.val))
        for kind, tensor in (("targets", data.targets), ("words", data.words))
        if tensor is not None
    }
    support = bench.support()
    given["support.targets"] = support.targets
    if support.words is not None:
        given["support.words"] = support.words
    before = {name: tensor.clone() for name, tensor in given.items()}
    source = world.source
    source.remember, source.handed = True, []
    try:
        method = bench.fit(world)
        params = method.params.model_dump()
        labeller = bench.adapt(method, support)
        bench.scores(labeller, bench.query())
        changed = [name for name, was in before.items() if not torch.equal(given[name], was)]
        if any(not torch.equal(now, was) for now, was in source.handed):
            changed.append("features handed out by the source")
        if method.params.model_dump() != params:
            changed.append("params")
    finally:
        source.remember, source.handed = False, []
        with torch.no_grad():  # the other tests use the same world
            for name, was in before.items():
                given[name].copy_(was)
    if changed:
        raise CheckFailedError(
            "The method was fitted, adapted and asked, and what it had been given compared "
            "before and after.",
            expected="everything as before",
            came=f"changed: {', '.join(changed)}",
            cause="an operation in place (x -= m, x.div_(n), x[i] = ...) on a tensor that "
            "belongs to the caller",
            remedy="write x = x - m, or clone() first",
        )


def labellers_independent(bench: Bench) -> None:
    """A labeller scores the same after the method has adapted to another episode."""
    method, query = bench.fitted(), bench.query()
    labeller = bench.adapt(method, bench.support(0))
    before = bench.scores(labeller, query)
    bench.adapt(method, bench.support(1))
    require_same(
        before,
        bench.scores(labeller, query),
        done="adapt to episode A, score; adapt to episode B; score with A's labeller again.",
        cause="the labeller reads what adapt stored on the method (self.prototypes), which the "
        "next episode overwrites",
        remedy="keep what was adapted in local variables or on the labeller",
    )


def adapt_order(bench: Bench) -> None:
    """What an episode scores does not depend on the episodes before it."""
    query = bench.query()
    alone = bench.answers(bench.fitted(), bench.support(0), query)
    method = bench.fitted()
    bench.scores(bench.adapt(method, bench.support(1)), bench.query(1))
    require_same(
        alone,
        bench.answers(method, bench.support(0), query),
        done="Episode A was adapted first, and (in another copy) after episode B.",
        cause="adapt changes the method: a running mean, a counter, a cache, or weights that "
        "are tuned and not restored",
        remedy="leave self alone in adapt; tune a copy of the weights",
    )


def adapt_all(bench: Bench) -> None:
    """`adapt_all` gives the labellers that `adapt` gives."""
    supports = [bench.support(i) for i in range(3)]
    method = bench.fitted()
    with same_global_state():
        single = [method.adapt(support) for support in supports]
    other = bench.fitted()
    with same_global_state():
        together = other.adapt_all(supports)
    if not isinstance(together, list) or len(together) != len(supports):
        raise CheckFailedError(
            f"adapt_all was called with {len(supports)} supports.",
            expected=f"a list of {len(supports)} labellers, in the same order",
            came=f"{len(together)}" if isinstance(together, list) else type(together).__name__,
            cause="episodes are grouped and not put back, or a generator is returned",
            remedy="return a list with one labeller for each support",
        )
    for i, (a, b) in enumerate(zip(single, together, strict=True)):
        require_same(
            bench.scores(a, bench.query(i)),
            bench.scores(b, bench.query(i)),
            done=f"Three episodes were adapted one by one and by adapt_all; episode {i} differs.",
            cause="the batched path computes something else, or mixes episodes",
            remedy="compare the two paths step by step, or do not override adapt_all",
        )


def presets(bench: Bench) -> None:
    """Every preset is a valid set of parameters."""
    for name in bench.method_class.presets:
        try:
            build_params(bench.method_class, {}, name)
        except BenchError as error:
            raise CheckFailedError(
                f"The parameters of preset {name!r} were built.",
                expected=error.expected,
                came=error.found,
                cause=error.what,
                remedy="correct the preset on the class",
            ) from error


def _not_tensors(found: Any) -> str:
    """What makes `found` no state; empty when it is one."""
    if not isinstance(found, dict):
        return f"a {type(found).__name__}"
    bad = [
        f"{key!r}: {type(value).__name__}"
        for key, value in found.items()
        if not isinstance(key, str) or not isinstance(value, Tensor)
    ]
    return ", ".join(bad)


CHECKS = (
    Check("state", "state() holds named tensors only", state),
    Check("save-load", "saved and loaded, the same scores", save_load),
    Check("trains", "trains = False only where fit learns nothing", trains),
    Check("without-val", "fit works without a val part", without_val),
    Check("no-mutation", "nothing given to the method is changed", no_mutation),
    Check("labellers-independent", "a labeller outlives the next episode", labellers_independent),
    Check("adapt-order", "earlier episodes do not matter", adapt_order),
    Check("adapt-all", "adapt_all gives what adapt gives", adapt_all),
    Check("presets", "every preset is valid", presets),
)

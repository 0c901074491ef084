"""Contract tests of state: saving, nothing mutated, nothing leaking between episodes."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import Method, Support
from mlfsic_bench.methods.params import build_params
from mlfsic_bench.methods.saved_state import EXPECTED, ready_to_save, wrong_in_state
from mlfsic_bench.testing.contract import (
    Check,
    CheckFailedError,
    CheckNotMadeError,
    Checks,
)
from mlfsic_bench.testing.core import (
    Bench,
    require_same,
    same_global_state,
    usable,
)

CHECKS = Checks()
TOGETHER = 20  # supports given to adapt_all, as many as evaluation.predict.CHUNK
EPISODES_BEFORE = 100


@CHECKS.add("state", "state() holds named tensors only", before_a_run=True)
def _state(bench: Bench) -> None:
    found: Any = bench.fitted().state()
    bad = wrong_in_state(found)
    if bad:
        raise CheckFailedError(
            "`state()` of a fitted method was called.",
            expected=EXPECTED,
            came=bad,
            cause="numbers, lists or modules are put in the state; they would need pickle",
            remedy="wrap numbers in torch.tensor(...), give a module's state_dict() entry by "
            "entry, and keep parameters out (they are recorded by themselves)",
        )


@CHECKS.add("save-load", "saved and loaded, the same scores", before_a_run=True)
def _save_load(bench: Bench) -> None:
    method = bench.fitted()
    file = io.BytesIO()
    torch.save(_savable(method), file)
    file.seek(0)
    with same_global_state():
        fresh = bench.make()
        fresh.load_state(torch.load(file, weights_only=True))
    require_same(
        bench.ask(method, bench.support(), bench.query()),
        bench.ask(fresh, bench.support(), bench.query()),
        done="state() of a fitted method was saved and loaded in a fresh instance, which was not "
        "fitted; both adapted to the same support and scored the same images.",
        cause="load_state does nothing, or state() leaves out something that fit learnt",
        remedy="put every tensor that fit sets in state(), and set it in load_state()",
    )


def _fresh_process(bench: Bench) -> None:
    if bench.fresh is None:
        raise CheckNotMadeError("there is no other process")
    method = bench.fitted()
    with tempfile.TemporaryDirectory() as folder:
        state, scores = Path(folder) / "state.pt", Path(folder) / "scores.pt"
        torch.save(_savable(method), state)
        failed = bench.fresh.score(state, scores)
        if failed:
            raise CheckFailedError(
                "state() was saved, and loaded in a fresh process, which adapted and scored.",
                expected="scores",
                came=failed,
                cause="something that this process holds outside of the instance and the state",
                remedy="put every tensor that fit sets in state(), and set it in load_state()",
            )
        other = torch.load(scores, weights_only=True)
    require_same(
        bench.ask(method, bench.support(), bench.query()),
        usable(other, len(bench.query())),
        done="state() was saved, and loaded in a fresh process, which adapted and scored.",
        cause="values in the class or module that grow with the episodes, hash() of texts, or the "
        "order of a set",
        remedy="keep what was learnt on the instance and in state(); draw by keyed generators",
    )


def _savable(method: Method) -> dict[str, Tensor]:
    found = method.state()
    if wrong_in_state(found):
        raise CheckNotMadeError("the state can't be saved; see the test `state`")
    return ready_to_save(found)


@CHECKS.add("trains", "trains = False only where fit learns nothing")
def _trains(bench: Bench) -> None:
    if bench.make().trains:
        return
    require_same(
        bench.ask(bench.fitted(), bench.support(), bench.query()),
        bench.ask(bench.make(), bench.support(), bench.query()),
        done="The method says trains = False; it was asked with and without fit.",
        cause="fit learns something although trains is False; a run then skips the features "
        "of base images",
        remedy="set trains = True on the class",
    )


@CHECKS.add("without-val", "fit works without a val part")
def _without_val(bench: Bench) -> None:
    bench.ask(bench.fit(with_val=False), bench.support(), bench.query())


@CHECKS.add("no-mutation", "nothing given to the method is changed")
def _no_mutation(bench: Bench) -> None:
    world = bench.world
    given = {
        f"{part} {kind}": tensor
        for part, data in (("base", world.base), ("val", world.val))
        for kind, tensor in (("targets", data.targets), ("embeddings", data.embeddings))
        if tensor is not None
    }
    support = bench.support()
    given["support.targets"] = support.targets
    if support.embeddings is not None:
        given["support.embeddings"] = support.embeddings
    before = {name: tensor.clone() for name, tensor in given.items()}
    source = world.source
    source.remember, source.handed = True, []
    try:
        method = bench.fit(world)
        params = method.params.model_dump()
        predictor = bench.adapt(method, support)
        bench.scores(predictor, bench.query())
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


@CHECKS.add("predictors-independent", "a predictor outlives the next episode", before_a_run=True)
def _predictors_independent(bench: Bench) -> None:
    method, query = bench.fitted(), bench.query()
    predictor = bench.adapt(method, bench.support(0))
    before = bench.scores(predictor, query)
    bench.adapt(method, bench.support(1))
    require_same(
        before,
        bench.scores(predictor, query),
        done="adapt to episode A, score; adapt to episode B; score with A's predictor again.",
        cause="the predictor reads what adapt stored on the method (self.prototypes), which the "
        "next episode overwrites",
        remedy="keep what was adapted in local variables or on the predictor",
    )


@CHECKS.add("adapt-order", "earlier episodes do not matter", before_a_run=True)
def _adapt_order(bench: Bench) -> None:
    query = bench.query()
    alone = bench.ask(bench.fitted(), bench.support(0), query)
    method = bench.fitted()
    bench.scores(bench.adapt(method, bench.support(1)), bench.query(1))
    require_same(
        alone,
        bench.ask(method, bench.support(0), query),
        done="Episode A was adapted first, and (in another copy) after episode B.",
        cause="adapt changes the method: a running mean, a counter, a cache, or weights that "
        "are tuned and not restored",
        remedy="leave self alone in adapt; tune a copy of the weights",
    )
    for number in range(EPISODES_BEFORE):
        support = _small_support(bench, number) if number % 10 else bench.support(2 + number)
        try:
            bench.adapt(method, support)
        except Exception as error:
            raise CheckNotMadeError(
                "an episode of one image could not be adapted; see the test `small-cases`"
            ) from error
    require_same(
        alone,
        bench.ask(method, bench.support(0), query),
        done=f"Episode A was adapted first, and (in another copy) after {EPISODES_BEFORE + 2} "
        "episodes, in which every image was a support image.",
        cause="the method, its class or its module keeps what it was shown in episodes",
        remedy="keep what was adapted in local variables or on the predictor",
    )


def _small_support(bench: Bench, number: int) -> Support:
    """One image and one label of it."""
    novel = bench.world.novel
    row = number % len(novel.images)
    label = row % len(novel.labels)
    return Support(
        novel.images.subset([row]),
        novel.targets[[row]][:, [label]],
        novel.labels[label : label + 1],
        None if novel.embeddings is None else novel.embeddings[[label]],
        number,
    )


@CHECKS.add("adapt-all", "adapt_all gives what adapt gives", before_a_run=True)
def _adapt_all(bench: Bench) -> None:
    supports = [bench.support(i) for i in range(TOGETHER)]
    method = bench.fitted()
    single = bench.adapt_each(method, supports)
    together = bench.adapt_all(bench.fitted(), supports)
    if not isinstance(together, list) or len(together) != len(supports):
        raise CheckFailedError(
            f"adapt_all was called with {len(supports)} supports.",
            expected=f"a list of {len(supports)} predictors, in the same order",
            came=f"{len(together)}" if isinstance(together, list) else type(together).__name__,
            cause="episodes are grouped and not put back, or a generator is returned",
            remedy="return a list with one predictor for each support",
        )
    for i, (a, b) in enumerate(zip(single, together, strict=True)):
        require_same(
            bench.scores(a, bench.query(i)),
            bench.scores(b, bench.query(i)),
            done=f"{TOGETHER} episodes were adapted one by one and by adapt_all, as many as in a "
            f"run; episode {i} differs.",
            cause="the batched path computes something else, or mixes episodes",
            remedy="compare the two paths step by step, or do not override adapt_all",
        )


@CHECKS.add("presets", "every preset is valid")
def _presets(bench: Bench) -> None:
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


FRESH = Check("fresh-process", "saved, loaded in another process, the same scores", _fresh_process)

"""Contract tests of state: saving, nothing mutated, nothing leaking between episodes."""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.calls import last_frames
from mlfsic_bench.methods.contract import Method, Support
from mlfsic_bench.methods.params import build_params
from mlfsic_bench.methods.registry import make_method
from mlfsic_bench.methods.saved_state import EXPECTED, ready_to_save, wrong_in_state
from mlfsic_bench.testing.core import (
    Bench,
    Check,
    CheckFailedError,
    CheckNotMadeError,
    require_same,
    same_global_state,
    usable,
)
from mlfsic_bench.text import exception_text

TOGETHER = 20  # supports given to adapt_all, as many as evaluation.predict.CHUNK
EPISODES_BEFORE = 100


def state(bench: Bench) -> None:
    """`state()` is a dict of named tensors."""
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


def save_load(bench: Bench) -> None:
    """Saved and loaded in a fresh instance: the same scores."""
    method = bench.fitted()
    file = io.BytesIO()
    torch.save(_savable(method), file)
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


def fresh_process(bench: Bench) -> None:
    """Saved here and loaded in another process: the same scores."""
    if bench.fresh is None:
        raise CheckNotMadeError("there is no other process")
    method = bench.fitted()
    with tempfile.TemporaryDirectory() as folder:
        state, answers = Path(folder) / "state.pt", Path(folder) / "scores.pt"
        torch.save(_savable(method), state)
        failed = bench.fresh.score(state, answers)
        if failed:
            raise CheckFailedError(
                "state() was saved, and loaded in a fresh process, which adapted and scored.",
                expected="scores",
                came=failed,
                cause="something that this process holds outside of the instance and the state",
                remedy="put every tensor that fit sets in state(), and set it in load_state()",
            )
        other = torch.load(answers, weights_only=True)
    require_same(
        bench.answers(method, bench.support(), bench.query()),
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


def predictors_independent(bench: Bench) -> None:
    """A predictor scores the same after the method has adapted to another episode."""
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


def adapt_order(bench: Bench) -> None:
    """What an episode scores does not depend on the episodes before it, however many."""
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
        bench.answers(method, bench.support(0), query),
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


def adapt_all(bench: Bench) -> None:
    """`adapt_all` gives the predictors that `adapt` gives."""
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


CHECKS = (
    Check("state", "state() holds named tensors only", state),
    Check("save-load", "saved and loaded, the same scores", save_load),
    Check("trains", "trains = False only where fit learns nothing", trains),
    Check("without-val", "fit works without a val part", without_val),
    Check("no-mutation", "nothing given to the method is changed", no_mutation),
    Check(
        "predictors-independent", "a predictor outlives the next episode", predictors_independent
    ),
    Check("adapt-order", "earlier episodes do not matter", adapt_order),
    Check("adapt-all", "adapt_all gives what adapt gives", adapt_all),
    Check("presets", "every preset is valid", presets),
)
FRESH = Check("fresh-process", "saved, loaded in another process, the same scores", fresh_process)


def main() -> None:
    """What a `FreshProcess` runs: read one job, write the scores, or what went wrong."""
    line = sys.stdin.readline()
    if not line:
        return
    job = json.loads(line)
    answers = Path(job["answers"])
    try:
        bench = Bench(lambda: make_method(job["spec"], job["settings"], job["preset"]))
        method = bench.make()
        method.load_state(torch.load(job["state"], weights_only=True))
        torch.save(bench.answers(method, bench.support(), bench.query()), answers)
    except BenchError as error:
        answers.with_suffix(".txt").write_text(str(error), encoding="utf-8")
    except BaseException as error:  # `exit` too: the process ends in any case
        text = f"{exception_text(error)}\n{last_frames(error)}"
        answers.with_suffix(".txt").write_text(text, encoding="utf-8")

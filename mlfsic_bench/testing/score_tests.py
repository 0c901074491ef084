"""Contract tests of scores: their form, and what they may and may not depend on.

The same seeds give the same scores, and global random state is left alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mlfsic_bench.methods.calls import adapting, predictor_of
from mlfsic_bench.methods.contract import Images, Predictor, Support
from mlfsic_bench.methods.limited import limited_to
from mlfsic_bench.plugins.surroundings import RANDOM, preserved, watching
from mlfsic_bench.testing.contract import (
    CheckFailedError,
    CheckNotMadeError,
    Checks,
    CheckWarningError,
)
from mlfsic_bench.testing.core import (
    TOLERANCE,
    Bench,
    difference,
    fitted_on,
    require_same,
    seed_globals,
    usable,
)
from mlfsic_bench.testing.world import check_world

CHECKS = Checks()
MOST_LOST = 0.05  # share of scores that rounding may tie


def require_form(scores: Any, rows: int, columns: int, done: str) -> None:
    """CheckFailedError unless `scores` is a finite float32 or float64 tensor [rows, columns]."""
    expected = f"a tensor [{rows}, {columns}], that is [query images, labels]"
    if not isinstance(scores, Tensor):
        came = type(scores).__name__
        cause, remedy = "something else is returned", "return a torch tensor"
    elif tuple(scores.shape) != (rows, columns):
        came = f"a tensor {list(scores.shape)}"
        cause = "a transposed product, a squeezed dimension, or one column too many"
        remedy = "return one row for each query image and one column for each label of the support"
    elif scores.dtype not in (torch.float32, torch.float64):
        expected, came = "dtype float32 (or float64)", str(scores.dtype)
        cause = "decisions or ranks instead of scores, or half precision, which ties scores"
        remedy = "return real-valued scores; decisions belong in `decide`"
    elif not scores.isfinite().all():
        bad = int((~scores.isfinite()).sum())
        expected, came = "finite scores", f"{bad} of {scores.numel()} are NaN or infinite"
        cause = "a division by zero, the logarithm of 0, or the logit of a probability of 1"
        remedy = "guard the division; return logits rather than the logarithm of a sigmoid"
    else:
        return
    raise CheckFailedError(done, expected=expected, came=came, cause=cause, remedy=remedy)


@CHECKS.add("scores", "scores are finite floats [query images, labels]", before_a_run=True)
def _scores(bench: Bench) -> None:
    support, query = bench.support(), bench.query()
    predictor = bench.adapt(bench.fitted(), support)
    done = f"The predictor scored {len(query)} query images for {len(support.labels)} labels."
    require_form(bench.raw_scores(predictor, query), len(query), len(support.labels), done)


@CHECKS.add("decisions", "decide, if present, gives bool [query images, labels]", before_a_run=True)
def _decisions(bench: Bench) -> None:
    support, query = bench.support(), bench.query()
    predictor = bench.adapt(bench.fitted(), support)
    given = bench.raw_scores(predictor, query)
    before = given.clone() if isinstance(given, Tensor) else None
    found: Any = bench.decisions(predictor, query)
    if found is None:
        return
    if before is not None:
        for now, what in (
            (given, "the tensor"),
            (bench.raw_scores(predictor, query), "its scores"),
        ):
            require_same(
                before.double(),
                now.detach().double(),
                done=f"The predictor scored, then decided; {what} was compared with before.",
                cause="`decide` works in place on the scores that the predictor keeps",
                remedy="write s = s - m in place of s.sub_(m), or clone() first",
                exact=what == "the tensor",
            )
    shape = (len(query), len(support.labels))
    if not isinstance(found, Tensor) or found.dtype != torch.bool or tuple(found.shape) != shape:
        came = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else repr(found)
        raise CheckFailedError(
            "`decide` of the predictor was called.",
            expected=f"a tensor of torch.bool {list(shape)}",
            came=came,
            cause="numbers or indices are returned in place of decisions",
            remedy="return a comparison, e.g. scores > threshold",
        )
    # whose decisions may depend on the other images gets all of them, in another order
    order = list(range(len(query)))[::-1]
    parts = [order] if bench.transductive else [[i] for i in order]
    again = torch.cat([bench.decisions(predictor, query.subset(part)) for part in parts])  # type: ignore[misc]
    if not torch.equal(again, found[order]):
        how = "in another order" if bench.transductive else "alone and among the others"
        raise CheckFailedError(
            f"Every query image was decided {how}.",
            expected="the same decisions",
            came=f"{int((again != found[order]).sum())} of {found.numel()} differ",
            cause="a threshold or a ranking taken over the query images, or their order",
            remedy="decide each image from its own scores and from the support",
        )


@CHECKS.add("determinism", "the same seeds give the same scores", before_a_run=True)
def _determinism(bench: Bench) -> None:
    first = bench.ask(bench.fitted(), bench.support(), bench.query())
    second = bench.ask(bench.fit(), bench.support(), bench.query())
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


@CHECKS.add("global-rng", "global random state is neither read nor changed", before_a_run=True)
def _global_rng(bench: Bench) -> None:
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


@CHECKS.add("global-state", "nothing else of the process is changed")
def _global_state(bench: Bench) -> None:
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
    method = fitted_on(bench.make(), bench.made_up())
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


@CHECKS.add("float32", "float32 keeps scores apart; they look like logits", before_a_run=True)
def _float32(bench: Bench) -> None:
    query = bench.many_queries()
    predictor = bench.adapt(bench.fitted(), bench.support())
    found = bench.scores(predictor, query)
    kept = found.float().double()
    lost = int(((_differs(found)) & ~_differs(kept)).sum())
    if lost > MOST_LOST * found.numel():
        raise CheckFailedError(
            f"The scores of {len(query)} query images were rounded to float32, as a run keeps "
            "them.",
            expected="images that differ before to differ after",
            came=f"{lost} of {found.numel()} scores are tied after; the scores lie from "
            f"{float(found.min()):.6g} to {float(found.max()):.6g}",
            cause="small differences on a large offset, or float64 where it matters",
            remedy="subtract the offset, and scale the scores",
        )
    low, high = float(found.min()), float(found.max())
    if bench.decisions(predictor, query) is None and low >= 0 and 0 < high <= 1:
        raise CheckWarningError(
            f"{len(query)} query images were scored.",
            expected="scores below 0 where a label is not predicted, or a `decide`",
            came=f"all scores lie in [0, 1], from {low:.3g} to {high:.3g}",
            cause="probabilities: then every label is predicted and recall is 100 %",
            remedy="return logits, log(p / (1 - p)); the ranking metrics are the same",
        )


def _differs(scores: Tensor) -> Tensor:
    """bool [q, L]: whether no other image has this score for the label."""
    ordered, place = scores.sort(0)
    equal = ordered[1:] == ordered[:-1]
    edge = torch.zeros_like(equal[:1])
    alone = ~(torch.cat([equal, edge]) | torch.cat([edge, equal]))
    return torch.zeros_like(alone).scatter(0, place, alone)


@CHECKS.add("query-order", "the order of query images does not matter", before_a_run=True)
def _query_order(bench: Bench) -> None:
    predictor = bench.adapt(bench.fitted(), bench.support())
    for query in (bench.query(), bench.many_queries()):
        order = [*range(len(query) - 1, 0, -1), 0]
        require_same(
            bench.scores(predictor, query)[order],
            bench.scores(predictor, query.subset(order)),
            done=f"{len(query)} query images were scored in another order.",
            cause="the position of an image in the query is used, or a draw is made for each row",
            remedy="compute each row from that image alone; key draws by the image's id",
        )


@CHECKS.add(
    "query-independence", "other query images matter to none but a transductive method", True
)
def _query_independence(bench: Bench) -> None:
    predictor = bench.adapt(bench.fitted(), bench.support())
    few, many = bench.query(), bench.many_queries()
    if bench.transductive:
        _require_transductive(bench, predictor, many)
        return
    for query, rows in ((few, range(len(few))), (many, range(0, len(many), 10))):
        for i in rows:
            # first in its batch, so that this test sees other images and not the position
            order = [i, *(j for j in range(len(query)) if j != i)]
            require_same(
                bench.scores(predictor, query.subset(order))[:1],
                bench.scores(predictor, query.subset([i])),
                done=f"Query image {query.ids[i]} was scored alone, and first among {len(query)}.",
                cause="statistics over the query (mean, batch normalisation in training mode, "
                "softmax over images, standardised scores)",
                remedy="take statistics from the support or the base part; put modules in eval "
                "mode. Where it is meant, say transductive = True on the class",
            )


def _require_transductive(bench: Bench, predictor: Predictor, many: Images) -> None:
    """CheckWarningError where nothing of five images depends on whether others are beside them."""
    few = many.subset(range(5))
    apart = difference(bench.scores(predictor, many)[:5], bench.scores(predictor, few))
    decided = [bench.decisions(predictor, query) for query in (many, few)]
    decides = decided[0] is not None and decided[1] is not None
    if apart <= TOLERANCE and not (decides and not torch.equal(decided[0][:5], decided[1])):  # type: ignore[index,arg-type]
        raise CheckWarningError(
            "Five query images were scored among themselves, and among 30.",
            expected="other scores, as the class says transductive = True",
            came="the same scores",
            cause="no score depends on another query image, at least with these parameters",
            remedy="leave transductive out: tables would mark the method for nothing",
        )


@CHECKS.add("label-permutation", "labels in another order give scores in that order")
def _label_permutation(bench: Bench) -> None:
    support, query = bench.support(), bench.query()
    L = len(support.labels)
    order = [*range(2, L), 1, 0]
    permuted = replace(
        support,
        targets=support.targets[:, order],
        labels=tuple(support.labels[i] for i in order),
        embeddings=None if support.embeddings is None else support.embeddings[order],
    )
    plain = bench.ask(bench.fitted(), support, query)
    other = bench.ask(bench.fitted(), permuted, query)
    if plain.shape[1] != L or other.shape[1] != L:
        raise CheckNotMadeError("the scores have no usable form; see the test `scores`")
    require_same(
        plain[:, order],
        other,
        done="The support's labels were put in another order (targets, names and embeddings).",
        cause="the position of a label is used: weights drawn row by row, a bias for each "
        "position, or labels known by their index",
        remedy="treat all labels alike; key what is drawn for a label by its name, e.g. "
        "torch_generator('my-method', support.seed, label)",
    )


@CHECKS.add("small-cases", "one label, several labels an image, large supports")
def _small_cases(bench: Bench) -> None:
    try:
        _scores(bench)
    except CheckFailedError as error:
        raise CheckNotMadeError("the scores have no usable form; see the test `scores`") from error
    method, novel = bench.fitted(), bench.world.novel
    L = len(novel.labels)
    first = bench.support()
    rows, _ = novel.draw(0)
    several = sorted(range(len(novel.targets)), key=lambda i: -float(novel.targets[i].sum()))[:L]
    cases: list[tuple[str, Support, Images]] = [
        ("one label and one support image that has it", _one_label(first), bench.query()),
        ("support images with several labels each", novel.support(several), bench.query()),
        (
            "five support images a label",
            novel.support(range(5 * L)),
            bench.query(),
        ),
        ("a single query image", novel.support(rows), bench.query().subset([0])),
    ]
    for name, support, query in cases:
        done = f"An episode with {name} was adapted and scored."
        predictor = bench.adapt(method, support)
        require_form(bench.raw_scores(predictor, query), len(query), len(support.labels), done)


def _one_label(support: Support) -> Support:
    keep = support.targets[:, 0].nonzero()[:1, 0].tolist()
    return replace(
        support,
        images=support.images.subset(keep),
        targets=support.targets[keep][:, :1],
        labels=support.labels[:1],
        embeddings=None if support.embeddings is None else support.embeddings[:1],
    )


@CHECKS.add("without-embeddings", "runs without label embeddings unless needs_embeddings")
def _without_embeddings(bench: Bench) -> None:
    if bench.make().needs_embeddings:  # of the instance: it may depend on a parameter
        return
    world = check_world(with_embeddings=False)
    method = bench.fit(world)
    episode = world.novel.episode(0)
    bench.ask(method, episode.support, episode.query)

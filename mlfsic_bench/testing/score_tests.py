"""Contract tests of scores: their form, and what they may and may not depend on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mlfsic_bench.methods.contract import Images, Method, Support
from mlfsic_bench.testing.core import (
    Bench,
    Check,
    CheckFailedError,
    CheckNotMadeError,
    CheckWarningError,
    require_same,
)
from mlfsic_bench.testing.world import check_world

MOST_LOST = 0.05  # share of scores that rounding may tie


def require_form(scores: Any, rows: int, columns: int, done: str) -> None:
    """CheckFailedError unless `scores` is a finite float32 or float64 tensor [rows, columns]."""

    def failure(expected: str, came: str, cause: str, remedy: str) -> CheckFailedError:
        return CheckFailedError(done, expected=expected, came=came, cause=cause, remedy=remedy)

    shape = f"a tensor [{rows}, {columns}], that is [query images, labels]"
    if not isinstance(scores, Tensor):
        raise failure(
            shape, type(scores).__name__, "something else is returned", "return a torch tensor"
        )
    if tuple(scores.shape) != (rows, columns):
        raise failure(
            shape,
            f"a tensor {list(scores.shape)}",
            "a transposed product, a squeezed dimension, or one column too many",
            "return one row for each query image and one column for each label of the support",
        )
    if scores.dtype not in (torch.float32, torch.float64):
        raise failure(
            "dtype float32 (or float64)",
            str(scores.dtype),
            "decisions or ranks instead of scores, or half precision, which ties scores",
            "return real-valued scores; decisions of one's own belong in `decide`",
        )
    bad = int((~scores.isfinite()).sum())
    if bad:
        raise failure(
            "finite scores",
            f"{bad} of {scores.numel()} are NaN or infinite",
            "a division by zero, the logarithm of 0, or the logit of a probability of 1",
            "guard the division; return logits rather than the logarithm of a sigmoid",
        )


def scores(bench: Bench) -> None:
    """Scores have one row an image, one column a label, float32 or float64, finite."""
    support, query = bench.support(), bench.query()
    predictor = bench.adapt(bench.fitted(), support)
    done = f"The predictor scored {len(query)} query images for {len(support.labels)} labels."
    require_form(bench.raw_scores(predictor, query), len(query), len(support.labels), done)


def decisions(bench: Bench) -> None:
    """`decide`, where a predictor has it, gives a bool for each image and label."""
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
    alone = torch.cat([bench.decisions(predictor, query.subset([i])) for i in range(len(query))])  # type: ignore[misc]
    if not torch.equal(alone, found):
        raise CheckFailedError(
            "Every query image was decided alone and among the others.",
            expected="the same decisions",
            came=f"{int((alone != found).sum())} of {found.numel()} differ",
            cause="a threshold or a ranking taken over the query images",
            remedy="decide each image from its own scores and from the support",
        )


def query_order(bench: Bench) -> None:
    """Query images in another order: the same scores in that order."""
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


def query_independence(bench: Bench) -> None:
    """An image alone gets the scores it gets among others."""
    predictor = bench.adapt(bench.fitted(), bench.support())
    few, many = bench.query(), bench.many_queries()
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
                "mode",
            )


def float32(bench: Bench) -> None:
    """What is kept, float32, tells images apart that the predictor does; and 0 is a threshold."""
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


def label_permutation(bench: Bench) -> None:
    """Labels in another order: the same scores in that order."""
    support, query = bench.support(), bench.query()
    L = len(support.labels)
    order = [*range(2, L), 1, 0]
    permuted = replace(
        support,
        targets=support.targets[:, order],
        labels=tuple(support.labels[i] for i in order),
        embeddings=None if support.embeddings is None else support.embeddings[order],
    )
    plain = bench.answers(bench.fitted(), support, query)
    other = bench.answers(bench.fitted(), permuted, query)
    if plain.shape[1] != L or other.shape[1] != L:
        raise CheckNotMadeError("the scores have no usable form; see the test `scores`")
    require_same(
        plain[:, order],
        other,
        done="The support's labels were put in another order (targets, names and embeddings).",
        cause="the position of a label is used: weights drawn row by row, a bias for each "
        "position, or labels told apart by their index",
        remedy="treat all labels alike; key what is drawn for a label by its name, e.g. "
        "torch_generator('my-method', support.seed, label)",
    )


def small_cases(bench: Bench) -> None:
    """One label; an image with several labels; several support images a label; one query."""
    try:
        scores(bench)
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
            "several support images a label, more images than labels",
            novel.support(range(2 * L)),
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


def without_embeddings(bench: Bench) -> None:
    """Runs without label embeddings, unless it says needs_embeddings."""
    if bench.make().needs_embeddings:  # of the instance: it may depend on a parameter
        return
    world = check_world(with_embeddings=False)
    method: Method = bench.fit(world)
    episode = world.novel.episode(0)
    bench.answers(method, episode.support, episode.query)


CHECKS = (
    Check("scores", "scores are finite floats [query images, labels]", scores),
    Check("decisions", "decide, if present, gives bool [query images, labels]", decisions),
    Check("float32", "float32 keeps scores apart; they look like logits", float32),
    Check("query-order", "the order of query images does not matter", query_order),
    Check("query-independence", "other query images do not matter", query_independence),
    Check(
        "label-permutation", "labels in another order give scores in that order", label_permutation
    ),
    Check("small-cases", "one label, several labels an image, large supports", small_cases),
    Check(
        "without-embeddings",
        "runs without label embeddings unless needs_embeddings",
        without_embeddings,
    ),
)

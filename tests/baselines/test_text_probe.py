"""text-probe against its loss written with loops and autograd; what the pull does."""

import math

import pytest
import torch
from mlfsic_baselines.text.text_probe import TextProbe, TextProbeParams, multipliers
from mlfsic_baselines.text.zero_shot import ZeroShot
from pydantic import ValidationError

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import Images
from mlfsic_bench.testing.world import check_world
from mlfsic_bench.training.loop import val_macro_ap
from tests.fakes.source import FakeSource, fake_support

SOURCE = FakeSource()
QUERY = Images(("a", "b", "c"), SOURCE)


def unit(x):
    return x / x.pow(2).sum().sqrt()


def naive_multipliers(f, Y, texts, scale):
    a = []
    for label in range(len(texts)):
        shares = []
        for i in range(len(f)):
            if Y[i, label] == 0:
                continue
            rivals = [k for k in range(len(texts)) if k == label or Y[i, k] == 0]
            z = {k: math.exp(scale * float(f[i] @ texts[k])) for k in rivals}
            shares.append(z[label] / sum(z.values()))
        a.append(sum(shares) / len(shares) if shares else 0.0)
    return a


def naive(support, query, p):
    """The loss with loops in float64, its gradient from autograd, the descent written out."""
    f = [unit(x) for x in support.images.pooled().double()]
    texts = [unit(x) for x in support.embeddings.double()]
    Y, m = support.targets.double(), sum(f) / len(f)
    a = naive_multipliers(f, Y, texts, p.scale)
    if p.constraint == "constant":
        a = [sum(a) / len(a)] * len(a)
    strength = 0.0 if p.constraint == "none" else p.penalty
    rows = [t.clone() for t in texts]
    speed = [torch.zeros_like(t) for t in texts]
    for epoch in range(p.tune_epochs):
        rows = [row.detach().requires_grad_() for row in rows]
        loss = torch.zeros((), dtype=torch.float64)
        for label, row in enumerate(rows):
            for i in range(len(f)):
                z = p.scale * (f[i] - m) @ unit(row)
                sign = 1 if Y[i, label] > 0 else -1
                loss = loss + torch.log1p(torch.exp(-sign * z)) / len(f)
            loss = loss + strength * a[label] * ((row - texts[label]) ** 2).sum()
        (loss / len(rows)).backward()
        lr = p.head_lr * 0.5 * (1 + math.cos(math.pi * epoch / p.tune_epochs))
        with torch.no_grad():
            for k, row in enumerate(rows):
                speed[k] = 0.9 * speed[k] + row.grad
                row -= lr * speed[k]
    queries = [unit(x) for x in query.pooled().double()]
    scores = [[float(p.scale * (q - m) @ unit(row.detach())) for row in rows] for q in queries]
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize("constraint", ["class-adaptive", "constant", "none"])
def test_the_rows_are_those_of_the_loss(constraint):
    support = fake_support(SOURCE, 4, d_w=6, images=6, extra=0.4)
    own = {} if constraint == "none" else {"penalty": 2.0}
    p = TextProbeParams(constraint=constraint, tune_epochs=12, head_lr=0.05, scale=10, **own)
    scores = TextProbe(p).adapt(support)(QUERY)
    torch.testing.assert_close(scores.double(), naive(support, QUERY, p), atol=1e-3, rtol=1e-3)


def test_a_text_that_does_well_is_pulled_to_the_most_and_constant_is_the_mean():
    support = fake_support(SOURCE, 4, d_w=6, images=6, extra=0.4)
    support.targets[:, 3] = 0
    f = torch.nn.functional.normalize(support.images.pooled(), dim=1)
    t = torch.nn.functional.normalize(support.embeddings, dim=1)
    batch = f[None], support.targets[None], t[None], 5.0
    a = multipliers(*batch, "class-adaptive")[0]
    assert a.tolist() == pytest.approx(naive_multipliers(f, support.targets, t, 5.0), abs=1e-5)
    assert a[3] == 0
    torch.testing.assert_close(multipliers(*batch, "constant")[0], a.mean().expand(4))


def test_no_steps_rank_as_zero_shot_and_a_strong_pull_stays_there():
    support = fake_support(SOURCE, 4, d_w=6)
    plain = ZeroShot().adapt(support)(QUERY)
    start = TextProbe(TextProbeParams(tune_epochs=0)).adapt(support)(QUERY)
    torch.testing.assert_close(start - start[0], plain - plain[0], atol=1e-3, rtol=1e-4)
    held, free = (
        TextProbe(TextProbeParams(tune_epochs=100, **own)).adapt(support)(QUERY)
        for own in ({"penalty": 1e4, "constraint": "constant"}, {"constraint": "none"})
    )
    assert (held - start).abs().max() < 0.1 * (free - start).abs().max()


def test_the_support_images_help_where_the_texts_say_nothing():
    val = check_world(text_side=True).val.training(8)
    noise = torch.randn(val.embeddings.shape, generator=torch.Generator().manual_seed(1))
    val.embeddings.copy_(noise)
    values = [
        val_macro_ap(method.adapt_all, val)
        for method in (ZeroShot(), TextProbe(TextProbeParams(**TextProbe.presets["zs-lp"])))
    ]
    assert values[1] > values[0] + 0.2


def test_what_would_have_no_effect_and_another_space_are_refused():
    with pytest.raises(ValidationError, match="no effect"):
        TextProbeParams(constraint="none", penalty=3)
    with pytest.raises(BenchError, match="space of the backbone"):
        TextProbe().adapt(fake_support(SOURCE, 4, d_w=5))

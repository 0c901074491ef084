"""tip-adapter against its equation written with loops; when the cache helps."""

import math
from dataclasses import replace

import pytest
import torch
from mlfsic_baselines.text.tip_adapter import TipAdapter, TipAdapterParams
from mlfsic_baselines.text.zero_shot import ZeroShot

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import Images
from mlfsic_bench.testing.world import check_world
from mlfsic_bench.training.loop import val_macro_ap
from tests.fakes.source import FakeSource, fake_support

SOURCE = FakeSource()
QUERY = Images(("a", "b", "c"), SOURCE)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(
        sum(x * x for x in a) * sum(y * y for y in b)
    )


def naive(support, query, tau, alpha, beta):
    """The equation, number by number in double precision."""
    f, texts = support.images.pooled().tolist(), support.embeddings.tolist()
    rows = []
    for q in query.pooled().tolist():
        row = []
        for label, text in enumerate(texts):
            votes = [
                math.exp(-beta * (1 - cosine(q, f[i])))
                for i in range(len(f))
                if support.targets[i, label] == 1
            ]
            cache = sum(votes) / len(votes) if votes else 0.0
            row.append(tau * cosine(q, text) + alpha * cache)
        rows.append(row)
    return torch.tensor(rows)


def test_scores_are_the_equation_and_decisions_more_than_an_even_share():
    support = fake_support(SOURCE, 4, d_w=6, images=9, extra=0.4)
    support.targets[:, 2] = 0  # no support image: the zero-shot score alone
    params = TipAdapterParams(tau=7, alpha=3, beta=2)
    predictor = TipAdapter(params).adapt(support)
    scores = predictor(QUERY)
    torch.testing.assert_close(scores, naive(support, QUERY, 7, 3, 2), atol=1e-4, rtol=1e-4)
    assert torch.equal(predictor.decide(QUERY), scores.softmax(1) > 1 / 4)


def test_more_support_images_of_a_label_do_not_raise_its_scores():
    support = fake_support(SOURCE, 2, d_w=6, images=2, extra=0)
    images = Images((*support.images.ids, support.images.ids[0]), SOURCE)
    twice = replace(support, images=images, targets=support.targets[[0, 1, 0]])
    scores = [TipAdapter().adapt(one)(QUERY) for one in (support, twice)]
    torch.testing.assert_close(*scores)


def test_without_the_cache_it_is_zero_shot_and_the_cache_sees_the_support():
    support = fake_support(SOURCE, 4, d_w=6)
    plain = TipAdapter(TipAdapterParams(alpha=0)).adapt(support)
    torch.testing.assert_close(plain(QUERY), ZeroShot().adapt(support)(QUERY))
    val = check_world(text_side=True).val.training(8)
    cache = TipAdapter(TipAdapterParams(tau=0, alpha=1, beta=5))
    assert val_macro_ap(cache.adapt_all, val) > 0.55  # chance is 0.42


def test_embeddings_of_another_width_are_refused():
    with pytest.raises(BenchError, match="space of the backbone"):
        TipAdapter().adapt(fake_support(SOURCE, 4, d_w=5))

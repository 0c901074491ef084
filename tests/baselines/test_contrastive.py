"""contrastive-prototypes against its definition in loops, and what it learns from the base part."""

import numpy as np
import pytest
import torch
from mlfsic_baselines.prototypes.contrastive import (
    ContrastivePrototypes,
    ContrastivePrototypesParams,
)

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import FitContext, Images
from mlfsic_bench.training.loop import val_macro_ap
from tests.fakes.source import FakeSource, TrainableFakeSource, fake_support, learnable_part

SOURCE = FakeSource()
QUERY = Images(tuple(f"q{i}" for i in range(6)), SOURCE)


def method(**settings):
    return ContrastivePrototypes(ContrastivePrototypesParams(**settings))


def fitted(part, **settings):
    model = method(**settings)
    model.fit(part, None, FitContext(1))
    return model


def naive(support, query, mean, *, negatives, unit):
    f, g = support.images.pooled().double().numpy(), query.pooled().double().numpy()
    x = [(v - mean) / np.linalg.norm(v - mean) for v in f]
    rows = []
    for v in g:
        q = (v - mean) / np.linalg.norm(v - mean)
        row = []
        for y in support.targets.T.numpy():
            own = [x[i] for i in range(len(x)) if y[i] == 1]
            others = [x[i] for i in range(len(x)) if y[i] == 0]
            p = sum(own) / len(own) - negatives * sum(others) / len(others)
            row.append(q @ p / (np.linalg.norm(p) if unit else 1))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("centre", ["none", "support", "base"])
@pytest.mark.parametrize(("negatives", "unit"), [(1.0, True), (0.5, False), (0.0, True)])
def test_it_is_its_definition(centre, negatives, unit):
    part = learnable_part("base", source=SOURCE)
    support = fake_support(SOURCE, labels=4, images=9)
    model = fitted(part, centre=centre, negatives=negatives, unit=unit)
    images = {"support": support.images, "base": part.images}.get(centre)
    mean = 0.0 if images is None else images.pooled().double().mean(0).numpy()
    expected = naive(support, QUERY, mean, negatives=negatives, unit=unit)
    np.testing.assert_allclose(model.adapt(support)(QUERY), expected, atol=1e-5)


def test_the_other_images_take_out_what_every_image_shows():
    part = learnable_part("novel", images=60, n_episodes=5)
    contrastive = val_macro_ap(method(centre="none").adapt_all, part)
    plain = val_macro_ap(method(centre="none", negatives=0.0).adapt_all, part)
    assert contrastive > part.targets.mean().item() + 0.2
    assert contrastive > plain


@pytest.mark.parametrize("unit", [False, True])
def test_labels_of_one_kind_are_finite(unit):
    support = fake_support(SOURCE)
    support.targets[:, 2], support.targets[:, 3] = 0, 1
    assert method(centre="support", unit=unit).adapt(support)(QUERY).isfinite().all()


def test_fit_learns_the_base_mean_and_nothing_else():
    part = learnable_part("base", source=TrainableFakeSource(8))
    state = fitted(part).state()
    assert set(state) == {"mean"}
    assert not state["mean"].requires_grad
    torch.testing.assert_close(state["mean"], part.images.pooled().mean(0).detach())
    assert fitted(part, centre="support").state() == {}
    with pytest.raises(BenchError, match="no base mean"):
        method().adapt(fake_support(SOURCE))

"""lc-protonets: the shared prototypes against all label combinations written out."""

import itertools
import math

import numpy as np
import pytest
import torch
from mlfsic_baselines.prototypes import lc_protonets
from mlfsic_baselines.prototypes.lc_protonets import (
    Combinations,
    LCProtonets,
    LCProtonetsParams,
    closed_sets,
    combination_loss,
)
from pydantic import ValidationError

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import FitContext, Images
from mlfsic_bench.randomness import torch_generator
from mlfsic_bench.training.loop import val_macro_ap
from tests.fakes.source import FakeSource, fake_support, learnable_part

SOURCE = FakeSource(channels=8)
TRAINED = {"projection": 5, "steps": 4, "select_every": 2}


def lc(**settings):
    return LCProtonets(LCProtonetsParams(**settings))


def all_combinations(Y):
    """Each non-empty subset of a row's labels, with the images that show it."""
    rows = [tuple(np.flatnonzero(row)) for row in Y]
    subsets = {
        c for row in rows for n in range(len(row)) for c in itertools.combinations(row, n + 1)
    }
    return {s: [i for i, row in enumerate(rows) if set(s) <= set(row)] for s in sorted(subsets)}


def cosine(a, b):
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def support_of(seed, images=9, labels=6):
    return fake_support(SOURCE, labels, prefix=f"{seed}-", extra=0.45, images=images)


@pytest.mark.parametrize("seed", range(4))
def test_scores_and_decisions_are_those_of_all_combinations(seed):
    support = support_of(seed)
    images = Images(tuple(f"q{i}" for i in range(12)), SOURCE)
    predictor = lc().adapt(support)
    scores, decided = predictor(images), predictor.decide(images)
    f = support.images.pooled().double().numpy()
    prototypes = {
        s: f[images_].mean(0) for s, images_ in all_combinations(support.targets.numpy()).items()
    }
    assert len(prototypes) > len(predictor.holds)
    for i, x in enumerate(images.pooled().double().numpy()):
        near = {s: cosine(x, p) for s, p in prototypes.items()}
        best = max(near.values())
        chosen = max((s for s in near if near[s] > best - 1e-9), key=len)
        assert set(np.flatnonzero(decided[i])) == set(chosen)
        for label in range(6):
            expected = max(v for s, v in near.items() if label in s) - 1
            assert scores[i, label].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_loss_is_that_of_all_combinations(seed):
    support = support_of(seed)
    Y = support.targets.numpy()
    combinations = Combinations.of(support.targets)
    K = len(combinations.holds)
    queries = fake_support(SOURCE, 6, prefix=f"q{seed}-", extra=0.5, images=7).targets
    z = torch.randn(7, K, generator=torch_generator("logits", seed), dtype=torch.float64)
    found = combination_loss(z, queries, combinations).item()

    kinds = [frozenset(np.flatnonzero(row)) for row in combinations.holds.numpy()]
    terms = []
    for s, shown in all_combinations(Y).items():
        largest = frozenset.intersection(*(frozenset(np.flatnonzero(Y[i])) for i in shown))
        for row, y in zip(z.tolist(), queries.numpy(), strict=True):
            logit = row[kinds.index(largest)]
            P = 1 / (1 + math.exp(-logit))
            terms.append(-math.log(P if set(s) <= set(np.flatnonzero(y)) else 1 - P))
    assert found == pytest.approx(sum(terms) / len(terms), rel=1e-9)
    assert int(combinations.count().sum()) == len(all_combinations(Y))


def test_the_training_loss_takes_the_projected_means():
    base, method = learnable_part("base"), lc(**TRAINED, scale=3)
    method.fit(base, None, FitContext(1))
    weights, episode = method.state(), base.episode(3)
    W = weights["W"].double().numpy()
    f = episode.support.images.pooled().double().numpy() @ W.T
    terms = []
    for s, shown in all_combinations(episode.support.targets.numpy()).items():
        p = f[shown].mean(0)
        for x, y in zip(
            episode.query.pooled().double().numpy() @ W.T, episode.query_targets, strict=True
        ):
            P = 1 / (1 + math.exp(-3 * cosine(x, p)))
            terms.append(-math.log(P if all(y[c] for c in s) else 1 - P))
    found = method.loss(weights, base, 3, 0).item()
    assert found == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_of_combinations_that_are_equally_near_the_largest_is_taken():
    support = fake_support(SOURCE, 3, images=2)
    support.targets[:] = torch.tensor([[1.0, 0, 0], [1, 1, 0]])
    predictor = lc().adapt(support)
    predictor.prototypes[:] = predictor.prototypes[0].clone()  # as of images that are the same
    assert predictor.decide(support.images).tolist() == 2 * [[True, True, False]]


def test_an_image_with_many_labels_needs_one_prototype():
    targets = torch.zeros(2, 60)
    targets[0], targets[1, :2] = 1, 1  # the first alone has 2^60 - 1 combinations
    assert closed_sets(targets).sum(1).tolist() == [2, 60]


def test_too_many_combinations_are_refused(monkeypatch):
    monkeypatch.setattr(lc_protonets, "MOST", 100)
    with pytest.raises(BenchError, match="too many combinations"):
        closed_sets(1 - torch.eye(9))  # every subset of nine labels but that of all


def test_a_label_without_a_support_image_is_last():
    support = fake_support(SOURCE)
    support.targets[:, 2] = 0
    predictor = lc().adapt(support)
    assert predictor(support.images)[:, 2].tolist() == [-2.0] * 5
    support.targets[:] = 0
    assert not lc().adapt(support).decide(support.images).any()


def test_it_trains_only_with_a_projection():
    base, val = learnable_part("base"), learnable_part("val", n_episodes=4)
    plain, trained = lc(), lc(projection=8, steps=40, lr=0.02)
    assert (plain.trains, trained.trains) == (False, True)
    plain.fit(base, val, FitContext(1))
    assert plain.state() == {}
    trained.fit(base, val, FitContext(1))
    first = lc(projection=8, steps=0)
    first.fit(base, val, FitContext(1))
    before, after = (val_macro_ap(m.adapt_all, val) for m in (first, trained))
    assert after >= before > 0.5
    with pytest.raises(ValidationError, match="would have no effect with projection=none"):
        LCProtonetsParams(steps=10)

"""The label-count head: the classifier, the shares of an episode, the choice on val."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from mlfsic_baselines.label_count import (
    BASE_IMAGES,
    MOST,
    PENALTIES,
    LabelCountHead,
    ValCounts,
    assess,
    solve,
    with_ones,
)
from sklearn.linear_model import LogisticRegression

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import Images, Support, TrainingEpisode, TrainingPart

D, LABELS = 5, tuple("abcdef")


class Vectors:
    """A feature source that holds vectors float32 [n, D]; ids are row numbers."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def pooled(self, ids: Sequence[str]) -> torch.Tensor:
        return self.rows[[int(i) for i in ids]]


def made(n: int, shares: Sequence[float], seed: int, clear: float = 1.5) -> TrainingPart:
    """A part whose first feature says how many labels an image shows; 12 episodes of 6 and 20."""
    rng = np.random.default_rng(seed)
    k = rng.choice(len(shares), n, p=shares) + 1
    targets = np.zeros((n, len(LABELS)), np.float32)
    for row, count in zip(targets, k, strict=True):
        row[rng.choice(len(LABELS), count, replace=False)] = 1
    x = rng.normal(size=(n, D)) * 3 + 7
    x[:, 0] = clear * k + rng.normal(size=n)
    source, y = Vectors(torch.tensor(x, dtype=torch.float32)), torch.tensor(targets)
    drawn = [rng.permutation(n)[:26].tolist() for _ in range(12)]

    def episode(index: int) -> TrainingEpisode:
        s, q = drawn[index][:6], drawn[index][6:]
        support = Support(Images(tuple(map(str, s)), source), y[s], LABELS, None, 0)
        return TrainingEpisode(support, Images(tuple(map(str, q)), source), y[q])

    return TrainingPart(
        Images(tuple(map(str, range(n))), source), y, LABELS, None, episode, len(drawn)
    )


BASE = made(300, [0.6, 0.25, 0.1, 0.03, 0.02], 0)
VAL = made(120, [0.2, 0.5, 0.2, 0.1], 1)


def naive(head: LabelCountHead, x: np.ndarray, support: np.ndarray) -> list[float]:
    """p_e(k | x) of one image, by loops over the four classes."""
    W, s, m = head.weights.numpy(), head.shares.numpy(), float(head.base_images)
    z = [(x[j] - float(head.mean[j])) / float(head.scale[j]) for j in range(D)]
    logits = [sum(W[j, k] * z[j] for j in range(D)) + W[D, k] for k in range(MOST)]
    p = [math.exp(v) / sum(map(math.exp, logits)) for v in logits]
    n = [0] * MOST
    for row in support:
        n[min(int(row.sum()), MOST) - 1] += 1
    if not math.isinf(m):
        here = [(n[k] + m * s[k]) / (len(support) + m) for k in range(MOST)]
        p = [p[k] * here[k] / s[k] for k in range(MOST)]
    return [v / sum(p) for v in p]


@pytest.mark.parametrize("m", [1.0, 16.0, math.inf])
def test_probabilities_are_those_of_the_equations(m: float) -> None:
    head = LabelCountHead.fitted(BASE, VAL)
    head = replace(head, base_images=torch.tensor(m, dtype=torch.float64))
    episode = VAL.episode(3)
    found = head.log_probabilities(episode.query, episode.support).exp().numpy()
    for row, x in zip(found, episode.query.pooled().double().numpy(), strict=True):
        assert row == pytest.approx(naive(head, x, episode.support.targets.numpy()), abs=1e-10)
    counts = head.counts(episode.query, episode.support)
    assert counts.tolist() == (1 + found.argmax(1)).tolist()


@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_the_classifier_is_scikit_learns(penalty: float) -> None:
    x, k = BASE.images.pooled().double(), BASE.targets.sum(1).long().clamp(1, MOST) - 1
    x = with_ones((x - x.mean(0)) / x.std(0, correction=0))
    W = solve(x, k, x.new_zeros(D + 1, MOST), penalty)
    oracle = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-10, max_iter=5000)
    oracle.fit(x[:, :-1].numpy(), k.numpy())
    ours = (x @ W).softmax(1).numpy()
    assert ours == pytest.approx(oracle.predict_proba(x[:, :-1].numpy()), abs=1e-5)


def test_the_settings_with_the_best_likelihood_on_val_are_taken() -> None:
    head = LabelCountHead.fitted(BASE, VAL)
    assert float(head.penalty) in PENALTIES
    best = assess(head, ValCounts.of(VAL))
    for size in BASE_IMAGES:
        other = replace(head, base_images=torch.tensor(size, dtype=torch.float64))
        values = []
        for i in range(VAL.n_episodes or 0):
            episode = VAL.episode(i)
            y = episode.query_targets.sum(1).long().clamp(1, MOST).numpy()
            xs, s = episode.query.pooled().double().numpy(), episode.support.targets.numpy()
            p = [math.log(naive(other, x, s)[k - 1]) for x, k in zip(xs, y, strict=True)]
            values.append(sum(p) / len(p))
        mean = sum(values) / len(values)
        assert mean <= best.log_likelihood + 1e-10
        if size == float(head.base_images):
            assert mean == pytest.approx(best.log_likelihood, abs=1e-10)


def test_it_counts_better_than_one_where_the_features_say_it() -> None:
    found = assess(LabelCountHead.fitted(BASE, VAL), ValCounts.of(VAL))
    assert found.accuracy > found.accuracy_of_one + 0.2
    assert found.error < found.error_of_one - 0.3
    # the support says that more labels are to be expected than on the base part
    blind = replace(
        LabelCountHead.fitted(BASE, VAL), base_images=torch.tensor(math.inf, dtype=torch.float64)
    )
    assert assess(blind, ValCounts.of(VAL)).log_likelihood < found.log_likelihood


def test_edges() -> None:
    first, again = (LabelCountHead.fitted(BASE, None) for _ in range(2))
    assert torch.equal(first.weights, again.weights)
    episode = VAL.episode(0)
    narrow = replace(episode.support, targets=episode.support.targets[:, :2])
    assert first.counts(episode.query, narrow).max() <= 2
    none = replace(BASE, targets=torch.zeros_like(BASE.targets))
    with pytest.raises(BenchError, match="base images that show labels"):
        LabelCountHead.fitted(none, None)
    one = replace(BASE, targets=BASE.targets * 0 + torch.eye(6)[0])  # all show one label
    assert (LabelCountHead.fitted(one, None).counts(episode.query, narrow) == 1).all()

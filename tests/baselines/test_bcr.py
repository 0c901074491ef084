"""bcr: its losses, prototypes and scores against a transcription with loops, in float64."""

import math

import numpy as np
import pytest
import torch
from mlfsic_baselines.prototypes.bcr import BCR, BCRParams, logit
from torch.nn.functional import binary_cross_entropy_with_logits

from mlfsic_bench.methods.contract import FitContext
from mlfsic_bench.training.loop import val_macro_ap
from tests.fakes.source import learnable_part

SMALL = {"projection": 5, "hidden": 4, "steps": 2, "select_every": 1, "temperature": 8}


def bcr(**changes):
    return BCR(BCRParams(**(SMALL | changes)))


def cosine(a, b):
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


def naive_prototypes(z, Y):
    rows = []
    for c in range(Y.shape[1]):
        mean = sum(z[i] for i in range(len(z)) if Y[i, c]) / Y[:, c].sum()
        a = [Y[i, c] * max(cosine(z[i], mean), 0) + 1e-7 for i in range(len(z))]
        rows.append(sum(w * x for w, x in zip(a, z, strict=True)) / sum(a))
    return rows


def naive_probability(x, p, temperature):
    return 2 / (1 + math.exp(((x - p) ** 2).sum() / temperature))


def mean_bce(P, Y):
    terms = [
        -(Y[i, c] * math.log(P[i][c]) + (1 - Y[i, c]) * math.log(1 - P[i][c]))
        for i in range(len(Y))
        for c in range(Y.shape[1])
    ]
    return sum(terms) / len(terms)


def naive_loss(w, f_s, Y_s, f_q, Y_q, p):
    z_s, z_q = ([w["W"] @ x for x in f] for f in (f_s, f_q))
    protos = naive_prototypes(z_s, Y_s)
    total = mean_bce([[naive_probability(x, c, p.temperature) for c in protos] for x in z_q], Y_q)
    z, Y = z_s + z_q, np.concatenate([Y_s, Y_q])
    e = []
    for x, y in zip(z, Y, strict=True):
        hx, hy = w["encoder_x"] @ x + w["bias_x"], w["encoder_y"].T @ y + w["bias_y"]
        e.append(w["encoder_z"] @ np.concatenate([hx, hy]) + w["bias_z"])
    n, L = Y.shape
    t = [[sum(cosine(e[i], e[j]) * Y[j, c] for j in range(n)) for c in range(L)] for i in range(n)]
    soft = mean_bce([[1 / (1 + math.exp(-v)) for v in row] for row in t], Y)
    protos = naive_prototypes(z, Y)
    towards = 0.0
    for i in range(n):
        u = [-((z[i] - c) ** 2).sum() / p.temperature for c in protos]
        log_all = math.log(sum(math.exp(v) for v in u))
        share = sum(math.exp(v) for v in t[i])
        towards -= sum(math.exp(t[i][c]) / share * (u[c] - log_all) for c in range(L)) / n
    return total + p.eta * soft + p.gamma * towards


def test_the_loss_is_its_definition():
    base, method = learnable_part("base"), bcr(eta=0.3, gamma=0.7)
    method.fit(base, None, FitContext(1))
    source = base.images.source
    shapes = method.shapes(source) | method.training_shapes(source, base)
    rng = np.random.default_rng(3)
    w = {name: 0.3 * rng.normal(size=shape) for name, shape in shapes.items()}
    weights = {name: torch.tensor(value, dtype=torch.float32) for name, value in w.items()}
    found = method.loss(weights, base, 4, 0).item()
    episode = base.episode(4)
    arrays = (
        episode.support.images.pooled(),
        episode.support.targets,
        episode.query.pooled(),
        episode.query_targets,
    )
    arrays = [a.double().numpy() for a in arrays]
    expected = naive_loss(w, *arrays, method.params)
    assert found == pytest.approx(expected, rel=1e-4)


def test_scores_are_the_log_odds_of_the_probability():
    base, method = learnable_part("base"), bcr()
    method.fit(base, None, FitContext(1))
    support, query = base.episode(2).support, base.episode(2).query
    scores = method.adapt(support)(query)
    W = method.state()["W"].double().numpy()
    z = support.images.pooled().double().numpy() @ W.T
    protos = naive_prototypes(z, support.targets.numpy())
    for x, row in zip(query.pooled().double().numpy() @ W.T, scores, strict=True):
        for p, score in zip(protos, row.tolist(), strict=True):
            P = naive_probability(x, p, method.params.temperature)
            assert score == pytest.approx(math.log(P / (1 - P)), abs=1e-3)


def test_the_threshold_is_at_log_3_and_the_nearest_has_a_finite_score():
    u = torch.tensor([0.0, 1e-9, math.log(3) - 0.01, math.log(3) + 0.01, 200.0])
    values = logit(u)
    assert values.isfinite().all()
    assert (values > 0).tolist() == [True, True, True, False, False]
    assert values[-1] == pytest.approx(math.log(2) - 200)


def test_training_lowers_the_loss_and_beats_chance():
    base, val = (learnable_part(name, images=60, n_episodes=8) for name in ("base", "val"))
    first, trained = bcr(steps=0, projection=8), bcr(steps=30, lr=0.01, projection=8)
    losses = []
    for method in (first, trained):
        method.fit(base, val, FitContext(1))
        predictor = method.adapt(base.episode(500).support)
        scores, targets = predictor(base.episode(500).query), base.episode(500).query_targets
        losses.append(binary_cross_entropy_with_logits(scores, targets).item())
    assert losses[1] < losses[0]
    assert val_macro_ap(trained.adapt_all, val) > 0.65  # chance is about 0.4

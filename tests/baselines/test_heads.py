"""logistic, ridge and knn against definitions written with loops and with scikit-learn."""

import math

import numpy as np
import pytest
import torch
from mlfsic_baselines.heads.knn import NearestNeighbours, NearestNeighboursParams
from mlfsic_baselines.heads.linear_head import HeadParams
from mlfsic_baselines.heads.logistic import LogisticRegression
from mlfsic_baselines.heads.ridge import RidgeRegression
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression as SklearnLogistic
from sklearn.linear_model import Ridge

from mlfsic_bench.methods.contract import Images
from mlfsic_bench.training.loop import val_macro_ap
from tests.fakes.source import FakeSource, fake_support, learnable_part

SOURCE = FakeSource()
QUERY = Images(tuple(f"q{i}" for i in range(6)), SOURCE)


def logistic(**settings):
    return LogisticRegression(HeadParams(**settings))


def ridge(**settings):
    return RidgeRegression(HeadParams(**settings))


def knn(**settings):
    return NearestNeighbours(NearestNeighboursParams(**settings))


def prepared(support, query, *, normalise, centre):
    """Support and query features, float64, in loops."""
    f, g = support.images.pooled().double().numpy(), query.pooled().double().numpy()
    mean = f.mean(0) if centre == "support" else 0 * f[0]
    if not normalise:
        return f, g
    return [np.stack([(x - mean) / np.linalg.norm(x - mean) for x in A]) for A in (f, g)]


def naive_head(make, support, query, *, balance, normalise, centre):
    """scikit-learn's classifier `make(kind)`, label by label."""
    X, Q = prepared(support, query, normalise=normalise, centre=centre)
    columns = []
    for y in support.targets.T.numpy():
        s, n = len(y), y.sum()
        weights = [s / (2 * n) if carried else s / (2 * (s - n)) for carried in y]
        columns.append(make(X, y, weights if balance else None, Q))
    return np.stack(columns, 1)


def sklearn_logistic(X, y, weights, Q):
    model = SklearnLogistic(C=1 / 0.05, tol=1e-9, max_iter=10000)
    return model.fit(X, y, sample_weight=weights).decision_function(Q)


def sklearn_ridge(X, y, weights, Q):
    return Ridge(alpha=0.05).fit(X, np.where(y > 0, 1, -1), sample_weight=weights).predict(Q)


@pytest.mark.parametrize(
    ("make", "naive"),
    [(logistic, sklearn_logistic), (ridge, sklearn_ridge)],
    ids=["logistic", "ridge"],
)
@pytest.mark.parametrize("balance", [False, True])
@pytest.mark.parametrize(
    "features",
    [
        {"normalise": True, "centre": "none"},
        {"normalise": True, "centre": "support"},
        {"normalise": False, "centre": "none"},
    ],
)
def test_heads_are_scikit_learns(make, naive, balance, features):
    support = fake_support(SOURCE, labels=4, images=12)
    scores = make(penalty=0.05, balance=balance, **features).adapt(support)(QUERY)
    expected = naive_head(naive, support, QUERY, balance=balance, **features)
    np.testing.assert_allclose(scores.numpy(), expected, atol=1e-4)


def naive_knn(support, query, *, k, beta, centre):
    """The vote in loops; the share of the far images is added for the order of ties."""
    X, Q = prepared(support, query, normalise=True, centre=centre)
    Y = support.targets.numpy()
    rows = []
    for q in Q:
        cosines = [float(q @ x) for x in X]
        near = sorted(range(len(X)), key=lambda i: -cosines[i])[: k or len(X)]
        row = []
        for c in range(Y.shape[1]):
            share = {0: 1e-12, 1: 1e-12}
            total = sum(math.exp(beta * v) * (i in near or 1e-6) for i, v in enumerate(cosines))
            for i, v in enumerate(cosines):
                vote = math.exp(beta * v) * (1 if i in near else 1e-6)
                share[int(Y[i, c])] += vote / total
            row.append(math.log(share[1] / share[0]))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("k", [None, 1, 3, 99])
@pytest.mark.parametrize("centre", ["none", "support"])
def test_knn_is_its_definition(k, centre):
    support = fake_support(SOURCE, labels=4, images=9)
    settings = {"k": k, "beta": 7.0, "centre": centre}
    scores = knn(**settings).adapt(support)(QUERY)
    np.testing.assert_allclose(scores, naive_knn(support, QUERY, **settings), atol=1e-3)


def test_one_neighbour_votes_alone_and_leaves_no_ties():
    support = fake_support(SOURCE, labels=5, images=9)
    query = Images(tuple(f"many {i}" for i in range(60)), SOURCE)
    scores = knn(k=1).adapt(support)(query)
    X, Q = prepared(support, query, normalise=True, centre="none")
    nearest = support.targets[(Q @ X.T).argmax(1)]
    assert torch.equal(scores > 0, nearest > 0)
    for column in scores.T:
        assert len(column.unique()) == 60


@pytest.mark.parametrize("make", [logistic, ridge, knn])
def test_heads_beat_chance(make):
    part = learnable_part("heads", images=60, n_episodes=5)
    prevalence = part.targets.mean().item()
    assert val_macro_ap(make().adapt_all, part) > prevalence + 0.2


@pytest.mark.parametrize("make", [logistic, ridge, knn])
def test_heads_are_finite_for_labels_of_one_kind(make):
    support = fake_support(SOURCE)
    support.targets[:, 2], support.targets[:, 3] = 0, 1
    scores = make().adapt(support)(QUERY)
    assert scores.isfinite().all()
    assert (scores[:, 2] < 0).all()
    assert (scores[:, 3] > 0).all()


@pytest.mark.parametrize("make", [logistic, ridge])
def test_a_shift_of_raw_features_is_refused_as_without_effect(make):
    with pytest.raises(ValidationError, match="no effect"):
        make(normalise=False, centre="support")

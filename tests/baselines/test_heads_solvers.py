"""fit_logistic and fit_ridge against scipy and scikit-learn, label by label."""

import numpy as np
import pytest
import torch
from mlfsic_baselines.heads.solvers import balanced_weights, fit_logistic, fit_ridge
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, Ridge

from mlfsic_bench.randomness import torch_generator


def data(s=12, d=40, L=5, *, episodes=(), size=1.0, name="heads"):
    """Features, targets with both kinds for every label, weights and priors, in float64."""
    g = torch_generator("solvers", name, s, d, L)
    X = size * torch.randn(*episodes, s, d, generator=g, dtype=torch.float64)
    Y = (torch.rand(*episodes, s, L, generator=g) < 0.3).double()
    Y[..., 0, :], Y[..., 1, :] = 1, 0
    v = torch.rand(*episodes, s, L, generator=g, dtype=torch.float64) + 0.1
    prior = torch.randn(*episodes, L, d, generator=g, dtype=torch.float64)
    return X, Y, v, prior


def objective(wb, X, y, v, m, penalty):
    """The definition, float64, and its gradient."""
    w, b = wb[:-1], wb[-1]
    z = X @ w + b
    loss = np.logaddexp(0, np.where(y > 0, -z, z))
    slope = v * (1 / (1 + np.exp(-z)) - y)
    value = (v * loss).sum() + penalty / 2 * ((w - m) ** 2).sum()
    return value, np.append(X.T @ slope + penalty * (w - m), slope.sum())


@pytest.mark.parametrize("s", [12, 60])  # fewer and more images than features
@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_logistic_with_prior_and_weights_is_the_minimum(s, penalty):
    X, Y, v, prior = data(s)
    W, b = fit_logistic(X, Y, penalty, weights=v, prior=prior)
    for c in range(Y.shape[1]):
        args = (X.numpy(), Y[:, c].numpy(), v[:, c].numpy(), prior[c].numpy(), penalty)
        start = np.zeros(X.shape[1] + 1)
        options = {"maxiter": 5000, "ftol": 0, "gtol": 1e-10}
        found = minimize(objective, start, args, "L-BFGS-B", jac=True, options=options).x
        np.testing.assert_allclose(W[c], found[:-1], atol=1e-5)
        np.testing.assert_allclose(b[c], found[-1], atol=1e-5)
        _, gradient = objective(np.append(W[c], b[c]), *args)
        assert abs(gradient).max() < 1e-7


@pytest.mark.parametrize("weighted", [False, True])
def test_without_a_prior_it_is_scikit_learns(weighted):
    X, Y, v, _ = data()
    W, b = fit_logistic(X, Y, 0.3, weights=v if weighted else None)
    R, r = fit_ridge(X, 2 * Y - 1, 0.3, weights=v if weighted else None)
    for c in range(Y.shape[1]):
        v_c = v[:, c] if weighted else None
        logistic = LogisticRegression(C=1 / 0.3, tol=1e-10, max_iter=10000)
        logistic.fit(X, Y[:, c], sample_weight=v_c)
        np.testing.assert_allclose(W[c], logistic.coef_[0], atol=1e-6)
        np.testing.assert_allclose(b[c], logistic.intercept_[0], atol=1e-6)
        ridge = Ridge(alpha=0.3).fit(X, 2 * Y[:, c] - 1, sample_weight=v_c)
        np.testing.assert_allclose(R[c], ridge.coef_, atol=1e-9)
        np.testing.assert_allclose(r[c], ridge.intercept_, atol=1e-9)


def test_episodes_together_are_episodes_one_by_one():
    X, Y, v, prior = data(episodes=(2, 2))
    W, b = fit_logistic(X, Y, 0.1, weights=v, prior=prior)
    R, r = fit_ridge(X, 2 * Y - 1, 0.1)
    for i, j in np.ndindex(2, 2):
        alone = fit_logistic(X[i, j], Y[i, j], 0.1, weights=v[i, j], prior=prior[i, j])
        torch.testing.assert_close((W[i, j], b[i, j]), alone)
        torch.testing.assert_close((R[i, j], r[i, j]), fit_ridge(X[i, j], 2 * Y[i, j] - 1, 0.1))


def test_one_prior_for_all_episodes_and_weight_0_is_padding():
    X, Y, v, prior = data(episodes=(2,))
    v[0, 8:] = 0
    W, b = fit_logistic(X, Y, 0.1, weights=v, prior=prior[0])
    alone = fit_logistic(X[0, :8], Y[0, :8], 0.1, weights=v[0, :8], prior=prior[0])
    torch.testing.assert_close((W[0], b[0]), alone)


@pytest.mark.parametrize("penalty", [1e-6, 1e-2, 1e4])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e3])
@pytest.mark.parametrize("far", [0.0, 100.0])  # a prior that says the opposite, very surely
def test_hard_data_are_solved(penalty, size, far):
    X, Y, _, _ = data(size=size)
    penalty *= size**2
    prior = far * torch.linalg.lstsq(X, 1 - 2 * Y, driver="gelsd").solution.T
    X[3] = X[0]  # one image twice, with other labels: not separable
    W, b = fit_logistic(X, Y, penalty, prior=prior)
    assert W.isfinite().all()
    assert b.isfinite().all()
    p = (X @ W.T + b).sigmoid()
    gradient = (p - Y).T @ X + penalty * (W - prior)
    assert gradient.abs().max() / X.norm(dim=1).max() < 1e-7
    assert (p - Y).sum(0).abs().max() < 1e-7


@pytest.mark.parametrize("penalty", [1e-8, 1.0])
def test_labels_of_one_kind_get_their_share(penalty):
    X, Y, _, prior = data()
    Y[:, 1], Y[:, 2] = 0, 1
    for m in (None, prior):
        W, b = fit_logistic(X, Y, penalty, prior=m)
        R, r = fit_ridge(X, 2 * Y - 1, penalty)
        assert all(A.isfinite().all() for A in (W, b, R, r))
        torch.testing.assert_close(W[1:3], torch.zeros_like(W[1:3]) if m is None else m[1:3])
        shares = torch.tensor([0.5 / 12.5, 12.5 / 0.5], dtype=torch.float64).log()
        torch.testing.assert_close((X @ W.T + b).mean(0)[1:3], shares)


def test_balanced_weights_give_both_kinds_half():
    _, Y, _, _ = data()
    v = balanced_weights(Y)
    half = torch.full((5,), 6.0, dtype=torch.float64)
    torch.testing.assert_close((v * Y).sum(0), half)
    torch.testing.assert_close((v * (1 - Y)).sum(0), half)


def test_the_type_of_the_features_is_kept():
    X, Y, _, _ = data()
    W, b = fit_logistic(X.float(), Y.float(), 0.3)
    assert W.dtype == b.dtype == torch.float32
    torch.testing.assert_close(W.double(), fit_logistic(X, Y, 0.3)[0], atol=1e-5, rtol=1e-5)

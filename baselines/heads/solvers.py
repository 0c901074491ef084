"""Linear classifiers with an L2 penalty, one per label, fitted in the dual form.

A support has few images s and long features d, so the weights of a label are written as

    w = m + X^T a          X [s, d], a [s]; m [d]: what the weights are pulled to (often 0)

and every solution needs only the s x s matrix K = X X^T. The bias b is not penalised. All is
computed in float64, over many labels and episodes at once.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

MOST_STEPS = 200  # far above what is needed: about 6 steps, 30 on the hardest data tried
TOLERANCE = 1e-10  # of the optimality condition, on the scale of a probability
ROUNDING = 1e-13  # relative: two objectives closer than this are equal


def balanced_weights(Y: Tensor) -> Tensor:
    """float [..., s, L]: image weights that give carriers and non-carriers of a label s/2 each.

    Y: float [..., s, L] of 0 and 1. For a label with one of the two kinds only, the weights of
    that kind are 1/2.
    """
    s = Y.shape[-2]
    n = Y.sum(-2, keepdim=True)
    return torch.where(Y > 0, s / (2 * n.clamp(min=1)), s / (2 * (s - n).clamp(min=1)))


@torch.no_grad()
def fit_logistic(
    X: Tensor,
    Y: Tensor,
    penalty: float,
    *,
    weights: Tensor | None = None,
    prior: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Logistic regression for each label by itself, solved to convergence.

    Minimises, for label c with y_i = Y[i, c], v_i = weights[i, c] and m = prior[c],

        sum_i v_i BCE(sigmoid(w x_i + b), y_i)  +  penalty / 2 |w - m|^2

    over w and b. It is a sum over images, not a mean: penalty is 1/C of scikit-learn and LIBLINEAR.

    Parameters
    ----------
    X: float [..., s, d], features; leading axes are episodes.
    Y: float [..., s, L], targets in [0, 1].
    penalty: above 0, and above 1e-12 of the largest |x|^2, where float64 ends.
    weights: float [..., s, L], not negative; all 1 without. An image of weight 0 does not count.
    prior: float [..., L, d] or [L, d]; 0 without.

    Returns the weights [..., L, d] and biases [..., L] in the type of X. Always finite: with the
    penalty, separable images have one finite solution. A label whose images are all positive or all
    negative has none, since its bias grows without end while w goes to m: it gets w = m and the
    bias that gives its smoothed share, log((n+ + 1/2) / (n- + 1/2)), on average over the images.

    Each step is Newton's where that does not raise the objective. Elsewhere (saturated
    probabilities, far from the solution) it is the best of several lengths of that step and of the
    step of Jaakkola and Jordan's quadratic bound, which always lowers it.
    """
    K, m, y, v = _problems(X, Y, weights, prior)
    P, N = (v * y).sum(1), (v * (1 - y)).sum(1)
    b = ((P + 0.5) / (N + 0.5)).log() - (v * m).sum(1) / (P + N).clamp(min=1e-300)
    a = torch.zeros_like(y)
    live = ((P > 0) & (N > 0)).nonzero()[:, 0]
    for _ in range(MOST_STEPS):
        if not len(live):
            break
        a[live], b[live], done = _logistic_step(
            K(live), m[live], y[live], v[live], a[live], b[live], penalty
        )
        live = live[~done]
    return _primal(X, a, b, prior, Y.shape)


@torch.no_grad()
def fit_ridge(
    X: Tensor, T: Tensor, penalty: float, *, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Ridge regression for each label by itself, in closed form.

    Minimises sum_i v_i (w x_i + b - t_i)^2 + penalty |w|^2 over w and b. Shapes are those of
    `fit_logistic`; T holds real targets, such as -1 and 1, and some weight of each label is above
    0. Returns weights [..., L, d] and biases [..., L].
    """
    K, _, t, v = _problems(X, T, weights, None)
    every = torch.arange(len(t), device=t.device)
    a, b = _quadratic_step(K(every), v, torch.zeros_like(t), v * t, penalty)
    return _primal(X, a, b, None, T.shape)


class _Kernels:
    """K of each problem, [n, s, s] when asked for: labels of an episode share one."""

    def __init__(self, K: Tensor, labels: int) -> None:
        self.K, self.labels = K, labels

    def __call__(self, problems: Tensor) -> Tensor:
        return self.K[problems // self.labels]


def _problems(
    X: Tensor, Y: Tensor, weights: Tensor | None, prior: Tensor | None
) -> tuple[_Kernels, Tensor, Tensor, Tensor]:
    """Every label of every episode as one of N problems: K, and m X^T, targets, weights [N, s]."""
    s, L = Y.shape[-2:]
    X = X.double()

    def rows(values: Tensor) -> Tensor:  # [..., s, L] -> [N, s]
        return values.double().expand(Y.shape).transpose(-1, -2).reshape(-1, s)

    K = (X @ X.transpose(-1, -2)).reshape(-1, s, s)
    m = Y.new_zeros(()) if prior is None else X @ prior.double().transpose(-1, -2)
    v = Y.new_ones(()) if weights is None else weights
    return _Kernels(K, L), rows(m), rows(Y), rows(v)


def _primal(
    X: Tensor, a: Tensor, b: Tensor, prior: Tensor | None, shape: torch.Size
) -> tuple[Tensor, Tensor]:
    """Weights m + X^T a [..., L, d] and biases [..., L] in the type of X."""
    s, L = shape[-2:]
    W = a.reshape(*shape[:-2], L, s) @ X.double()
    if prior is not None:
        W = W + prior.double()
    return W.to(X.dtype), b.reshape(*shape[:-2], L).to(X.dtype)


def _logistic_step(
    K: Tensor, m: Tensor, y: Tensor, v: Tensor, a: Tensor, b: Tensor, penalty: float
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of n problems: the new a [n, s] and b [n], and which problems are solved, bool [n].

    At the solution penalty a_i = v_i (y_i - sigmoid(z_i)), with z = X m + K a + b, and sum_i a_i =
    0. A problem is solved when this holds to `TOLERANCE`, or when no step lowers the objective.
    """
    u = torch.einsum("nij,nj->ni", K, a)
    z = m + u + b[:, None]
    p = z.sigmoid()
    missing = v * (y - p) - penalty * a
    balance = a.sum(1).abs() * penalty
    solved = (missing.abs().amax(1) <= TOLERANCE * v.amax(1)) & (balance <= TOLERANCE * v.sum(1))

    def along(rows: Tensor, e: Tensor, f: Tensor, lengths: Tensor) -> Tensor:
        """The objective [n', lengths] of these problems after steps of these lengths of (e, f)."""
        du = torch.einsum("nij,nj->ni", K[rows], e)
        after = z[rows, :, None] + lengths * (du + f[:, None])[:, :, None]
        w = y[rows, :, None]
        loss = w * softplus(-after, threshold=40) + (1 - w) * softplus(after, threshold=40)
        length2 = (a * u).sum(1)[rows, None] + lengths * (
            2 * (e * u[rows]).sum(1)[:, None] + lengths * (e * du).sum(1)[:, None]
        )
        return (v[rows, :, None] * loss).sum(1) + penalty / 2 * length2

    every = torch.arange(len(a), device=a.device)
    e, f = _quadratic_step(K, v * p * (1 - p), a, missing, penalty)
    here, full = along(every, e, f, a.new_tensor([0.0, 1.0])).unbind(1)
    worse = (~(full <= here + ROUNDING * here.abs()) & ~solved).nonzero()[:, 0]
    if len(worse):
        curvature = v[worse] * _bound_curvature(z[worse])
        bound = _quadratic_step(K[worse], curvature, a[worse], missing[worse], penalty)
        lengths = 2.0 ** torch.arange(-30, 7, dtype=a.dtype, device=a.device)
        found = torch.cat(
            [along(worse, e[worse], f[worse], lengths), along(worse, *bound, lengths)], 1
        )
        lowest, which = found.nan_to_num(torch.inf, torch.inf, torch.inf).min(1)
        length = lengths.repeat(2)[which]
        newton = which < len(lengths)
        e[worse] = torch.where(newton[:, None], e[worse], bound[0]) * length[:, None]
        f[worse] = torch.where(newton, f[worse], bound[1]) * length
        solved[worse] = ~(lowest < here[worse])
    move = ~solved
    return a + torch.where(move[:, None], e, 0), b + torch.where(move, f, 0), solved


def _bound_curvature(z: Tensor) -> Tensor:
    """tanh(z/2) / (2z), at least p (1 - p): the curvature of Jaakkola and Jordan's bound."""
    small = z.abs() < 1e-4
    return torch.where(small, 0.25, (z / 2).tanh() / (2 * torch.where(small, 1.0, z)))


def _quadratic_step(
    K: Tensor, h: Tensor, a: Tensor, missing: Tensor, penalty: float
) -> tuple[Tensor, Tensor]:
    """What is added to a [n, s] and to b [n] when the loss is a parabola.

    h [n, s]: its curvature at each image. missing [n, s]: minus its slope there, minus penalty a.
    Solves (penalty + H K) e + h f = missing with sum(a + e) = 0, by the Cholesky factor of
    penalty + H^1/2 K H^1/2, which stays well conditioned where some h are near 0.
    """
    root = h.clamp(min=1e-40).sqrt()
    B = root[:, :, None] * K * root[:, None, :]
    diagonal = B.diagonal(dim1=1, dim2=2)
    diagonal += penalty + 1e-15 * diagonal.sum(1, keepdim=True)  # keeps the factor real
    factor = torch.linalg.cholesky_ex(B).L
    right = torch.stack([missing / root, root], 2)
    e, per_f = (root[:, :, None] * torch.cholesky_solve(right, factor)).unbind(2)
    f = (a.sum(1) + e.sum(1)) / per_f.sum(1)
    return e - f[:, None] * per_f, f

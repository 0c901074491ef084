"""The `word-prior` row: label embeddings as a prior on the classifier of a new label."""

from __future__ import annotations

import math

import torch
from mlfsic_baselines.heads.solvers import fit_logistic
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import normalize

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import (
    FitContext,
    Images,
    Method,
    MethodParams,
    Predictor,
    Support,
    TrainingPart,
)

SHIFTS = 50  # wrong pairings of embeddings and labels that trust is measured against


class WordPriorParams(MethodParams):
    """Parameters of WordPrior."""

    power: float = Field(
        0.35, gt=0, le=1, description="exponent of each feature; below 1 it evens out large ones"
    )
    shrinkage: float = Field(
        0.9, gt=0, le=1, description="share of the identity in the covariance that whitens"
    )
    scale: float = Field(5.0, gt=0, description="length of every feature vector in the regression")
    penalty: float = Field(0.5, gt=0, description="weight of |w - m|^2 / 2")
    prior: float = Field(
        7.0, ge=0, description="length of m for each unit of trust in the label embeddings"
    )
    ridge: float = Field(
        0.3, gt=0, description="ridge of the regression from label embeddings to classifiers"
    )
    bias: float = Field(
        0.2, ge=0, le=1, description="share of a label's bias in its scores; decides micro-AP only"
    )
    compete: float = Field(
        1.0, ge=0, le=1, description="share of an image's mean score that is taken off all of them"
    )

    @model_validator(mode="after")
    def _consistent(self) -> WordPriorParams:
        if self.prior == 0:
            self.without_effect("prior=0", "ridge")
        return self


class WordPrior(Method):
    """A method of this benchmark: words as a prior on the classifier, not as a guide of attention.

    1. Features. Every global vector f is raised to a power, sign(f) |f|^p, made a unit vector,
       centred and whitened with mean and shrunk covariance of the base images, and made a unit
       vector again: x [d].
    2. Classifiers of the base labels: u_b = unit(mean of x with b - mean of x without b).
    3. From words to classifiers: ridge regression from the label embeddings (unit vectors, centred
       by the mean base label, unit vectors again: e) to u. A new label c gets

           m_c = r * unit(k_c (K + ridge I)^-1 U)      K = e e^T of base labels; k_c = e_c e^T

       How much words are worth is measured, not assumed: every base label's classifier is
       predicted from the other base labels (leave-one-out, closed form). The mean cosine with the
       true classifiers, less what it is where embeddings and labels are paired wrongly, is the
       trust t, at least 0, and r = prior * t. Random embeddings get none, and do no harm.
    4. At an episode: logistic regression on the support images, x scaled by `scale`, with the
       penalty |w - m|^2 in place of |w|^2: where images say little, words decide.

           z(x, c) = w_c x + bias * b_c
           score(x, c) = z(x, c) - compete * mean over labels of z(x, .)
           predicted where w_c x + b_c > 0

    The bias is not penalised. All of it in the scores would rank labels by how often the support
    shows them; none would forget that some labels are more frequent. An image shows few of the
    labels, so they compete for it: that is what `compete` says.

    Without label embeddings m is 0 and steps 1 and 4 are left. Every default was chosen on val
    episodes of COCO photographs (docs/reality-check.md lists the trials).
    """

    name = "word-prior"
    Params = WordPriorParams
    uses_embeddings = True
    trains = True
    printed = "Word prior"
    citation = "this benchmark; no paper"

    params: WordPriorParams

    def __init__(self, params: MethodParams | None = None) -> None:
        super().__init__(params)
        self._state: dict[str, Tensor] = {}

    # -- base -----------------------------------------------------------------------------------

    def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
        """Whitening and, where there are label embeddings, the map from them to classifiers."""
        p = self.params
        f = self._power(base.images.pooled())
        mean = f.mean(0)
        self._state = {"mean": mean.float(), "whiten": _whitening(f - mean, p.shrinkage).float()}
        if base.embeddings is None:
            return
        U = _classifiers(self._features(base.images.pooled()), base.targets.double())
        e, centre = _centred(base.embeddings.double(), None)
        K = e @ e.T + p.ridge * torch.eye(len(e), dtype=e.dtype, device=e.device)
        inverse = torch.linalg.inv(K)
        trust = _trust(inverse, U)
        context.log(f"word-prior: trust in the label embeddings {trust:.3f}")
        self._state |= {
            "centre": centre.float(),
            "known": e.float(),
            "dual": (inverse @ U).float(),
            "trust": torch.tensor([trust], device=e.device),
        }

    def state(self) -> dict[str, Tensor]:
        """mean [d], whiten [d, d]; with label embeddings centre [d_w], known [B, d_w], dual [B, d]

        and trust [1], of B base labels.
        """
        return dict(self._state)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self._state = dict(state)

    # -- episodes -------------------------------------------------------------------------------

    def adapt(self, support: Support) -> Predictor:
        """Scores float32 [q, L], and decisions."""
        if not self._state:
            raise BenchError(
                "word-prior has seen no base part",
                expected="fit or load_state before adapt",
                found="a fresh method",
                remedy="fit the method first",
            )
        p = self.params
        x = p.scale * self._features(support.images.pooled())
        W, b = fit_logistic(x, support.targets.double(), p.penalty, prior=self._prior(support))
        return _Scores(self, p.scale * W, b)

    def _prior(self, support: Support) -> Tensor | None:
        """m, float64 [L, d]; None where words say nothing."""
        s = self._state
        if support.embeddings is None or "dual" not in s:
            return None
        e, _ = _centred(support.embeddings.double(), s["centre"].to(support.embeddings).double())
        k = e @ s["known"].to(e).T
        return self.params.prior * s["trust"].to(e) * normalize(k @ s["dual"].to(e), dim=1)

    def _power(self, f: Tensor) -> Tensor:
        f = f.double()
        return normalize(f.sign() * f.abs() ** self.params.power, dim=1)

    def _features(self, f: Tensor) -> Tensor:
        """x, float64 [n, d], of global vectors [n, d]."""
        f = self._power(f)
        mean, whiten = (self._state[name].to(f) for name in ("mean", "whiten"))
        return normalize((f - mean) @ whiten, dim=1)


class _Scores:
    def __init__(self, method: WordPrior, W: Tensor, b: Tensor) -> None:
        self.method, self.W, self.b = method, W, b

    def __call__(self, query: Images, /) -> Tensor:
        p = self.method.params
        z = self._products(query) + p.bias * self.b
        return (z - p.compete * z.mean(1, keepdim=True)).float()

    def decide(self, query: Images) -> Tensor:
        return self._products(query) + self.b > 0

    def _products(self, query: Images) -> Tensor:
        return self.method._features(query.pooled()) @ self.W.T


def _whitening(f: Tensor, shrinkage: float) -> Tensor:
    """C^(-1/2), float64 [d, d], of centred f [n, d], with C shrunk towards the identity.

    Scaled so that the mean variance is 1: only unit vectors are made of what it gives.
    """
    d = f.shape[1]
    C = f.T @ f / len(f)
    C = (1 - shrinkage) * C / C.diagonal().mean().clamp(min=1e-30) + shrinkage * torch.eye(d).to(C)
    values, vectors = torch.linalg.eigh(C)
    root: Tensor = (vectors * values.clamp(min=1e-12) ** -0.5) @ vectors.T
    return root


def _trust(inverse: Tensor, U: Tensor) -> float:
    """How well base classifiers U [B, d] are predicted from the other base labels, at least 0.

    `inverse` is that of K + ridge I. The closed form of leave-one-out: what is predicted for b is
    u_b - (inverse U)_b / inverse_bb. The mean cosine of right pairs, less that of wrong ones:
    embeddings moved on by 1, 2, ... labels, at most SHIFTS times. Without the second term a few
    labels of any embeddings would be trusted: classifiers of labels that exclude each other are
    alike, and so are centred embeddings.
    """

    def cosine(shift: int) -> float:
        moved = inverse.roll((shift, shift), (0, 1))
        alone = U - moved @ U / moved.diagonal()[:, None]
        return float((U * normalize(alone, dim=1)).sum(1).mean())

    B = len(U)
    step = max(1, math.ceil((B - 1) / SHIFTS))
    wrong = [cosine(shift) for shift in range(1, B, step)]
    return max(0.0, cosine(0) - sum(wrong) / len(wrong)) if wrong else 0.0


def _classifiers(x: Tensor, Y: Tensor) -> Tensor:
    """unit(mean of positives - mean of the others), [B, d], of x [n, d] and targets Y [n, B]."""
    pos, others = Y.sum(0).clamp(min=1), (1 - Y).sum(0).clamp(min=1)
    return normalize(Y.T @ x / pos[:, None] - (1 - Y).T @ x / others[:, None], dim=1)


def _centred(embeddings: Tensor, centre: Tensor | None) -> tuple[Tensor, Tensor]:
    """(unit vectors of unit vectors minus `centre`, the centre): their own mean where None."""
    e = normalize(embeddings, dim=1)
    if centre is None:
        centre = e.mean(0)
    return normalize(e - centre, dim=1), centre

"""The `lc-protonets` row: a prototype for each combination of labels that an image shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor
from torch.nn.functional import linear, normalize, softplus

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.sources import FeatureSource
from mlfsic_bench.methods.contract import (
    FitContext,
    Images,
    MethodParams,
    Predictor,
    Support,
    TrainingPart,
)

from .episodic import (
    EpisodicMethod,
    EpisodicParams,
    Shapes,
    Weights,
    semi_orthogonal,
)

MOST = 20_000  # prototypes of an episode; the shipped episodes have at most a few hundred
FARTHEST = -2.0  # the score of a label that no prototype holds: minus the largest cosine distance


class LCProtonetsParams(EpisodicParams):
    """Parameters of LC-Protonets."""

    projection: int | None = Field(
        None, ge=1, description="size of an embedding learnt on base episodes; none: no training"
    )
    scale: float = Field(10.0, gt=0, description="factor of the cosine in the training loss")

    @model_validator(mode="after")
    def _consistent(self) -> LCProtonetsParams:
        if self.projection is None:
            self.without_effect("projection=none", "scale", "steps", "lr", "select_every")
        return self


def closed_sets(targets: Tensor) -> Tensor:
    """bool [K, L]: the non-empty intersections of rows of `targets` [s, L], smaller sets first.

    The distinct prototypes: all combinations that the same images show have the same mean, and the
    largest of them, the intersection of these images' label sets, stands for them all. There are
    2^n - 1 combinations of an image's n labels, but few intersections.
    """
    found: set[int] = set()
    for row in targets.tolist():
        mask = sum(1 << label for label, value in enumerate(row) if value > 0)
        found |= {mask, *(mask & other for other in found)}
        if len(found) > MOST:
            raise BenchError(
                "the support images share their labels in too many combinations",
                expected=f"at most {MOST:,} prototypes of label combinations in an episode",
                found=f"more, for {targets.shape[0]} images and {targets.shape[1]} labels",
                remedy="use fewer shots or labels, or another method",
            )
    found.discard(0)
    order = sorted(found, key=lambda mask: (mask.bit_count(), mask))
    labels = range(targets.shape[1])
    rows = [[mask >> label & 1 == 1 for label in labels] for mask in order]
    return torch.tensor(rows, dtype=torch.bool).view(-1, targets.shape[1]).to(targets.device)


@dataclass(frozen=True, eq=False)
class Combinations:
    """The label combinations of a support set, those with the same images taken together.

    Attributes
    ----------
    holds: float [K, L], the largest combination of each kind.
    mean: float [K, s], the weights of the support images in the prototype of that kind.
    inside: float64 [K, K], whether combination k' is part of k, lower triangular.
    """

    holds: Tensor
    mean: Tensor
    inside: Tensor

    @classmethod
    def of(cls, targets: Tensor) -> Combinations:
        """Those of a support with targets float [s, L]."""
        holds = closed_sets(targets).to(targets.dtype)
        size = holds.sum(1)
        shown = (holds @ targets.T == size[:, None]).to(targets.dtype)  # [K, s]
        inside = (holds @ holds.T == size).double()
        return cls(holds, shown / shown.sum(1, keepdim=True), inside)

    def count(self, targets: Tensor | None = None) -> Tensor:
        """float64: how many combinations are of each kind [K], or are part of targets [q, L] too.

        A set has 2^n - 1 non-empty parts, each of one kind that is inside it; so the numbers solve
        a triangular system.
        """
        common = self.holds.sum(1)[:, None] if targets is None else self.holds @ targets.T  # [K, q]
        parts = torch.exp2(common.double()) - 1
        number: Tensor = torch.linalg.solve_triangular(self.inside, parts, upper=False).round()
        return number[:, 0] if targets is None else number.T


def combination_loss(z: Tensor, targets: Tensor, combinations: Combinations) -> Tensor:
    """BCE of logits z [q, K] over all combinations, those inside a query's labels being positive.

    The mean over queries and single combinations, although z has one column for each kind.
    """
    number, positive = combinations.count(), combinations.count(targets)
    terms = number.to(z.dtype) * softplus(z) - positive.to(z.dtype) * z
    loss: Tensor = terms.sum() / (float(number.sum()) * len(z))
    return loss


class LCProtonets(EpisodicMethod):
    """Papaioannou, Benetos and Potamianos, LC-Protonets, IEEE Open Journal of Signal Processing.

    The full title is LC-Protonets: Multi-Label Few-Shot Learning for World Music Audio Tagging. A
    label combination is any non-empty subset S of the label set of a support image. Its prototype
    is the mean over the support images that show all of S:

        p_S = mean of f_i over the images i with S in Y_i
        decision: the combination with the largest cos(f_x, p_S); of equal ones the largest
        score(x, l) = max over the S that hold l of cos(f_x, p_S) - 1

    The decision is the original's, which has no scores of labels. Our score is minus the smallest
    cosine distance to a combination that holds the label.

    All combinations that are shown by the same images have the same prototype, and the largest of
    them is the intersection of these images' label sets (`closed_sets`). So one prototype for each
    such intersection gives the decision and the scores of all 2^n - 1 subsets, exactly, without
    making them. An episode with more than 20,000 of them is refused.

    By default nothing is trained. `projection=n` learns a linear map W of the features on base
    episodes with the original's loss: BCE of scale cos(W f_x, W p_S) over all combinations S of the
    support, those inside the query's label set being positive. The sum over single combinations is
    made from the number of them that share a prototype (`Combinations.count`).

    What we decided. The original trains a VGG network on mel spectrograms, or its last layer alone,
    at 1e-5 and 1e-6; here the features are frozen by default and W starts from a random orthogonal
    map. Its loss has scale 1, which keeps every probability between 0.27 and 0.73; we use 10.
    A label without a support image has a score of -2. Images without a label are left out.
    """

    name = "lc-protonets"
    Params = LCProtonetsParams
    trains = False  # an instance with a projection says True
    printed = "LC-Protonets"
    citation = (
        "Papaioannou et al., LC-Protonets: Multi-Label Few-Shot Learning for World Music Audio "
        "Tagging, IEEE Open Journal of Signal Processing 2025"
    )
    bibtex = """\
@article{papaioannou2025lcprotonets,
  title = {{LC-Protonets}: Multi-Label Few-Shot Learning for World Music Audio Tagging},
  author = {Papaioannou, Charilaos and Benetos, Emmanouil and Potamianos, Alexandros},
  journal = {IEEE Open Journal of Signal Processing},
  year = {2025}, note = {arXiv:2409.11264}
}"""

    params: LCProtonetsParams

    def __init__(self, params: MethodParams | None = None) -> None:
        super().__init__(params)
        if self.params.projection is not None:
            self.__dict__["trains"] = True

    def shapes(self, source: FeatureSource) -> Shapes:
        """W [d', d]."""
        return {"W": (self.params.projection or source.dim, source.dim)}

    def start(self, name: str, shape: tuple[int, ...], generator: Generator) -> Tensor:
        """W semi-orthogonal."""
        return semi_orthogonal(shape, generator)

    def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
        """Learn the projection, where one is asked for."""
        if self.params.projection is not None:
            super().fit(base, val, context)

    def loss(self, weights: Weights, base: TrainingPart, number: int, seed: int) -> Tensor:
        """BCE over the label combinations of base episode `number`."""
        episode = base.episode(number)
        combinations = Combinations.of(episode.support.targets)
        p = combinations.mean @ linear(episode.support.images.pooled(), weights["W"])
        x = linear(episode.query.pooled(), weights["W"])
        z = self.params.scale * normalize(x, dim=1) @ normalize(p, dim=1).T
        return combination_loss(z, episode.query_targets, combinations)

    @torch.no_grad()
    def adapt(self, support: Support) -> Predictor:
        """The prototypes of one episode, which also decide."""
        W = None
        if self.params.projection is not None:
            W = self.weights_for(support.images.source)["W"]
        combinations = Combinations.of(support.targets)
        p = combinations.mean @ _embedded(support.images, W)
        return LCPredictor(normalize(p, dim=1), combinations.holds > 0, W)


@dataclass(frozen=True, eq=False)
class LCPredictor:
    """Compares query images with the prototypes of one episode.

    Attributes
    ----------
    prototypes: float [K, d] of unit length.
    holds: bool [K, L], the labels of each; larger sets come later.
    W: the projection [d, c] of features, or None.
    """

    prototypes: Tensor
    holds: Tensor
    W: Tensor | None

    @torch.no_grad()
    def __call__(self, query: Images) -> Tensor:
        """float32 [q, L]: minus the cosine distance to the nearest prototype with the label."""
        z = self.likeness(query)
        scores = z.new_full((len(z), self.holds.shape[1]), FARTHEST)
        for label, rows in enumerate(self.holds.T):
            if rows.any():
                scores[:, label] = z[:, rows].amax(1) - 1
        return scores

    @torch.no_grad()
    def decide(self, query: Images) -> Tensor:
        """bool [q, L]: the labels of the nearest prototype; none without prototypes."""
        if not len(self.holds):
            return self.holds.new_zeros(len(query), self.holds.shape[1])
        last = self.likeness(query).flip(1).argmax(1)  # of equal ones: larger sets come later
        return self.holds.flip(0)[last]

    def likeness(self, query: Images) -> Tensor:
        """float [q, K]: cosines."""
        return normalize(_embedded(query, self.W), dim=1) @ self.prototypes.T


def _embedded(images: Images, W: Tensor | None) -> Tensor:
    f = images.pooled()
    return f if W is None else linear(f, W)

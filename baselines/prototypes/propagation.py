"""The `lpn` row: labels spread over a graph of support and query images; a network counts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from mlfsic_baselines.prototypes.episodic import (
    EpisodicMethod,
    EpisodicParams,
    Shapes,
    Weights,
)
from pydantic import Field, model_validator
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy, linear, normalize

from mlfsic_bench.features.sources import FeatureSource
from mlfsic_bench.methods.contract import (
    FitContext,
    Images,
    Predictor,
    Support,
    TrainingPart,
)

MOST = 10  # labels that an image is counted to have at most
TINY = 1e-30  # the share of a label that nothing has spread from


class LPNParams(EpisodicParams):  # type: ignore[misc]
    """Parameters of LPN and its label counter."""

    steps: int = Field(200, ge=0, description="training steps, each on one base episode")
    lr: float = Field(1e-4, gt=0, description="learning rate of Adam at the first step")
    projection: Literal["learnt", "none"] = Field(
        "learnt",
        description="a linear map and a width learnt on base episodes, or the features as they are",
    )
    form: Literal["spreading", "harmonic"] = Field(
        "spreading",
        description="(I - alpha S)^-1 Y, or the original's harmonic solution, which keeps the "
        "support's labels",
    )
    alpha: float = Field(
        0.8, gt=0, lt=1, description="how much of an image's labels comes from its neighbours"
    )
    width: float = Field(
        0.06, gt=0, description="width of the affinity, in median squared distances of the episode"
    )
    hidden: int = Field(64, ge=1, description="size of the label counter")
    count_weight: float = Field(0.01, ge=0, description="weight of the label counter's loss")

    @model_validator(mode="after")
    def _used(self) -> LPNParams:
        if self.form == "harmonic":
            self.without_effect("form=harmonic", "alpha")
        if self.projection == "none":
            self.without_effect("projection=none", "select_every")
        return self


def affinities(z: Tensor, width: float | Tensor) -> Tensor:
    """float64 [n, n]: exp(-d^2 / (width m)) of the rows of z [n, d], 0 of an image with itself.

    m is the median of the squared distances d^2 between different images.
    """
    z = z.double()
    size = z.square().sum(1)
    distance = (size[:, None] + size - 2 * z @ z.T).clamp(min=0)
    apart = ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    median = distance.detach()[apart].median() if len(z) > 1 else distance.new_ones(())
    return torch.exp(-distance / (width * median.clamp(min=TINY))) * apart


def spread(W: Tensor, Y: Tensor, form: str, alpha: float) -> Tensor:
    """float64 [q, L]: how the labels of the s support images spread to the q queries.

    W [s + q, s + q] are affinities, the support first; Y [s, L] are the labels of the support.
    """
    s = len(Y)
    if form == "harmonic":
        P = W / W.sum(1, keepdim=True).clamp(min=TINY)
        identity = torch.eye(len(W) - s, dtype=W.dtype, device=W.device)
        F: Tensor = torch.linalg.solve(identity - P[s:, s:], P[s:, :s] @ Y)
        return F
    root = W.sum(1).clamp(min=TINY).sqrt()
    S = W / root[:, None] / root
    start = torch.cat([Y, Y.new_zeros(len(W) - s, Y.shape[1])])
    identity = torch.eye(len(W), dtype=W.dtype, device=W.device)
    F = torch.linalg.solve(identity - alpha * S, start)[s:]
    return F


def shares(F: Tensor) -> Tensor:
    """float64 [q, L]: rows of F that sum to 1; equal shares where nothing has arrived."""
    F = F.clamp(min=TINY)
    return F / F.sum(1, keepdim=True)


def normalised(Y: Tensor) -> Tensor:
    """float64 [n, L]: the labels of an image as shares of 1."""
    Y = Y.double()
    return Y / Y.sum(1, keepdim=True).clamp(min=1)


def counts(Y: Tensor) -> Tensor:
    """int64 [n]: how many labels the images have, MOST at most."""
    return Y.sum(1).long().clamp(max=MOST)


def pair_totals(weights: Weights, query: Tensor, support: Tensor) -> Tensor:
    """float32 [q, s, 2 MOST + 1]: logits of the number of labels of two images together.

    From the embeddings of the query images [q, d] and support images [s, d], and the support's
    mean: a perceptron with one hidden layer on the three of them in a row.
    """
    size = query.shape[1] ** 0.5  # embeddings are about of unit length, their entries then of 1
    of_query = linear(size * query, weights["count_query"])
    of_support = linear(size * support, weights["count_support"])
    of_mean = linear(size * support.mean(0), weights["count_mean"], weights["count_bias"])
    hidden = (of_query[:, None] + of_support + of_mean).relu()
    return linear(hidden, weights["count_out"], weights["count_out_bias"])


def voted(logits: Tensor, support_counts: Tensor, n_labels: int) -> Tensor:
    """int64 [q]: the number of labels of each query that the support images vote for.

    A pair votes for k labels with the probability of the total k + (labels of its support image);
    k lies between 1 and the number of labels. Of equal numbers the smaller wins.
    """
    k = torch.arange(1, min(MOST, n_labels) + 1, device=logits.device)
    at = (support_counts[:, None] + k).expand(len(logits), -1, -1)
    return logits.double().softmax(2).gather(2, at).sum(1).argmax(1) + 1


@dataclass(frozen=True)
class Propagation:
    """A predictor: the shares of an episode's labels, and the `n` highest of each query."""

    method: LPN
    weights: Weights
    support: Support

    def __call__(self, query: Images) -> Tensor:
        """float64 [q, L]: log of a label's share, relative to equal shares."""
        p = self.method.propagate(self.weights, self.support, query)[0]
        return (p * p.shape[1]).log()

    def decide(self, query: Images) -> Tensor:
        """bool [q, L]: as many of the highest labels as the counter gives."""
        p, z = self.method.propagate(self.weights, self.support, query)
        s = len(self.support.images)
        logits = pair_totals(self.weights, z[s:], z[:s])
        n = voted(logits, counts(self.support.targets), p.shape[1])
        place = p.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return place < n[:, None]


class LPN(EpisodicMethod):  # type: ignore[misc]
    """Simon, Koniusz and Harandi, Meta-Learning for Multi-Label Few-Shot Classification, WACV 2022.

    Their label propagation with the neural label count (NLC). Support and query images are the
    nodes of a graph, so the labels of a query image depend on the other query images too:

        z_i = A x_i,   x_i = f_i / |f_i|
        W_ij = exp(-|z_i - z_j|^2 / (t m)),  W_ii = 0,  m: the median of |z_i - z_j|^2, i != j
        S = D^-1/2 W D^-1/2,   D: row sums of W
        F = (I - alpha S)^-1 Y           Y: a support image's labels as shares of 1, a query's 0
        p = F / its row sum,   score = log(L p)

    F is where F <- alpha S F + (1 - alpha) Y ends, but for a factor (Zhou et al., NeurIPS 2003).
    `form=harmonic` is the original's: with P = D^-1 W in blocks of support l and queries u,
    F_u = (I - P_uu)^-1 P_ul Y_l, where F <- P F ends when the support's labels are set back in
    every round.

    The label count: of every pair of a query and a support image a perceptron on (z_q, z_s, mean of
    the support's z) gives the number of labels of the two together as classes; less the known
    number of the support image it is a vote for that of the query. As many of the labels with the
    highest scores are predicted. Training on base episodes:

        L = mean (p - y / |y|_1)^2 over queries and labels + 0.01 CE(total of the pairs)

    What we decided. The original trains a Conv4 or ResNet-10 end to end; here the features are
    frozen by default and A is one linear map, which starts as the identity. Its affinity has a
    fixed width (50 or 30) for its own features; here the width is t times the median squared
    distance of the episode's images, with a factor to t that is learnt beside A. Its F goes through
    a softmax over labels, ours are shares as they are. Its evaluation script takes one step,
    relu(P_ul Y_l), in place of the solution that it trains with; here it is the solution in both.
    Its votes are counted in one table for all queries of an episode, which looks like an oversight:
    here each query has its own, and pairs vote with their probabilities. At several shots it cuts
    edges between support images that share no label; here no edge is cut. An image counts for 10
    labels at most. The step size falls on a cosine, and the weights with the best macro-AP on val
    are kept; `projection=none` trains the counter alone on the features as they are, which no AP of
    val depends on, so there the last ones are kept.
    """

    name = "lpn"
    Params = LPNParams
    presets = {"harmonic": {"form": "harmonic"}}  # noqa: RUF012
    check_settings = {  # noqa: RUF012
        "steps": "4",
        "select_every": "2",
        "hidden": "6",
    }
    transductive = True
    printed = "LPN + NLC"
    citation = (
        "Simon, Koniusz and Harandi, Meta-Learning for Multi-Label Few-Shot Classification, WACV "
        "2022"
    )
    bibtex = """\
@inproceedings{simon2022meta,
  title = {Meta-Learning for Multi-Label Few-Shot Classification},
  author = {Simon, Christian and Koniusz, Piotr and Harandi, Mehrtash},
  booktitle = {Proceedings of the IEEE/CVF Winter Conference on Applications of Computer
    Vision (WACV)},
  pages = {3951--3960}, year = {2022}
}"""

    params: LPNParams

    @property
    def _learns(self) -> bool:
        return self.params.projection == "learnt"

    def shapes(self, source: FeatureSource) -> Shapes:
        """A [d, d] and the factor of the width, where they are learnt; the label counter."""
        d, h = source.dim, self.params.hidden
        graph: Shapes = {"A": (d, d), "log_factor": (1,)} if self._learns else {}
        return graph | {
            "count_query": (h, d),
            "count_support": (h, d),
            "count_mean": (h, d),
            "count_bias": (h,),
            "count_out": (2 * MOST + 1, h),
            "count_out_bias": (2 * MOST + 1,),
        }

    def start(self, name: str, shape: tuple[int, ...], generator: Generator) -> Tensor:
        """A the identity, the counter at random."""
        if name == "A":
            return torch.eye(shape[0])
        value: Tensor = super().start(name, shape, generator)
        return value

    def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
        """Train on base episodes; select on val what has an effect on its macro-AP."""
        super().fit(base, val if self._learns else None, context)

    def loss(self, weights: Weights, base: TrainingPart, number: int, seed: int) -> Tensor:
        """The loss of base episode `number`."""
        episode = base.episode(number)
        support, s = episode.support, len(episode.support.images)
        p, z = self.propagate(weights, support, episode.query)
        error = (p - normalised(episode.query_targets)).square().mean()
        logits = pair_totals(weights, z[s:], z[:s])
        totals = counts(episode.query_targets)[:, None] + counts(support.targets)
        counting = cross_entropy(logits.flatten(0, 1), totals.flatten())
        return error + self.params.count_weight * counting

    def propagate(self, weights: Weights, support: Support, query: Images) -> tuple[Tensor, Tensor]:
        """(float64 [q, L] shares of the labels, float32 [s + q, d] embeddings) of an episode."""
        p = self.params
        f = torch.cat([support.images.pooled(), query.pooled()])
        z = normalize(f, dim=1)
        width: float | Tensor = p.width
        if self._learns:
            z = linear(z, weights["A"])
            width = p.width * weights["log_factor"].double().exp()
        F = spread(affinities(z, width), normalised(support.targets), p.form, p.alpha)
        return shares(F), z

    def adapt(self, support: Support) -> Predictor:
        """A predictor that makes the graph when it is given the query."""
        return Propagation(self, self.weights_for(support.images.source), support)

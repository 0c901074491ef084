"""The `multipf` row: prototypes of texts and images, some images generated from support pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from mlfsic_baselines.classifier import training_key
from mlfsic_baselines.text.zero_shot import text_directions
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, leaky_relu, linear, mse_loss, normalize

from mlfsic_bench.features.sources import FeatureSource
from mlfsic_bench.methods.contract import (
    FitContext,
    Images,
    Method,
    MethodParams,
    Predictor,
    Support,
    TrainingEpisode,
    TrainingPart,
)
from mlfsic_bench.methods.refusals import loading_state, untrained
from mlfsic_bench.methods.scoring import dropout
from mlfsic_bench.randomness import torch_generator
from mlfsic_bench.training.loop import train_episodic, val_macro_ap

COUNTS = 4  # the largest label count the count head tells
COUNT_HIDDEN, COUNT_DROPOUT = 300, 0.1
RIDGE = 0.1  # of the map from places to global vectors, as a share of the mean square


class MultiPFParams(MethodParams):
    """Parameters of MultiPF."""

    prompts: int = Field(8, ge=1, description="size of the pool of prompts")
    hidden: int = Field(512, ge=1, description="hidden size of the network that joins two images")
    pairs: int = Field(
        120, ge=0, description="support pairs joined per episode at most; 0: no generated images"
    )
    attention_scale: float = Field(
        10.0, gt=0, description="factor of the cosine of label and place in the attention"
    )
    score: Literal["softmax", "distance"] = Field(
        "softmax",
        description="log of the softmax over labels of the negative squared distance, or that "
        "distance by itself",
    )
    steps: int = Field(1000, ge=1, description="training episodes, one in each step")
    lr: float = Field(1e-3, gt=0, description="Adam's learning rate")
    select_every: int = Field(100, ge=1, description="steps between two evaluations on val")

    @model_validator(mode="after")
    def _consistent(self) -> MultiPFParams:
        if self.pairs == 0:
            self.without_effect("pairs=0", "hidden")
        return self


@dataclass(frozen=True)
class Pairs:
    """Support pairs of an episode: positions i, j int64 [P] and the union of labels [P, L]."""

    i: Tensor
    j: Tensor
    targets: Tensor

    @staticmethod
    def of(targets: Tensor, most: int, seed: int) -> Pairs:
        """All pairs i < j of the s images of targets [s, L], or `most` of them keyed by `seed`."""
        i, j = torch.triu_indices(len(targets), len(targets), 1)
        if len(i) > most:
            order = torch.randperm(len(i), generator=torch_generator("multipf/pairs", seed))
            i, j = i[order[:most]], j[order[:most]]
        i, j = i.to(targets.device), j.to(targets.device)
        return Pairs(i, j, torch.maximum(targets[i], targets[j]))


class PromptsAndPairs(nn.Module):
    """All that training learns; c channels, d numbers of texts and global vectors.

    Text prototypes, from label embeddings e_l of unit length, and a pool r_k, k = 1..K:

        w_l = softmax_k( (gamma + G e_l) . (r_k - mean r_k) / std r_k  +  beta_k + (B e_l)_k )
        t_l = unit(e_l + sum_k w_lk r_k)

    Places of an image u [T, d], of unit length: the map's channels through the fixed `project`.
    Those of a pair:  u_ij = unit(W leaky(A_1 u_i + A_2 u_j + a) + b),  place by place.
    An image as label l sees it:  v_l = unit(sum_t softmax_t(attention_scale e_l . u_t) u_t).

        v_l (prototype) = mean of v_l over support images with l and pairs of which one has l
        p_l = alpha v_l + (1 - alpha) t_l        alpha = sigmoid of a learnt number
    """

    def __init__(
        self, project: Tensor, p: MultiPFParams, generator: Generator | None = None
    ) -> None:
        super().__init__()
        d, K, h = len(project), p.prompts, p.hidden
        generator = generator if generator is not None else torch.Generator().manual_seed(0)

        def matrix(rows: int, columns: int, fan_in: int | None = None) -> nn.Parameter:
            u = torch.rand(rows, columns, generator=generator)
            return nn.Parameter((2 * u - 1) / math.sqrt(fan_in or columns))

        def constant(value: float, *shape: int) -> nn.Parameter:
            return nn.Parameter(torch.full(shape, value))

        self.project: Tensor
        self.register_buffer("project", project.clone())
        self.attention_scale = p.attention_scale
        self.pool = nn.Parameter(0.02 * torch.randn(K, d, generator=generator))
        self.gamma, self.beta = constant(1.0, d), constant(0.0, K)
        self.G, self.B = constant(0.0, d, d), constant(0.0, K, d)
        self.A_1, self.A_2 = matrix(h, d, 2 * d), matrix(h, d, 2 * d)
        self.W = matrix(d, h)
        self.a, self.b = constant(0.0, h), constant(0.0, d)
        self.count_1, self.count_b1 = matrix(COUNT_HIDDEN, d), constant(0.0, COUNT_HIDDEN)
        self.count_2, self.count_b2 = matrix(COUNTS, COUNT_HIDDEN), constant(0.0, COUNTS)
        self.mix = constant(0.0)
        self.uncertainty = constant(0.0, 5)  # log of the weights sigma of the five losses

    def texts(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """(text prototypes t [L, d], weights of the prompts w [L, K]) of embeddings e [L, d]."""
        r = self.pool - self.pool.mean(1, keepdim=True)
        r = r / (r.pow(2).mean(1, keepdim=True) + 1e-12).sqrt()
        gamma, beta = self.gamma + linear(e, self.G), self.beta + linear(e, self.B)
        w = (gamma @ r.T + beta).softmax(1)
        return normalize(e + w @ self.pool, dim=1), w

    def places(self, f_loc: Tensor) -> Tensor:
        """Unit vectors in the space of the texts, float [n, T, d], of maps [n, c, h, w]."""
        return normalize(f_loc.flatten(2).transpose(1, 2) @ self.project.T, dim=2)

    def joined(self, u: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """Places of generated images, float [P, T, d], from those of the support u [s, T, d]."""
        h = linear(u, self.A_1)[i] + linear(u, self.A_2)[j] + self.a
        return normalize(linear(leaky_relu(h, 0.2), self.W, self.b), dim=2)

    def seen(self, u: Tensor, e: Tensor) -> Tensor:
        """v, float [n, L, d]: images with places u [n, T, d] as each label e [L, d] sees them."""
        w = (self.attention_scale * (e @ u.transpose(1, 2))).softmax(2)
        return normalize(w @ u, dim=2)

    def prototypes(
        self, e: Tensor, t: Tensor, u: Tensor, Y: Tensor, u_ij: Tensor, Y_ij: Tensor
    ) -> Tensor:
        """p, float [L, d], from support places and labels, and those of the pairs."""
        v, v_ij = self.seen(u, e), self.seen(u_ij, e)
        summed = torch.einsum("nl,nld->ld", Y, v) + torch.einsum("nl,nld->ld", Y_ij, v_ij)
        v = summed / (Y.sum(0) + Y_ij.sum(0)).clamp(min=1)[:, None]
        alpha = self.mix.sigmoid()
        return alpha * v + (1 - alpha) * t

    def counts(self, f: Tensor, mask: Generator | None = None) -> Tensor:
        """Logits [n, 4] of one, two, three, four or more labels, from unit vectors f [n, d]."""
        h = linear(f, self.count_1, self.count_b1).relu()
        return linear(dropout(h, COUNT_DROPOUT, mask), self.count_2, self.count_b2)


def log_shares(f: Tensor, p: Tensor) -> Tensor:
    """log softmax over labels of -|f - p|^2, float [n, L], of f [n, d] and prototypes p [L, d]."""
    return minus_squared_distance(f, p).log_softmax(1)


def minus_squared_distance(f: Tensor, p: Tensor) -> Tensor:
    """-|f - p|^2, float [n, L]."""
    return 2 * f @ p.T - f.pow(2).sum(1, keepdim=True) - p.pow(2).sum(1)


def pooled_pairs(u_ij: Tensor, u: Tensor, pairs: Pairs) -> Tensor:
    """One unit vector for each pair, [P, d]: places weighted by how much they are like the others.

    The weight of a place is the softmax over places of the mean cosine between its key and all
    keys; a key is the two images' places side by side.
    """
    keys = normalize(torch.cat([u[pairs.i], u[pairs.j]], 2), dim=2)
    w = (keys @ keys.mean(1)[:, :, None]).softmax(1)  # the mean of cosines is that with the mean
    return normalize((w * u_ij).sum(1), dim=1)


def losses(
    net: PromptsAndPairs, episode: TrainingEpisode, most: int, mask: Generator | None
) -> Tensor:
    """The five losses, float [5]; those of pairs are 0 without pairs.

    Queries, pairs, pairs the other way round, label count, prompts: see the class MultiPF.
    """
    support, query = episode.support, episode.query
    Y, e = support.targets, text_directions(support)
    with torch.no_grad():  # the backbone is left as it is
        u = net.places(support.images.local())
        f, f_query = (normalize(images.pooled(), dim=1) for images in (support.images, query))
    pairs = Pairs.of(Y, most, support.seed)
    t, w = net.texts(e)
    u_ij = net.joined(u, pairs.i, pairs.j)
    p = net.prototypes(e, t, u, Y, u_ij, pairs.targets)
    of_query = -(episode.query_targets * log_shares(f_query, p)).mean()
    of_pairs = other_way = of_query.new_zeros(())
    if len(pairs.i):
        pooled = pooled_pairs(u_ij, u, pairs)
        of_pairs = -(pairs.targets * log_shares(pooled, p)).mean()
        other_way = mse_loss(u_ij, net.joined(u, pairs.j, pairs.i))
    counts = torch.cat([Y, episode.query_targets]).sum(1).clamp(1, COUNTS).long() - 1
    of_counts = cross_entropy(net.counts(torch.cat([f, f_query]), mask), counts)
    entropy = -(w * w.clamp(min=1e-12).log()).sum(1).mean()
    return torch.stack([of_query, of_pairs, other_way, of_counts, entropy])


class MultiPF(Method):
    """MultiPF: pairwise feature augmentation and flexible prompts, Liu et al., AAAI 2025.

    (Boosting Multi-Label Few-Shot Image Classification via Pairwise Feature Augmentation and
    Flexible Prompt Learning.) The prototype of a label mixes a text prototype, whose prompt is
    chosen from a pool by the label's name, and an image prototype: what the label's embedding
    attends to in the support images that have it, and in images generated from pairs of support
    images, which have the labels of both (`PromptsAndPairs` has the equations).

        score(q, l) = log softmax_l( -|f_q - p_l|^2 )     f_q [d]: global vector of unit length
        predicted: the k best labels, k = 1 to 4 from a count head (two layers on f_q)

    Trained on episodes of the base labels, the backbone frozen: sum over five losses of
    loss / (2 sigma^2) + log sigma with learnt sigma. They are the cross-entropy of the softmax with
    the targets of queries, the same for generated images, the squared difference of the pair (i, j)
    and (j, i), the cross-entropy of the label count, and the entropy of the prompts' weights.

    What we decided. The original's prompts are 8 x 16 tokens that go through CLIP's text tower with
    the name. A benchmark over stored features has one vector for a label and no tower to
    differentiate, so here the pool lies in the space of the texts and adds a residual to the
    label's vector: the mixing is the original's, the prompts are not. Its places are those of
    CLIP's attention pool; here a place is the map's channels through one linear map, fitted on base
    images by ridge regression from averaged maps to global vectors (the identity where the global
    vector is the mean of the map), and fixed. Label embeddings and places have unit length, with
    `attention_scale` for the length that the original's have. The joining network has one hidden
    layer (original: two of 8,092 and batch normalisation) and at most 120 pairs an episode (all
    pairs of 16 images). All base labels are in a training episode (original: 16 of them). Adam
    with one learning rate (original: SGD with three). Best macro-AP on val is kept (original:
    macro-F1), without a val part the last weights. `score=distance` ranks the images for a label
    without looking at other labels, which the original's softmax does.
    """

    name = "multipf"
    Params = MultiPFParams
    check_settings = {  # noqa: RUF012
        "steps": "3",
        "select_every": "2",
        "hidden": "8",
        "prompts": "3",
        "pairs": "6",
    }
    needs_embeddings = True
    needs_text_side = True
    trains = True
    printed = "MultiPF (re-impl.)"
    citation = (
        "re-implementation of Liu et al., Boosting Multi-Label Few-Shot Image Classification via "
        "Pairwise Feature Augmentation and Flexible Prompt Learning, AAAI 2025"
    )
    bibtex = """\
@inproceedings{liu2025multipf,
  title = {Boosting Multi-Label Few-Shot Image Classification via Pairwise Feature Augmentation
    and Flexible Prompt Learning},
  author = {Liu and others},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence}, year = {2025}
}"""

    params: MultiPFParams

    def __init__(self, params: MethodParams | None = None) -> None:
        super().__init__(params)
        self.network: PromptsAndPairs | None = None

    def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
        """Train on base episodes; keep the weights with the best macro-AP on val."""
        p, source = self.params, base.images.source
        source.train(False)
        weights = torch_generator("multipf/weights", context.seed)
        network = PromptsAndPairs(projection(base.images), p, weights).to(source.device)
        self.network = network

        def loss(i: int) -> Tensor:
            mask = torch_generator("multipf/dropout", context.seed, i)
            parts = losses(network, base.episode(i), p.pairs, mask)
            log_sigma = network.uncertainty
            return (parts * (-2 * log_sigma).exp() / 2 + log_sigma).sum()

        def evaluate() -> float:
            assert val is not None
            return val_macro_ap(self.adapt_all, val)

        trained = train_episodic(
            parameters=list(network.parameters()),
            loss=loss,
            learning_rate=lambda step: p.lr,
            steps=p.steps,
            get_state=self.state,
            set_state=self.load_state,
            evaluate=None if val is None else evaluate,
            evaluate_every=p.select_every,
            folder=context.folder,
            key=training_key(self.name, p.model_dump(mode="json"), base, val, context.seed),
            log=context.log,
        )
        if trained.best is not None:
            self.load_state(trained.best)
            context.log(f"kept step {trained.best_step}: the best macro-AP on val")

    def adapt(self, support: Support) -> Predictor:
        """Prototypes of the support's labels; scores float32 [q, L], and decisions."""
        net, Y, e = self._ready(support.images.source), support.targets, text_directions(support)
        pairs = Pairs.of(Y, self.params.pairs, support.seed)
        with torch.no_grad():
            u = net.places(support.images.local())
            u_ij = net.joined(u, pairs.i, pairs.j)
            p = net.prototypes(e, net.texts(e)[0], u, Y, u_ij, pairs.targets)
        return _Nearest(net, p, self.params.score)

    def state(self) -> dict[str, Tensor]:
        """The network, with the map from places to the space of the texts."""
        if self.network is None:
            return {}
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        with loading_state(self.name):
            if self.network is None:
                self.network = PromptsAndPairs(state["project"], self.params)
            self.network.load_state_dict(state)

    def _ready(self, source: FeatureSource) -> PromptsAndPairs:
        if self.network is None:
            raise untrained(self.name)
        return self.network.to(source.device)


@dataclass(frozen=True)
class _Nearest:
    net: PromptsAndPairs
    prototypes: Tensor
    score: str

    @torch.no_grad()
    def __call__(self, query: Images, /) -> Tensor:
        f = normalize(query.pooled(), dim=1)
        score = log_shares if self.score == "softmax" else minus_squared_distance
        return score(f, self.prototypes)

    @torch.no_grad()
    def decide(self, query: Images) -> Tensor:
        """The k labels with the highest scores of each image, k from the count head."""
        k = self.net.counts(normalize(query.pooled(), dim=1)).argmax(1) + 1
        order = self(query).sort(dim=1, descending=True, stable=True).indices
        return order.argsort(1) < k[:, None]


def projection(images: Images) -> Tensor:
    """The map from channels to the space of global vectors, float32 [d, c].

    The identity where the global vector is the mean of the map; else ridge regression without a
    constant from averaged maps to global vectors of these images.
    """
    source = images.source
    if source.vector == "mean":
        return torch.eye(source.dim, device=source.device)
    with torch.no_grad():
        X, Z = images.averaged().double(), images.pooled().double()
    S = X.T @ X
    S += RIDGE * S.diagonal().mean() * torch.eye(len(S), dtype=S.dtype, device=S.device)
    project: Tensor = torch.linalg.solve(S, X.T @ Z)
    return project.T.float()

"""The network of word-guided attention, equations (1) to (4), and its losses.

Projections, attention and mlp; then L_cmw, L_query and their sum L_all.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from mlfsic_bench.methods.scoring import dropout, score
from mlfsic_bench.methods.word_guided.attention_pool import (
    Pairs,
    by_label_count,
    pair_scores,
    pool_joint,
    pool_pairs,
)

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from mlfsic_bench.methods.contract import Images, Support, TrainingEpisode
    from mlfsic_bench.methods.word_guided.params import WordGuidedParams


NORM_EPS = 1e-6
BIAS_STD = 1e-6


class WordGuidedAttention(nn.Module):
    """A_visual, A_text, the heads Q, K, V and the mlp, with what the paper computes from them.

    `n` is the number of channels, `d_w` the dimension of label embeddings. Matrices start
    Xavier-uniform and biases normal with deviation 1e-6, drawn from `generator`; `start=identity`
    replaces some of them (`_start_as_mean`).

    Between a raw local feature u and the softmax everything is affine unless there is a norm or
    dropout on the way. Then the query is carried through K and A into the space of u (`absorbed`),
    the raw u are pooled by label, and A and V are applied to what was pooled: a few rows for each
    label and head in place of every location. Biases cancel in the softmax, whose weights sum to 1.
    """

    def __init__(
        self, params: WordGuidedParams, n: int, d_w: int, generator: Generator | None = None
    ) -> None:
        super().__init__()
        p = self.params = params
        generator = generator if generator is not None else torch.Generator().manual_seed(0)
        self.attends = p.prototype in ("attention", "attention_global")
        self.reads_local = p.prototype in ("attention", "simple_local")
        self.absorbed = not p.layer_norm and p.local_dropout == 0

        def matrix(*shape: int, fan: tuple[int, int] | None = None) -> nn.Parameter:
            fan_out, fan_in = fan or (shape[0], shape[1])
            bound = math.sqrt(6 / (fan_in + fan_out))
            return nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * bound)

        def vector(*shape: int, wanted: bool = True) -> nn.Parameter | None:
            if not wanted:
                return None
            return nn.Parameter(torch.randn(shape, generator=generator) * BIAS_STD)

        heads, joined = (p.n_a, p.d_a, p.d_j), p.n_a * p.d_a
        self.A_visual, self.b_visual = matrix(p.d_j, n), vector(p.d_j, wanted=p.bias)
        self.A_text, self.b_text = matrix(p.d_j, d_w), vector(p.d_j, wanted=p.bias)
        self.separate = p.projections == "separate" and self.reads_local
        if self.separate:
            self.A_local, self.b_local = matrix(p.d_j, n), vector(p.d_j, wanted=p.bias)
        if not self.attends:
            return
        self.Q, self.b_Q = matrix(*heads, fan=(joined, p.d_j)), vector(*heads[:2], wanted=p.bias)
        self.K, self.b_K = matrix(*heads, fan=(joined, p.d_j)), vector(*heads[:2], wanted=p.bias)
        self.V, self.b_V = matrix(*heads, fan=(joined, p.d_j)), vector(*heads[:2], wanted=p.bias)
        width = joined
        if p.output_projection:
            self.O, self.b_O = matrix(p.d_j, joined), vector(p.d_j, wanted=p.bias)
            width = p.d_j
        self.W_1, self.b_1 = matrix(p.d_mlp, width), vector(p.d_mlp)
        self.W_2, self.b_2 = matrix(p.d_j, p.d_mlp), vector(p.d_j)
        if p.layer_norm:
            self.norm_attention = nn.LayerNorm(p.d_j, eps=NORM_EPS)
            self.norm_mlp = nn.LayerNorm(width, eps=NORM_EPS)
            self.norm_out = nn.LayerNorm(p.d_j, eps=NORM_EPS)
        if p.start == "identity":
            self._start_as_mean()

    @torch.no_grad()
    def _start_as_mean(self) -> None:
        """Every prototype starts as the mean of its label's projected places, A_visual u.

        Queries are 0, so the weights of all places are equal; the heads' V side by side and the
        output layer are the identity; the mlp gives 0 beside its residual. All of them learn: K and
        W_1 stay random, and through them Q and W_2 have gradients at the first step.
        """
        self.V.copy_(torch.eye(self.params.d_j).view_as(self.V))
        if self.params.output_projection:
            self.O.copy_(torch.eye(self.params.d_j))
        for zero in (self.Q, self.b_Q, self.W_2, self.b_2):
            if zero is not None:
                zero.zero_()

    def f_hat(self, f_glo: Tensor) -> Tensor:
        """Global features [q, n] in the joint space, [q, d_j]."""
        return functional.linear(f_glo, self.A_visual, self.b_visual)

    def w_hat(self, w: Tensor) -> Tensor:
        """Label embeddings [C, d_w] in the joint space, [C, d_j]."""
        return functional.linear(w, self.A_text, self.b_text)

    def score(self, f_hat: Tensor, p: Tensor) -> Tensor:
        """Logits [q, C] of images f_hat [q, d_j] and prototypes (or embeddings) p [C, d_j]."""
        return score(f_hat, p, self.params.lam, self.params.score)

    def prototypes(
        self,
        f_loc: Tensor | None,
        f_glo: Tensor,
        targets: Tensor,
        w: Tensor,
        generator: Generator | None = None,
    ) -> Tensor:
        """The prototypes p_c, [C, d_j], equation (3) or the variant chosen.

        f_loc: [S, n, h, w], not read by variants on global features; f_glo: [S, n]; targets:
        [S, C]; w: [C, d_w]. With a generator dropout is on. A label that no support image carries
        gets its projected word vector.
        """
        w_hat = self.w_hat(w)
        if not self.attends:
            p = self._simple(f_loc, f_glo, targets, w_hat)
        else:
            maps = self.maps(f_loc, f_glo, generator)
            rows, _ = self.rows(w_hat)
            pairs = Pairs.of(targets, maps.dtype)
            if self.params.aggregation == "joint":
                p = self.mlp(self.values(pool_joint(rows, maps, pairs)), generator)
            else:
                each = self.mlp(self.values(pool_pairs(rows, maps, pairs)[0]), generator)
                s = self.score(self.f_hat(f_glo), w_hat)
                weight = s.masked_fill(targets <= 0, -torch.inf).softmax(0)[targets > 0]
                p = pairs.sum_by_label(each * weight[:, None])
        carried = (targets > 0).any(0)
        return torch.where(carried[:, None], p, w_hat)

    def maps(self, f_loc: Tensor | None, f_glo: Tensor, generator: Generator | None) -> Tensor:
        """What is attended to: [S, n, P] raw when absorbed, else [S, d_j, P] projected."""
        u = self._locations(f_loc, f_glo)
        if self.absorbed:
            return u
        A, b = self._local_projection()
        u_hat = torch.matmul(A, u)
        if b is not None:
            u_hat = u_hat + b[:, None]
        u_hat = dropout(u_hat, self.params.local_dropout, generator)
        if self.params.layer_norm:
            u_hat = self.norm_attention(u_hat.transpose(1, 2)).transpose(1, 2)
        return u_hat

    def rows(self, w_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Each label's query per head in the space of the maps, and what biases add to its scores.

        Returns [C, n_a, n or d_j] and [C, n_a]: score = row . u + constant. The constant cancels
        in a softmax and matters only where scores themselves are looked at.
        """
        x = self.norm_attention(w_hat) if self.params.layer_norm else w_hat
        b_Q = None if self.b_Q is None else self.b_Q.flatten()
        q = functional.linear(x, self.Q.flatten(0, 1), b_Q).view(-1, *self.Q.shape[:2])
        q = q / math.sqrt(self.params.d_a)
        rows = torch.einsum("chd,hdj->chj", q, self.K)
        constant = torch.zeros_like(q[..., 0]) if self.b_K is None else (q * self.b_K).sum(-1)
        if self.absorbed:
            A, b = self._local_projection()
            constant = constant if b is None else constant + rows @ b
            rows = rows @ A
        return rows, constant

    def projected_values(self) -> Tensor | None:
        """V A [n_a, d_a, n], which takes raw maps to values; None where maps are projected."""
        return self.V @ self._local_projection()[0] if self.absorbed else None

    def values(self, pooled: Tensor, V_A: Tensor | None = None) -> Tensor:
        """The heads' outputs side by side, [N, n_a * d_a], from pooled maps [N, n_a, n or d_j].

        V_A: as `projected_values` gives it, where it is at hand.
        """
        V: Tensor = self.V
        b_V: Tensor | None = self.b_V
        if self.absorbed:
            A, b = self._local_projection()
            if len(pooled) > self.params.d_a:  # then V_j A once costs less than A for every row
                b_V = b_V if b is None or b_V is None else b_V + V @ b
                V = V @ A if V_A is None else V_A
            else:
                pooled = functional.linear(pooled, A, b)
        v = torch.einsum("chj,hdj->chd", pooled, V)
        return (v if b_V is None else v + b_V).flatten(1)

    def mlp(self, x: Tensor, generator: Generator | None) -> Tensor:
        """The mlp of equation (3) with its options: [N, n_a * d_a] to [N, d_j]."""
        p = self.params
        if p.output_projection:
            x = functional.linear(x, self.O, self.b_O)
        y = self.norm_mlp(x) if p.layer_norm else x
        y = functional.gelu(functional.linear(y, self.W_1, self.b_1))
        y = functional.linear(dropout(y, p.dropout, generator), self.W_2, self.b_2)
        y = dropout(y, p.dropout, generator)
        if p.residual:
            y = x + y
        return self.norm_out(y) if p.layer_norm else y

    def location_scores(self, f_loc: Tensor, f_glo: Tensor, w: Tensor) -> Tensor:
        """Scores before the softmax of m images' locations for one label w [d_w]: [m, heads, P].

        One head for `simple_local`, whose score is lambda * cos.
        """
        w_hat = self.w_hat(w[None])
        if not self.attends:
            return self._cosines(self._project(self._locations(f_loc, f_glo)), w_hat)
        maps = self.maps(f_loc, f_glo, None)
        rows, constant = self.rows(w_hat)
        pairs = Pairs.of(torch.ones(len(maps), 1, device=maps.device), maps.dtype)
        return pair_scores(rows, maps, pairs) + constant[0, :, None]

    def _locations(self, f_loc: Tensor | None, f_glo: Tensor) -> Tensor:
        if not self.reads_local:
            return f_glo[:, :, None]
        assert f_loc is not None
        return f_loc.flatten(2)

    def _local_projection(self) -> tuple[Tensor, Tensor | None]:
        if self.separate:
            return self.A_local, self.b_local
        return self.A_visual, self.b_visual

    def _project(self, u: Tensor) -> Tensor:
        A, b = self._local_projection()
        u_hat = torch.matmul(A, u)
        return u_hat if b is None else u_hat + b[:, None]

    def _cosines(self, u_hat: Tensor, w_hat: Tensor) -> Tensor:
        """lambda * cos of [S, d_j, P] with [C, d_j]: [S, C, P]."""
        u = functional.normalize(u_hat, dim=1)
        return self.params.lam * torch.matmul(functional.normalize(w_hat, dim=1), u)

    def _simple(
        self, f_loc: Tensor | None, f_glo: Tensor, targets: Tensor, w_hat: Tensor
    ) -> Tensor:
        """Table 3's simple attention: no heads and no mlp, weights softmax(lambda * cos)."""
        u_hat = self._project(self._locations(f_loc, f_glo))
        S, C, P = len(u_hat), len(w_hat), u_hat.shape[2]
        a = self._cosines(u_hat, w_hat).masked_fill((targets <= 0)[:, :, None], -torch.inf)
        a = a.transpose(0, 1).reshape(C, S * P)
        empty = ~(targets > 0).any(0)
        mu = a.masked_fill(empty[:, None], 0).softmax(1)
        return mu @ u_hat.transpose(1, 2).reshape(S * P, -1)


def features(images: Images, reads_local: bool) -> tuple[Tensor | None, Tensor]:
    """(f_loc [m, n, h, w] or None, f_glo [m, n]) of some images.

    A backbone in training is run once, its global features being the means of its local ones.
    """
    if images.source.trainable_parameters():
        f_loc = images.local()
        return f_loc, f_loc.mean((2, 3))
    return (images.local() if reads_local else None), images.averaged()


def sorted_support(support: Support) -> tuple[Images, Tensor]:
    """The support images and their targets [S, C], images with few labels first.

    Nothing that is computed from a support depends on the order of its images, and attention is
    fastest in this one. Sorting ids costs nothing; sorting feature maps would copy them.
    """
    order = by_label_count(support.targets)
    return support.images.subset(order), support.targets[order]


def bce(logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
    """Binary cross-entropy with logits over images and labels.

    The paper prints its sums without the minus sign; what is minimised here is their negative.
    """
    return functional.binary_cross_entropy_with_logits(
        logits, targets.to(logits.dtype), reduction=reduction
    )


def cmw_loss(model: WordGuidedAttention, f_glo: Tensor, targets: Tensor, w: Tensor) -> Tensor:
    """L_cmw: images f_glo [m, n] against projected label embeddings w [C, d_w]; scalar."""
    return bce(model.score(model.f_hat(f_glo), model.w_hat(w)), targets, model.params.reduction)


def episode_loss(
    model: WordGuidedAttention, episode: TrainingEpisode, generator: Generator | None
) -> Tensor:
    """L_all = L_cmw + gamma L_query of one episode, a scalar; dropout from `generator`.

    Without the CMW loss (Table 3) L_query runs over the support and query images together.
    """
    support, query, p = episode.support, episode.query, model.params
    embeddings = support.embeddings
    assert embeddings is not None
    images, targets = sorted_support(support)
    S = len(images)
    if query.source.trainable_parameters():
        # One batch through the backbone, so that batch norm sees support and query together.
        f_loc, f_glo = features(type(query)(images.ids + query.ids, query.source), True)
        assert f_loc is not None
        f_loc = f_loc[:S]
    else:
        f_loc, f_glo_S = features(images, model.reads_local)
        f_glo = torch.cat([f_glo_S, query.averaged()])
    f_hat = model.f_hat(f_glo)  # support and query in one product, and its gradient too
    prototypes = model.prototypes(f_loc, f_glo[:S], targets, embeddings, generator)
    if not p.use_cmw_loss:
        both = torch.cat([targets, episode.query_targets])
        return bce(model.score(f_hat, prototypes), both, p.reduction)
    cmw = bce(model.score(f_hat[:S], model.w_hat(embeddings)), targets, p.reduction)
    query_loss = bce(model.score(f_hat[S:], prototypes), episode.query_targets, p.reduction)
    return cmw + p.gamma * query_loss

"""The `mmci` row: word-guided attention with selected places, channel attention and convolution.

In the order of the method: its parameters, the loss-change measurement that selects places of the
support images, the network that makes prototypes of them, and the method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional

from mlfsic_bench.methods.contract import Images, MethodParams, Predictor, Support
from mlfsic_bench.methods.refusals import label_embeddings
from mlfsic_bench.methods.scoring import ScoreForm, dropout
from mlfsic_bench.methods.word_guided.attention_pool import Pairs, by_label_count, joint_weights
from mlfsic_bench.methods.word_guided.batched import IMAGES_AT_ONCE, shares_labels
from mlfsic_bench.methods.word_guided.method import WordGuidedAttentionMethod, WordGuidedPredictor
from mlfsic_bench.methods.word_guided.model import (
    BIAS_STD,
    WordGuidedAttention,
    features,
)
from mlfsic_bench.methods.word_guided.params import PRESETS, WordGuidedParams
from mlfsic_bench.methods.word_guided.training import fine_tuned

if TYPE_CHECKING:
    from torch import Generator, Tensor

BETAS, EPS = (0.9, 0.999), 1e-8  # of Adam, on the coefficients
LONGEST_MEMORY = 0.95  # of the running mean of measurements
SHARPNESS, CERTAINTY = 1e8, 0.65  # a place is kept where sigmoid(1e8 * measurement) >= 0.65


class MmciParams(WordGuidedParams):
    """Those of word-guided attention, by default in the form of the later code, and MMCI's own."""

    score: ScoreForm = Field(
        "margin_distance", description="lambda * (1 - distance), or lambda * cos"
    )
    local_dropout: float = Field(0.1, ge=0, lt=1, description="dropout on projected local features")
    projections: Literal["shared", "separate"] = Field(
        "separate", description="whether local features share A_visual with the global ones"
    )
    bias: bool = Field(True, description="biases in the projections and in Q, K, V")
    layer_norm: bool = Field(
        True, description="norms on keys and query, before the mlp, at the end"
    )
    residual: bool = Field(True, description="a residual around the mlp")
    output_projection: bool = Field(True, description="a linear layer between heads and mlp")
    aggregation: Literal["joint"] = Field("joint", description="one softmax over all kept places")
    prototype: Literal["attention"] = Field("attention", description="attention over places")
    channel_attention: bool = Field(
        True, description="gates each channel of a place by a sigmoid of place and label"
    )
    dynamic_convolution: bool = Field(
        True, description="adds the places filtered by kernels made of the label's embedding"
    )
    d_conv: int = Field(16, ge=1, description="channels between the two filters of a label")
    lcm_steps: int = Field(
        200, ge=0, description="steps of the loss-change measurement; 0: every place is kept"
    )
    lcm_lr: float = Field(1e-4, gt=0, description="Adam's learning rate on its coefficients")
    lcm_keep: float | None = Field(
        None, gt=0, le=1, description="share of each image's places to keep; None: fixed threshold"
    )

    @model_validator(mode="after")
    def _own(self) -> MmciParams:
        if self.fine_tune == "all":
            raise ValueError("fine_tune=all is built for word-guided-attention alone")
        if not self.dynamic_convolution:
            self.without_effect("dynamic_convolution=false", "d_conv")
        if self.lcm_steps == 0:
            self.without_effect("lcm_steps=0", "lcm_keep")
        if self.lcm_steps <= 1:
            self.without_effect(f"lcm_steps={self.lcm_steps}", "lcm_lr")
        return self


def loss_change(
    z: Tensor,
    b: Tensor | None,
    w_hat: Tensor,
    targets: Tensor,
    *,
    lam: float,
    form: ScoreForm,
    steps: int,
    lr: float,
    terms: Tensor | None = None,
) -> Tensor:
    """How much the loss on the support would change without each place, [S, P], from `steps` steps.

    With a coefficient rho (1 at first) on each place, image i is f_i = b + sum_l rho_il z_il / P,
    and L the mean BCE of its scores with the projected embeddings. A step measures
    |rho dL/drho| (to first order, what L changes by when rho goes to 0), adds it to a running
    mean, and moves rho by Adam. Before each step but the first the coefficients of an image are
    stretched to [0, 1], and the smallest takes the value of the second smallest.

    The gradient is written out: L needs inner products alone, of places with each other (R) and
    with labels (T), which are computed once.

    Parameters
    ----------
    z: [S, P, d_j], A_visual times each place; b: [d_j] or None, the bias of that projection.
    w_hat: [C, d_j]; targets: [S, C]; lam, form: of the score (`methods.scoring.score`).
    terms: [S], how many terms the mean has of which the image's are part; None: S * C. An image's
        values depend on no other image, so images of several supports may stand together.
    """
    S, P, d = z.shape
    end = z.new_zeros(d) if b is None else b
    E = torch.cat([z / P, end.expand(S, 1, d)], 1)
    R = (E @ E.transpose(1, 2)).double()  # [S, P + 1, P + 1]
    T = (E @ functional.normalize(w_hat, dim=1).T).double()  # [S, P + 1, C]
    y = targets.double()
    parts = y.numel() if terms is None else terms.double()[:, None]
    rho = R.new_ones(S, P)
    first, second, mean = torch.zeros_like(rho), torch.zeros_like(rho), torch.zeros_like(rho)
    one = R.new_ones(S, 1)
    for t in range(1, steps + 1):
        if t > 1:
            rho = stretched(rho)
        r = torch.cat([rho, one], 1)
        Rr = (R @ r[:, :, None])[:, :, 0]
        length = (r * Rr).sum(1, keepdim=True).clamp_min(EPS**2).sqrt()  # |f_i|
        cos = (r[:, None] @ T)[:, 0] / length
        distance = (2 - 2 * cos).clamp_min(EPS**2).sqrt()
        cosine = form == "cosine"
        logits = lam * cos if cosine else lam * (1 - distance)
        slope = torch.full_like(cos, lam) if cosine else lam / distance  # dlogits / dcos
        G = (logits.sigmoid() - y) * slope / parts  # dL / dcos
        g = (T @ G[:, :, None])[:, :, 0] - Rr * ((G * cos).sum(1, keepdim=True) / length)
        g = g[:, :P] / length  # dL / drho
        change = (g * rho).abs()
        memory = min(1 - 1 / (t + 1), LONGEST_MEMORY) if t > 1 else 0.0
        mean = memory * mean + (1 - memory) * change
        first = BETAS[0] * first + (1 - BETAS[0]) * g
        second = BETAS[1] * second + (1 - BETAS[1]) * g**2
        scale = (second / (1 - BETAS[1] ** t)).sqrt() + EPS
        rho = rho - lr * first / (1 - BETAS[0] ** t) / scale
    return mean


def stretched(rho: Tensor) -> Tensor:
    """Each row of coefficients [S, P] stretched to [0, 1], its zeros made its second smallest.

    A row of equal values becomes ones.
    """
    low, high = rho.aminmax(dim=1, keepdim=True)
    rho = torch.where(high > low, (rho - low) / (high - low), 1.0)
    if rho.shape[1] < 2:
        return rho
    second = rho.kthvalue(2, dim=1, keepdim=True).values
    return torch.where(rho > 0, rho, second)


def kept_places(change: Tensor, share: float | None) -> Tensor:
    """bool [S, P] from measurements [S, P]: those above the code's fixed threshold, or a share.

    An image none of whose places is above the threshold keeps all; with a share equal measurements
    are kept together, and at least one place is kept.
    """
    if share is None:
        kept = (SHARPNESS * change).sigmoid() >= CERTAINTY
        return kept | ~kept.any(1, keepdim=True)
    count = max(1, round(share * change.shape[1]))
    return change >= change.topk(count, dim=1).values[:, -1:]


class CrossInteraction(WordGuidedAttention):
    """Word-guided attention whose places are gated by channel, and filtered, for each label.

    With x a place after projection and norm, and q_c the normed projection of a label's embedding:

        x_c = x + x * sigmoid(C_2 (C_1 (x + q_c)))              channel attention
        a_c = the heads' attention of q_c over the x_c, then the mlp
        y_c = mean over x_c of relu(norm(relu(norm(x_c K_c)) M_c)),  (K_c, M_c) = D q_c
        p_c = norm(a_c + y_c)                                   dynamic convolution

    A mean and a softmax over places run over the kept places of all images that carry c.
    """

    params: MmciParams

    def __init__(
        self, params: WordGuidedParams, n: int, d_w: int, generator: Generator | None = None
    ) -> None:
        generator = generator if generator is not None else torch.Generator().manual_seed(0)
        super().__init__(params, n, d_w, generator)
        self.absorbed = False  # a gate between projection and attention forbids it
        p = self.params

        def layer(d_out: int, d_in: int) -> tuple[nn.Parameter, nn.Parameter]:
            A = nn.init.xavier_uniform_(torch.empty(d_out, d_in), generator=generator)
            return nn.Parameter(A), nn.Parameter(torch.randn(d_out, generator=generator) * BIAS_STD)

        if p.channel_attention:
            inner = math.ceil(p.d_j / 2)
            self.C_1, self.b_C1 = layer(inner, p.d_j)
            self.C_2, self.b_C2 = layer(p.d_j, inner)
        if p.dynamic_convolution:
            self.D, self.b_D = layer(2 * p.d_j * p.d_conv, p.d_j)
            self.norm_filter, self.norm_filtered = nn.LayerNorm(p.d_conv), nn.LayerNorm(p.d_j)
            self.norm_sum = nn.LayerNorm(p.d_j)

    def prototypes(
        self,
        f_loc: Tensor | None,
        f_glo: Tensor,
        targets: Tensor,
        w: Tensor,
        generator: Generator | None = None,
        kept: Tensor | None = None,
    ) -> Tensor:
        """The prototypes p_c, [C, d_j], from the places `kept` (bool [S, P]; None: all).

        See `WordGuidedAttention.prototypes` for the rest.
        """
        w_hat = self.w_hat(w)
        pairs = Pairs.of(targets, f_glo.dtype)
        places, a = self._places(f_loc, f_glo, w_hat, pairs, generator)
        use = places.new_ones(places.shape[:2])
        if kept is not None:
            chosen = pairs.of_image(kept)
            use = chosen.to(places.dtype)
            a = a.masked_fill(~chosen[:, None], -torch.inf)
        pooled = pairs.sum_by_label((joint_weights(a, pairs) @ places).flatten(1))
        p = self.mlp(self.values(pooled.view(len(w), -1, places.shape[2])), generator)
        if self.params.dynamic_convolution:
            y = self._filtered(places, w_hat, pairs)
            total = pairs.sum_by_label((use[:, None] @ y)[:, 0])
            count = pairs.sum_by_label(use.sum(1, keepdim=True)).clamp_min(1)
            p = self.norm_sum(p + dropout(total / count, self.params.dropout, generator))
        carried = (targets > 0).any(0)
        return torch.where(carried[:, None], p, w_hat)

    def kept(
        self, f_loc: Tensor, targets: Tensor, w: Tensor, terms: Tensor | None = None
    ) -> Tensor:
        """bool [S, P], the places of the support images that are kept; see `loss_change`."""
        p = self.params
        change = loss_change(
            f_loc.flatten(2).transpose(1, 2) @ self.A_visual.T,
            self.b_visual,
            self.w_hat(w),
            targets,
            lam=p.lam,
            form=p.score,
            steps=p.lcm_steps,
            lr=p.lcm_lr,
            terms=terms,
        )
        return kept_places(change, p.lcm_keep)

    def location_scores(self, f_loc: Tensor, f_glo: Tensor, w: Tensor) -> Tensor:
        """Scores before the softmax, [m, heads, P], of all places, kept or not, for one label."""
        w_hat = self.w_hat(w[None])
        pairs = Pairs.of(f_glo.new_ones(len(f_glo), 1), f_glo.dtype)
        a = self._places(f_loc, f_glo, w_hat, pairs, None)[1]
        return a + self.rows(w_hat)[1][0, :, None]

    def _places(
        self,
        f_loc: Tensor | None,
        f_glo: Tensor,
        w_hat: Tensor,
        pairs: Pairs,
        generator: Generator | None,
    ) -> tuple[Tensor, Tensor]:
        """For each pair (image, label): its places x_c [N, P, d_j], their scores [N, n_a, P]."""
        x = self.maps(f_loc, f_glo, generator).transpose(1, 2)  # [S, P, d_j]
        places = pairs.of_image(x)
        if self.params.channel_attention:
            # No activation stands between the two layers, so image and label add up.
            of_image = functional.linear(functional.linear(x, self.C_1, self.b_C1), self.C_2)
            of_label = functional.linear(self._query(w_hat) @ self.C_1.T, self.C_2, self.b_C2)
            gate = pairs.of_image(of_image) + pairs.of_label(of_label)[:, None]
            places = places + places * gate.sigmoid()
        rows = pairs.of_label(self.rows(w_hat)[0].flatten(1))
        rows = rows.view(len(rows), self.params.n_a, self.params.d_j)
        return places, rows @ places.transpose(1, 2)

    def _filtered(self, places: Tensor, w_hat: Tensor, pairs: Pairs) -> Tensor:
        """Places of pairs through the two filters of their labels: [N, P, d_j] to [N, P, d_j]."""
        d, inner = self.params.d_j, self.params.d_conv
        kernels = pairs.of_label(functional.linear(self._query(w_hat), self.D, self.b_D))
        K, M = kernels.tensor_split(2, dim=1)
        x = functional.relu(self.norm_filter(places @ K.view(len(K), d, inner)))
        return functional.relu(self.norm_filtered(x @ M.view(len(M), inner, d)))

    def _query(self, w_hat: Tensor) -> Tensor:
        return self.norm_attention(w_hat) if self.params.layer_norm else w_hat


class MMCI(WordGuidedAttentionMethod):
    """Word-guided attention on selected places, with two more ways for word and image to meet.

    Yan et al., "Modelling Multi-modal Cross-interaction for Multi-label Few-shot Image
    Classification Based on Local Feature Selection", ACM TOMM (arXiv 2412.13732): the successor of
    `word-guided-attention` by its authors. Prototypes start as projected label embeddings; a
    loss-change measurement (`loss_change`) with these selects places of the support images; the
    prototypes are then made of the kept places by attention of the word with channel-wise gates
    and by a convolution whose kernels the word makes (`CrossInteraction`). Training minimises
    L_cmw + gamma L_query on base episodes and keeps the weights that are best on val.

    What we decided. The paper's code (TOMM-FSIC) was read for facts; it trains without the
    measurement, without channel attention and without the convolution, whose class is never used
    and calls one that is not released. The preset `released` leaves the last two out. Selection
    is done at test time alone, as there, on coefficients alone: the code's loop would tune all
    weights, which the paper rules out. The number of its steps is not released: 200, one for each
    of its epochs. The filters are the 1 x 1 ones of Sparse R-CNN, whose settings the class has; a
    mean over places takes the place of a layer over all of them, since their number varies, and
    attention between labels is left out. An image without a kept place keeps all.
    """

    name: ClassVar[str] = "mmci"
    Params: ClassVar[type[MethodParams]] = MmciParams
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "released": {
            "channel_attention": False,
            "dynamic_convolution": False,
            "lr": PRESETS["authors-tomm"]["lr"],
            "episodes_per_step": PRESETS["authors-tomm"]["episodes_per_step"],
        }
    }
    check_settings: ClassVar[dict[str, str]] = {
        **WordGuidedAttentionMethod.check_settings,
        "lcm_steps": "5",
    }
    adapts_by_gradient: ClassVar[bool] = True
    printed: ClassVar[str] = "MMCI"
    citation: ClassVar[str] = (
        "Yan et al., Modelling Multi-modal Cross-interaction for Multi-label Few-shot Image "
        "Classification Based on Local Feature Selection, ACM TOMM, arXiv:2412.13732"
    )
    bibtex: ClassVar[str] = """\
@article{yan2024modelling,
  title = {Modelling Multi-modal Cross-interaction for Multi-label Few-shot Image Classification
    Based on Local Feature Selection},
  author = {Yan, Kun and Bouraoui, Zied and Wei, Fangyun and Xu, Chang and Wang, Ping and
    Jameel, Shoaib and Schockaert, Steven},
  journal = {ACM Transactions on Multimedia Computing, Communications, and Applications},
  year = {2024}, note = {arXiv:2412.13732}
}"""
    network: ClassVar[type[WordGuidedAttention]] = CrossInteraction

    params: MmciParams

    def __init__(self, params: MethodParams | None = None) -> None:
        super().__init__(params)
        # One step measures and tunes nothing; more tune the coefficients.
        tunes = self.params.lcm_steps > 1 or self.params.fine_tune_epochs > 0
        self.__dict__["adapts_by_gradient"] = tunes

    def adapt(self, support: Support) -> Predictor:
        """Prototypes of the support's labels from the places that the measurement keeps."""
        return self._measured(support, None)

    def adapt_all(self, supports: Sequence[Support]) -> list[Predictor]:
        """As `adapt` for each; an image that several episodes drew is measured once."""
        tuned = self.params.fine_tune_epochs > 0
        if not supports or tuned or not self.params.lcm_steps or not shares_labels(supports):
            return [self.adapt(support) for support in supports]
        # What the measurement of an image depends on, and a support image that is an example of it.
        examples: dict[tuple[object, ...], tuple[str, Tensor, int]] = {}
        keys = []
        for support in supports:
            rows, size = support.targets.tolist(), len(support.images)
            of_support = [(i, size, *y) for i, y in zip(support.images.ids, rows, strict=True)]
            for key, y in zip(of_support, support.targets, strict=True):
                examples.setdefault(key, (str(key[0]), y, y.numel() * size))
            keys.append(of_support)
        first, measured = supports[0], list(examples.values())
        model = self._network(first)
        embeddings = label_embeddings(self.name, first.embeddings)
        kept: dict[tuple[object, ...], Tensor] = {}
        for start in range(0, len(measured), IMAGES_AT_ONCE):
            ids, y, terms = zip(*measured[start : start + IMAGES_AT_ONCE], strict=True)
            with torch.no_grad():
                f_loc = Images(ids, first.images.source).local()
                of_ids = model.kept(f_loc, torch.stack(y), embeddings, f_loc.new_tensor(terms))
            kept.update(zip(list(examples)[start : start + IMAGES_AT_ONCE], of_ids, strict=True))
        return [
            self._measured(support, torch.stack([kept[key] for key in of_support]))
            for support, of_support in zip(supports, keys, strict=True)
        ]

    def _measured(self, support: Support, kept: Tensor | None) -> Predictor:
        """The support's predictor; `kept`, in the order of its images, where it is known."""
        model = self._network(support)
        embeddings = label_embeddings(self.name, support.embeddings)
        if self.params.fine_tune_epochs:
            model = fine_tuned(model, support, embeddings)
        with torch.no_grad():
            order = by_label_count(support.targets)  # Pairs is fastest in this one
            targets = support.targets[order]
            f_loc, f_glo = features(support.images.subset(order), True)
            assert f_loc is not None
            if kept is not None:
                kept = kept[order]
            elif self.params.lcm_steps:
                kept = model.kept(f_loc, targets, embeddings)
            prototypes = model.prototypes(f_loc, f_glo, targets, embeddings, kept=kept)
        return WordGuidedPredictor(model, prototypes)

    def _network(self, support: Support) -> CrossInteraction:
        model = self._ready(support.images.source)
        assert isinstance(model, CrossInteraction)
        return model

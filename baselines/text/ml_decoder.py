"""The `ml-decoder` row: one cross-attention layer whose queries are the labels' embeddings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from mlfsic_baselines.classifier import training_key
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    logsigmoid,
    normalize,
    scaled_dot_product_attention,
)
from torch.nn.utils import skip_init

from mlfsic_bench.features.sources import FeatureSource
from mlfsic_bench.methods.contract import (
    FitContext,
    Images,
    Method,
    MethodParams,
    Predictor,
    Support,
    TrainingPart,
)
from mlfsic_bench.methods.refusals import label_embeddings, loading_state, untrained
from mlfsic_bench.methods.scoring import dropout
from mlfsic_bench.methods.word_guided.batched import shares_labels
from mlfsic_bench.randomness import stream_seed, torch_generator
from mlfsic_bench.training.adam import Adam
from mlfsic_bench.training.loop import WarmupCosine, epoch_batches, train_episodic, val_macro_ap

CHUNK = 64  # images whose features are computed at a time when no gradients are wanted
Features = Callable[[Images], Tensor]
GAMMA, MARGIN = 4, 0.05  # of the asymmetric loss, for absent labels

# what the weights after training on the base part do not depend on, without a val part
_LATER = {"tune_epochs", "head_lr"}


class MLDecoderParams(MethodParams):
    """Parameters of MLDecoder; the sizes are smaller than the original's (preset `paper`)."""

    d: int = Field(256, ge=1, description="size of queries and of places after projection")
    heads: int = Field(8, ge=1, description="attention heads; d is a multiple of it")
    d_ff: int = Field(512, ge=1, description="hidden size of the feed-forward layer")
    dropout: float = Field(0.3, ge=0, lt=1, description="dropout in training")
    loss: Literal["bce", "asl"] = Field("bce", description="BCE, or the original's asymmetric loss")
    epochs: int = Field(10, ge=1, description="epochs of training on the base part")
    lr: float = Field(1e-3, gt=0, description="highest learning rate on the base part")
    batch: int = Field(32, ge=1, description="images in a step on the base part")
    select_every: int = Field(1, ge=1, description="epochs between two evaluations on val")
    tune_epochs: int = Field(
        40, ge=0, description="full-batch steps on each support set; 0: label embeddings alone"
    )
    head_lr: float = Field(1e-2, gt=0, description="learning rate of these steps")

    @model_validator(mode="after")
    def _consistent(self) -> MLDecoderParams:
        if self.d % self.heads:
            raise ValueError(f"d={self.d} is no multiple of heads={self.heads}")
        if self.tune_epochs == 0:
            self.without_effect("tune_epochs=0", "head_lr")
        return self


class Decoder(nn.Module):
    """The layer; c channels, d_w dimensions of label embeddings, T = h w places, L labels.

    m_t = relu(P f_t)                             [T, d]   places
    q_l = norm(relu(A e_l))                       [L, d]   queries, e_l of unit length
    x_l = norm(q_l + O attention(Q q_l; K m, V m))         over all places, in `heads` heads
    h_l = norm(x_l + W_2 relu(W_1 x_l))           [L, d]   what `forward` returns
    z_l = w . h_l + b                                      one w and b for all labels

    Every matrix has a bias, every norm is a layer norm. Weights are drawn from `generator`.
    """

    def __init__(
        self, c: int, d_w: int, p: MLDecoderParams, generator: Generator | None = None
    ) -> None:
        super().__init__()
        self.heads, self.p_drop = p.heads, p.dropout
        d = p.d
        self.P, self.A = _linear(c, d), _linear(d_w, d)
        self.Q, self.K, self.V, self.O = (_linear(d, d) for _ in range(4))
        self.W_1, self.W_2 = _linear(d, p.d_ff), _linear(p.d_ff, d)
        self.norm_q, self.norm_x, self.norm_h = (nn.LayerNorm(d) for _ in range(3))
        self.output = _linear(d, 1)
        generator = generator if generator is not None else torch.Generator().manual_seed(0)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                bound = math.sqrt(6 / (layer.in_features + layer.out_features))
                u = torch.rand(layer.weight.shape, generator=generator)
                layer.weight.data.copy_((2 * u - 1) * bound)
                layer.bias.data.zero_()

    def forward(self, f_loc: Tensor, embeddings: Tensor, mask: Generator | None = None) -> Tensor:
        """h, float [n, L, d], of maps [n, c, h, w] and embeddings [L, d_w]; dropout by `mask`."""
        m = self.P(f_loc.flatten(2).transpose(1, 2)).relu()
        q = self.norm_q(self.A(normalize(embeddings, dim=1)).relu())
        n, d = len(m), q.shape[1]
        asked = self._split(self.Q(q)[None]).expand(n, -1, -1, -1)
        found = scaled_dot_product_attention(asked, self._split(self.K(m)), self._split(self.V(m)))
        x = self.O(found.transpose(1, 2).reshape(n, -1, d))
        x = self.norm_x(q + dropout(x, self.p_drop, mask))
        y = self.W_2(dropout(self.W_1(x).relu(), self.p_drop, mask))
        h: Tensor = self.norm_h(x + dropout(y, self.p_drop, mask))
        return h

    def logits(self, f_loc: Tensor, embeddings: Tensor, mask: Generator | None = None) -> Tensor:
        """z, float [n, L]."""
        z: Tensor = self.output(self(f_loc, embeddings, mask))[..., 0]
        return z

    def _split(self, x: Tensor) -> Tensor:
        """[n, k, d] as [n, heads, k, d / heads]."""
        return x.view(len(x), x.shape[1], self.heads, -1).transpose(1, 2)


def asymmetric_loss(z: Tensor, y: Tensor) -> Tensor:
    """Mean over images and labels of the asymmetric loss (Ridnik et al., ICCV 2021).

    -log p where y is 1; -p_m^4 log(1 - p_m), p_m = max(p - 0.05, 0), where y is 0; p = sigmoid(z).
    No gradient runs through the factor p_m^4, as in the original.
    """
    p_m = (z.sigmoid() - MARGIN).clamp(min=0)
    absent = p_m.detach() ** GAMMA * (1 - p_m).log()
    return -(y * logsigmoid(z) + (1 - y) * absent).mean()


class MLDecoder(Method):
    """Ridnik, Sharir, Ben-Cohen, Ben-Baruch and Noy, ML-Decoder, WACV 2023, with word queries.

    (ML-Decoder: Scalable and Versatile Classification Head.) The embedding of a label, projected,
    is the query of one decoder layer: cross-attention over the places of the image, no
    self-attention between queries, a feed-forward layer, and one output row that all labels
    share (`Decoder` has the equations). So it scores labels that it was not trained on: the
    original's zero-shot form. Trained on base images with the base labels, with a trainable
    backbone too.

    At an episode. The h_l of support images are fixed, and each label gets its own copy (w_l, b_l)
    of the output row, which full-batch steps of Adam on the BCE of the support change:

        score(x, l) = w_l . h_l(x) + b_l         w_l, b_l start at the shared w, b

    What we decided. The tuning is ours to add: the original knows no support. `tune_epochs=0` is
    the original's zero-shot form, which looks at no support image. Only output rows are tuned,
    since one image a label says little about attention; the queries keep what base images taught.
    Label embeddings have unit length. Left out: dropout of queries and attention weights, the
    moving average of weights, image augmentation, and the augmentation of queries, whose details
    are not in the public code that we read. Rate: a fifth of the steps rising, then a cosine to 0
    (the original's one cycle). The weights with the best macro-AP on the val episodes, tuning
    included, are kept; without a val part the last.
    """

    name = "ml-decoder"
    Params = MLDecoderParams
    presets = {  # noqa: RUF012
        "paper": {
            "d": 768,
            "d_ff": 2048,
            "dropout": 0.1,
            "loss": "asl",
            "epochs": 40,
            "lr": 1e-4,
            "batch": 56,
        },
        "zero-shot": {"tune_epochs": 0},
    }
    check_settings = {  # noqa: RUF012
        "d": "16",
        "heads": "2",
        "d_ff": "16",
        "epochs": "2",
        "select_every": "1",
        "tune_epochs": "3",
    }
    needs_embeddings = True
    trains = True
    adapts_by_gradient = True
    printed = "ML-Decoder"
    citation = (
        "Ridnik et al., ML-Decoder: Scalable and Versatile Classification Head, WACV 2023 "
        "(zero-shot form with word queries; output rows tuned on the support)"
    )
    bibtex = """\
@inproceedings{ridnik2023mldecoder,
  title = {{ML-Decoder}: Scalable and Versatile Classification Head},
  author = {Ridnik, Tal and Sharir, Gilad and Ben-Cohen, Avi and Ben-Baruch, Emanuel and
    Noy, Asaf},
  booktitle = {Proceedings of the IEEE/CVF Winter Conference on Applications of Computer
    Vision (WACV)}, year = {2023}
}"""

    params: MLDecoderParams

    def __init__(self, params: MethodParams | None = None) -> None:
        super().__init__(params)
        self.decoder: Decoder | None = None
        if self.params.tune_epochs == 0:  # the leaderboard track depends on this parameter
            self.__dict__["adapts_by_gradient"] = False

    # -- base part ------------------------------------------------------------------------------

    def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
        """Train on the base images; keep the weights with the best macro-AP on val."""
        p, source, n = self.params, base.images.source, len(base.images)
        embeddings = label_embeddings(self.name, base.embeddings)
        weights = torch_generator("ml-decoder/weights", context.seed)
        decoder = Decoder(source.channels, embeddings.shape[1], p, weights).to(source.device)
        self.decoder = decoder
        loss_of = binary_cross_entropy_with_logits if p.loss == "bce" else asymmetric_loss
        per_epoch = math.ceil(n / p.batch)
        batches: dict[int, list[list[int]]] = {}  # those of the current epoch

        def loss(i: int) -> Tensor:
            epoch, step = divmod(i, per_epoch)
            if epoch not in batches:
                batches.clear()
                seed = stream_seed("ml-decoder", context.seed, epoch)
                batches[epoch] = epoch_batches(n, p.batch, seed)
            rows = batches[epoch][step]
            source.train(True)
            mask = torch_generator("ml-decoder/dropout", context.seed, i)
            f_loc = base.images.subset(rows).local()
            return loss_of(decoder.logits(f_loc, embeddings, mask), base.targets[rows])

        def get_state() -> dict[str, Tensor]:
            return self.state() | {f"source.{k}": v for k, v in source.state().items()}

        def set_state(state: dict[str, Tensor]) -> None:
            self.load_state({k: v for k, v in state.items() if not k.startswith("source.")})
            source.load_state({k[7:]: v for k, v in state.items() if k.startswith("source.")})

        def evaluate() -> float:
            assert val is not None
            source.train(False)
            # the val labels are the same in all episodes, so each image is looked at once
            of_all = self._features(val.images.source, val.embeddings, {})
            return val_macro_ap(lambda found: [self._tuned(s, of_all, of_all) for s in found], val)

        steps = p.epochs * per_epoch
        trained = train_episodic(
            parameters=[*decoder.parameters(), *source.trainable_parameters()],
            loss=loss,
            learning_rate=WarmupCosine(
                base=p.lr, steps=steps, warmup=steps // 5, start=p.lr / 25, final=0.0
            ),
            steps=steps,
            get_state=get_state,
            set_state=set_state,
            evaluate=None if val is None else evaluate,
            evaluate_every=p.select_every * per_epoch,
            row_every=per_epoch,
            folder=context.folder,
            key=self._key(base, val, context.seed),
            log=context.log,
        )
        source.train(False)
        if trained.best is not None:
            set_state(trained.best)
            context.log(f"kept step {trained.best_step}: the best macro-AP on val")

    def state(self) -> dict[str, Tensor]:
        """The decoder; a trained backbone is the source's."""
        if self.decoder is None:
            return {}
        return {name: value.detach().clone() for name, value in self.decoder.state_dict().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        with loading_state(self.name):
            if self.decoder is None:
                c, d_w = state["P.weight"].shape[1], state["A.weight"].shape[1]
                self.decoder = Decoder(c, d_w, self.params)
            self.decoder.load_state_dict(state)

    # -- episodes -------------------------------------------------------------------------------

    def adapt(self, support: Support) -> Predictor:
        """Tuned output rows; scores float32 [q, L]."""
        features = self._features(support.images.source, support.embeddings)
        return self._tuned(support, features, features)

    def adapt_all(self, supports: Sequence[Support]) -> list[Predictor]:
        """As `adapt` for each; an image that several supports hold is looked at once."""
        if not supports or not shares_labels(supports):
            return [self.adapt(support) for support in supports]
        source, embeddings = supports[0].images.source, supports[0].embeddings
        of_query = self._features(source, embeddings)
        of_support = self._features(source, embeddings, {})
        return [self._tuned(support, of_support, of_query) for support in supports]

    def _features(
        self,
        source: FeatureSource,
        embeddings: Tensor | None,
        known: dict[str, Tensor] | None = None,
    ) -> Features:
        """From images to their h for the labels of these embeddings, float [n, L, d].

        known: by image id, what was computed in earlier calls; it grows. None: nothing is kept.
        """
        decoder, words = self._ready(source), label_embeddings(self.name, embeddings)

        @torch.no_grad()
        def features(images: Images) -> Tensor:
            h = {} if known is None else known
            new = [image for image in dict.fromkeys(images.ids) if image not in h]
            for start in range(0, len(new), CHUNK):
                ids = new[start : start + CHUNK]
                h.update(zip(ids, decoder(source.local(ids), words), strict=True))
            return torch.stack([h[image] for image in images.ids])

        return features

    def _tuned(self, support: Support, of_support: Features, of_query: Features) -> Predictor:
        p, L = self.params, support.targets.shape[1]
        output = self._ready(support.images.source).output
        W = output.weight.detach().repeat(L, 1)
        b = output.bias.detach().repeat(L)
        if p.tune_epochs:
            h = of_support(support.images)
            tune_rows(h, support.targets, W, b, p.tune_epochs, p.head_lr)

        def predictor(query: Images) -> Tensor:
            return torch.einsum("nld,ld->nl", of_query(query), W) + b

        return predictor

    def _ready(self, source: FeatureSource) -> Decoder:
        if self.decoder is None:
            raise untrained(self.name)
        return self.decoder.to(source.device)

    def _key(self, base: TrainingPart, val: TrainingPart | None, seed: int) -> str:
        later = _LATER if val is None else set()
        params = self.params.model_dump(mode="json", exclude=later)
        key: str = training_key(self.name, params, base, val, seed)
        return key


@torch.no_grad()
def tune_rows(h: Tensor, Y: Tensor, W: Tensor, b: Tensor, epochs: int, lr: float) -> None:
    """Full-batch Adam on the mean BCE of the support, in place on W [L, d] and b [L].

    h: float [s, L, d], fixed. Y: float [s, L] of 0 and 1. The gradient is written by hand, as in
    `linear.tune_heads`.
    """
    adam = Adam([W, b], lr=lr)
    for _ in range(epochs):
        r = ((torch.einsum("nld,ld->nl", h, W) + b).sigmoid() - Y) / Y.numel()
        W.grad, b.grad = torch.einsum("nl,nld->ld", r, h), r.sum(0)
        adam.step()
    W.grad = b.grad = None


def _linear(d_in: int, d_out: int) -> nn.Linear:
    """A layer whose weights are still to be drawn: torch would draw them from global state."""
    layer: nn.Linear = skip_init(nn.Linear, d_in, d_out)  # type: ignore[no-untyped-call]
    return layer

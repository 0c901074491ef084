"""The `linear` row: a classifier of base labels, with a new head fine-tuned on each support."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from mlfsic_baselines.classifier import selection_key, train_classifier, with_one
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.sources import FeatureSource
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.methods.contract import (
    FitContext,
    Images,
    Method,
    MethodParams,
    Predictor,
    Support,
    TrainingPart,
)
from mlfsic_bench.randomness import splitmix64_array, stream_seed
from mlfsic_bench.training.adam import Adam
from mlfsic_bench.training.loop import val_macro_ap
from mlfsic_bench.works import YAN_2022

CHUNK = 10  # episodes fine-tuned together: their weights and moments then stay in the cache


class LinearParams(MethodParams):
    """Parameters of LinearFineTuning."""

    epochs: int = Field(200, ge=0, description="epochs of training on the base part")
    lr: float = Field(1e-3, gt=0, description="learning rate on the base part, all weights")
    batch: int = Field(64, ge=1, description="images in a step on the base part")
    select_every: int | None = Field(
        None,
        ge=1,
        description="epochs on the base part between evaluations on val; none: keep the last",
    )
    tune: Literal["head", "all"] = Field(
        "head", description="what is fine-tuned per episode; all needs a trainable backbone"
    )
    tune_epochs: int = Field(40, ge=0, description="full-batch steps on each support set")
    head_lr: float = Field(1e-3, gt=0, description="learning rate of the head, per episode")
    backbone_lr: float = Field(1e-4, gt=0, description="that of the backbone, with tune=all")
    head_init: Literal["fresh", "zero", "base_mean"] = Field(
        "fresh",
        description="new head: random as torch's Linear, zeros, or the mean row of the base head",
    )

    @model_validator(mode="after")
    def _consistent(self) -> LinearParams:
        if self.tune == "head":
            self.without_effect("tune=head", "backbone_lr")
        if self.tune_epochs == 0:
            self.without_effect("tune_epochs=0", "head_lr", "backbone_lr")
        return self


class LinearFineTuning(Method):
    """Yan, Zhang, Hou, Wang, Bouraoui, Jameel and Schockaert, AAAI 2022: its ResNet baselines.

    (Inferring Prototypes for Multi-Label Few-Shot Image Classification with Word Vector Guided
    Attention, Table 1.) A linear head on pooled features is trained on the base labels with the
    backbone; for each episode a new head for the L novel labels is fine-tuned for 40 epochs on the
    whole support set at once. The default is a frozen backbone of which the head alone is tuned;
    the paper's row `ResNet-50`, whose backbone is trained too, needs
    `--preset paper --features end-to-end --backbone resnet50`.

        z = f W^T + b        f [n, c] pooled features, W [L, c], b [L]
        loss = mean over images and labels of BCE(sigmoid(z), y);   score(x, c) = z_c

    Base training: Adam, 1e-3, batches of 64, 200 epochs and no augmentation, as in the authors'
    TOMM code (their MMCI code shifts, flips and changes the contrast); the last weights, or with
    `select_every` those with the best few-shot macro-AP on val. Fine-tuning: Adam.

    What base training changes, honestly. The new head does not come from the base head (the
    authors drop it), so what is handed over is the backbone. With a frozen backbone nothing is
    handed over, and base training is skipped, except with `head_init=base_mean`: the new rows and
    biases then start from the mean row and bias of the base head. That option is not the
    paper's. With a trainable backbone its weights are trained here and kept by the feature source.

    What we decided. `tune=head` (default) leaves the backbone alone in an episode; `tune=all`
    (preset `paper`) tunes it too, at 1e-4, with batch normalisation in evaluation mode (a support
    set is too small for its statistics; the authors' code keeps it in training mode), and restores
    it after scoring. The random start of the
    head is keyed by (episode's seed, label name): a label starts alike wherever it stands.
    """

    name = "linear"
    Params = LinearParams
    presets = {"paper": {"epochs": 200, "tune": "all", "tune_epochs": 40}}  # noqa: RUF012
    trains = True
    adapts_by_gradient = True
    printed = "Fine-tuning"
    citation = "Yan et al., AAAI 2022 (baseline ResNet-50/101 of Table 1)"
    bibtex = YAN_2022
    params: LinearParams

    def __init__(self, params: MethodParams | None = None) -> None:
        super().__init__(params)
        self._mean: Tensor | None = None  # [c + 1]: mean row of the base head and mean bias

    # -- base part ------------------------------------------------------------------------------

    def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
        """Train head and backbone on the base part; skipped where nothing could be handed over."""
        source = base.images.source
        self._refuse_frozen(source)
        if not source.trainable_parameters() and self.params.head_init != "base_mean":
            context.log("linear: frozen backbone and a new head per episode: no base training")
            return
        start = _fresh_rows(base.labels, source.dim, context.seed).to(base.targets.device)
        p = self.params

        def evaluate(W: Tensor) -> float:
            assert val is not None
            self._take_mean(W)
            return val_macro_ap(self.adapt_all, val)

        chosen = selection_key(val, p.select_every)
        W = train_classifier(
            base,
            context,
            W=start,
            epochs=p.epochs,
            lr=p.lr,
            batch=p.batch,
            evaluate=None if val is None else evaluate,
            select_every=p.select_every,
            selection=hash_json([chosen, p.model_dump(mode="json")]) if chosen else "",
        )
        self._take_mean(W)

    def _take_mean(self, W: Tensor) -> None:
        if self.params.head_init == "base_mean":
            self._mean = W.mean(0)

    def state(self) -> dict[str, Tensor]:
        """`mean` [c + 1] with `head_init=base_mean`; otherwise nothing (see the class)."""
        return {} if self._mean is None else {"mean": self._mean}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self._mean = state.get("mean")

    # -- episodes -------------------------------------------------------------------------------

    def adapt(self, support: Support) -> Predictor:
        """A head for one episode; scores float32 [q, L]."""
        return self.adapt_all([support])[0]

    def adapt_all(self, supports: Sequence[Support]) -> list[Predictor]:
        """Heads for many episodes: those of equal shape are tuned together, in chunks."""
        if self.params.tune == "all":
            return [self._whole(support) for support in supports]
        groups: dict[torch.Size, list[int]] = defaultdict(list)
        for i, support in enumerate(supports):
            groups[support.targets.shape].append(i)
        predictors: dict[int, Predictor] = {}
        for members in groups.values():
            for start in range(0, len(members), CHUNK):
                chunk = members[start : start + CHUNK]
                X = torch.stack([with_one(supports[i].images.pooled()) for i in chunk])
                Y = torch.stack([supports[i].targets for i in chunk])
                W = torch.stack([self._start(supports[i], X.shape[2] - 1) for i in chunk])
                tuned = tune_heads(X, Y, W, self.params.tune_epochs, self.params.head_lr)
                predictors.update(zip(chunk, map(_head, tuned.unbind()), strict=True))
        return [predictors[i] for i in range(len(supports))]

    def _start(self, support: Support, c: int) -> Tensor:
        """float32 [L, c + 1]: the head an episode starts from."""
        L = len(support.labels)
        if self.params.head_init == "fresh":
            return _fresh_rows(support.labels, c, support.seed).to(support.targets.device)
        if self.params.head_init == "zero":
            return support.targets.new_zeros(L, c + 1)
        if self._mean is None:
            raise BenchError(
                "linear has no base head to start from",
                expected="fit or load_state before adapt, with head_init=base_mean",
                found="a method that has seen no base part",
                remedy="fit the method first, or choose head_init=fresh",
            )
        return self._mean.to(support.targets.device).repeat(L, 1)

    def _whole(self, support: Support) -> Predictor:
        """A predictor that fine-tunes backbone and head when called, and restores the backbone.

        It tunes when called because the tuned backbones of 200 episodes would not fit in memory.
        """
        source = support.images.source
        self._refuse_frozen(source)
        start = self._start(support, source.dim)

        def predictor(query: Images) -> Tensor:
            kept = {key: value.clone() for key, value in source.state().items()}
            try:
                W = self._tune_all(support, source, start.clone())
                with torch.no_grad():
                    scores: Tensor = with_one(query.pooled()) @ W.T
                return scores
            finally:
                source.load_state(kept)

        return predictor

    def _refuse_frozen(self, source: FeatureSource) -> None:
        if self.params.tune == "all" and not source.trainable_parameters():
            raise BenchError(
                "linear with tune=all needs a backbone that can be trained",
                expected="live features of a trainable backbone",
                found="frozen features",
                remedy="use tune=head, or run with --features end-to-end",
            )

    def _tune_all(self, support: Support, source: FeatureSource, W: Tensor) -> Tensor:
        source.train(False)
        W.requires_grad_()
        groups = [
            {"params": [W], "lr": self.params.head_lr},
            {"params": source.trainable_parameters(), "lr": self.params.backbone_lr},
        ]
        adam = Adam(groups)
        for _ in range(self.params.tune_epochs):
            with torch.enable_grad():
                loss = bce(with_one(support.images.pooled()) @ W.T, support.targets)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
        return W.detach()


@torch.no_grad()
def tune_heads(X: Tensor, Y: Tensor, W: Tensor, epochs: int, lr: float) -> Tensor:
    """Full-batch Adam on E linear heads at once, each with its own images.

    Parameters
    ----------
    X: float [E, s, c + 1], support features with a last column of ones. Y: float [E, s, L] of 0
        and 1. W: float [E, L, c + 1], the heads to start from, the bias in the last column.

    Returns the heads after `epochs` steps, float [E, L, c + 1]. The gradient of the mean BCE of an
    episode, (sigmoid(z) - y)^T f / (s L), is written by hand: autograd would build a graph for each
    step. Adam works on each number by itself, so all episodes share one optimiser.
    """
    c1 = X.shape[2]
    # rows of whole cache lines make the products 1.3 times as fast; zero columns stay zero
    X, W = (torch.nn.functional.pad(A, (0, -c1 % 16)).contiguous() for A in (X, W))
    W.grad = torch.empty_like(W)
    adam = Adam([W], lr=lr, fused=True)
    s, L = Y.shape[1:]
    for _ in range(epochs):
        residual = torch.bmm(X, W.transpose(1, 2)).sigmoid_().sub_(Y).div_(s * L)
        torch.bmm(residual.transpose(1, 2), X, out=W.grad)
        adam.step()
    return W.detach()[:, :, :c1]


def _head(W: Tensor) -> Predictor:
    def predictor(query: Images) -> Tensor:
        return query.pooled() @ W[:, :-1].T + W[:, -1]

    return predictor


def _fresh_rows(labels: Sequence[str], c: int, seed: int) -> Tensor:
    """float32 [L, c + 1], uniform on [-1/sqrt(c), 1/sqrt(c)) as torch's Linear starts.

    Row i is keyed by (seed, label i).
    """
    seeds = np.array([stream_seed("linear/head", seed, label) for label in labels], np.uint64)
    words = splitmix64_array(seeds[:, None], np.arange(c + 1, dtype=np.uint64)[None])
    u = (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    return torch.from_numpy((2 * u - 1) / np.float32(math.sqrt(c)))

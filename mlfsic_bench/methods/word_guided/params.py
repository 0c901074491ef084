"""Parameters and presets of the paper's model: every choice the paper leaves open is one."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mlfsic_bench.methods.contract import MethodParams

# what the simple prototypes have none of
HEADS_AND_MLP = (
    "n_a",
    "d_mlp",
    "dropout",
    "local_dropout",
    "layer_norm",
    "residual",
    "output_projection",
    "start",
)


class WordGuidedParams(MethodParams):
    """Parameters of word-guided attention; defaults are the `paper` preset.

    Symbols are the paper's: lam is its lambda, n_a the number of heads, d_j the joint space.
    """

    lam: float = Field(20.0, gt=0, description="lambda of (2) and (4), in scores and in weights")
    score: Literal["cosine", "margin_distance"] = Field(
        "cosine", description="lambda * cos, or the later code's lambda * (1 - distance)"
    )
    d_j: int = Field(512, ge=1, description="dimension of the joint space")
    d_mlp: int = Field(1024, ge=1, description="hidden dimension of the mlp of (3)")
    n_a: int = Field(8, ge=1, description="attention heads; each has floor(d_j / n_a) dimensions")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout after each layer of the mlp")
    local_dropout: float = Field(0.0, ge=0, lt=1, description="dropout on projected local features")
    projections: Literal["shared", "separate"] = Field(
        "shared", description="whether local features share A_visual with the global ones"
    )
    bias: bool = Field(False, description="biases in the projections and in Q, K, V")
    layer_norm: bool = Field(
        False, description="norms on keys and query, before the mlp, at the end"
    )
    residual: bool = Field(False, description="a residual around the mlp")
    output_projection: bool = Field(False, description="a linear layer between heads and mlp")
    start: Literal["random", "identity"] = Field(
        "random",
        description="of the weights; identity: prototypes start as means of projected features",
    )
    aggregation: Literal["joint", "per_image"] = Field(
        "joint", description="one softmax over all locations, or prototypes per image, averaged"
    )
    prototype: Literal["attention", "attention_global", "simple", "simple_local"] = Field(
        "attention", description="the full model, or one of the ablations of Table 3"
    )
    use_cmw_loss: bool = Field(True, description="False: only L_query, over support and query")
    gamma: float = Field(1.0, ge=0, description="weight of L_query in L_all")
    reduction: Literal["mean", "sum"] = Field("mean", description="over images and labels")
    lr: float = Field(1e-3, gt=0, description="learning rate after the warm-up")
    warmup_lr: float = Field(1e-6, ge=0, description="learning rate of the first step")
    final_lr: float | None = Field(None, ge=0, description="end of the cosine; None: lr, constant")
    epochs: int = Field(200, ge=1, description="epochs in all")
    warmup_epochs: int = Field(
        10, ge=0, description="epochs of linear warm-up; half of epochs where it would fill them"
    )
    steps_per_epoch: int = Field(100, ge=1, description="optimiser steps an epoch")
    episodes_per_step: int = Field(1, ge=1, description="episodes whose gradients make a step")
    select_every: int = Field(10, ge=1, description="epochs between evaluations on val")
    select: Literal["best", "last"] = Field(
        "best", description="weights kept: best on val, or last"
    )
    fine_tune_epochs: int = Field(0, ge=0, description="steps of L_cmw on a test support (Table 6)")
    fine_tune_lr: float = Field(1e-4, gt=0, description="Adam's learning rate in those steps")
    fine_tune: Literal["projections", "all"] = Field(
        "projections",
        description="tuned in those steps: A_visual and A_text, or a trainable backbone with them",
    )

    @property
    def d_a(self) -> int:
        """Dimensions of a head, floor(d_j / n_a)."""
        return self.d_j // self.n_a

    @property
    def warmup(self) -> int:
        """Epochs of warm-up in fact: warmup_epochs, or epochs // 2 where that is not below epochs.

        So that `epochs` alone makes a short training.
        """
        return self.warmup_epochs if self.warmup_epochs < self.epochs else self.epochs // 2

    @model_validator(mode="after")
    def _consistent(self) -> WordGuidedParams:
        if self.n_a > self.d_j:
            raise ValueError(f"n_a ({self.n_a}) may be at most d_j ({self.d_j})")
        if self.residual and not self.output_projection and self.n_a * self.d_a != self.d_j:
            raise ValueError(
                f"a residual needs heads that fill d_j: {self.n_a} heads of {self.d_a} make "
                f"{self.n_a * self.d_a}, not {self.d_j}; set output_projection=true"
            )
        if self.start == "identity":
            self._check_identity()
        if self.prototype.startswith("simple"):
            if self.aggregation == "per_image":
                raise ValueError(
                    "the simple prototypes weight all images at once: use aggregation=joint"
                )
            self.without_effect(f"prototype={self.prototype}", *HEADS_AND_MLP)
        if self.prototype in ("simple", "attention_global"):
            self.without_effect(f"prototype={self.prototype}", "projections")
        if not self.use_cmw_loss:
            self.without_effect("use_cmw_loss=false", "gamma")
        if not self.fine_tune_epochs:
            self.without_effect("fine_tune_epochs=0", "fine_tune_lr", "fine_tune")
        return self

    def _check_identity(self) -> None:
        fits = self.n_a * self.d_a == self.d_j
        if self.residual and not self.layer_norm and self.aggregation == "joint" and fits:
            return
        raise ValueError(
            "start=identity makes prototypes start as means of projected features: it needs "
            "residual=true, layer_norm=false, aggregation=joint and heads that fill d_j"
        )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    "authors-tomm": {
        "score": "margin_distance",
        "lr": 1e-4,
        "projections": "separate",
        "bias": True,
        "layer_norm": True,
        "residual": True,
        "output_projection": True,
        "local_dropout": 0.1,
        "aggregation": "per_image",
        "episodes_per_step": 4,
    },
}

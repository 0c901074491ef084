"""What `logistic` and `ridge` share: their parameters, and a linear head on prepared features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from mlfsic_baselines.heads.solvers import balanced_weights
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import normalize

from mlfsic_bench.methods.contract import Images, MethodParams, Predictor, Support


class HeadParams(MethodParams):
    """Parameters of a penalised linear head."""

    penalty: float = Field(0.1, ge=1e-6, description="weight of the penalty |w|^2; see the class")
    balance: bool = Field(
        True, description="weigh the images so that positives and negatives of a label count alike"
    )
    normalise: bool = Field(True, description="bring features to unit length")
    centre: Literal["none", "support"] = Field(
        "none", description="subtract the mean support feature before features get unit length"
    )

    @model_validator(mode="after")
    def _consistent(self) -> HeadParams:
        if not self.normalise:  # the bias, which is not penalised, takes up any shift
            self.without_effect("normalise=false", "centre")
        return self


def linear_head(
    support: Support, params: HeadParams, fit: Callable[..., tuple[Tensor, Tensor]], T: Tensor
) -> Predictor:
    """The predictor w_c x + b_c, float [q, L], on prepared features.

    fit: a function of `solvers`, which is given the support's prepared features and T [s, L].
    """
    f = support.images.pooled()
    centre = f.mean(0) if params.centre == "support" else f.new_zeros(f.shape[1])

    def prepared(f: Tensor) -> Tensor:
        return normalize(f - centre, dim=1) if params.normalise else f

    weights = balanced_weights(support.targets) if params.balance else None
    W, b = fit(prepared(f), T, params.penalty, weights=weights)

    def predictor(query: Images) -> Tensor:
        return prepared(query.pooled()) @ W.T + b

    return predictor

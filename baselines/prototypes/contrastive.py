"""The `contrastive-prototypes` row: the mean of a label's images minus the mean of the others."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
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


class ContrastivePrototypesParams(MethodParams):
    """Parameters of ContrastivePrototypes."""

    negatives: float = Field(
        1.0, ge=0, description="weight of the mean of the images without the label"
    )
    unit: bool = Field(True, description="bring prototypes to unit length, so a score is a cosine")
    centre: Literal["none", "support", "base"] = Field(
        "base", description="mean feature that is subtracted from features: none, support or base"
    )


class ContrastivePrototypes(Method):
    """Rocchio, Relevance Feedback in Information Retrieval, 1971, on the support of an episode.

    The images that carry the label are the relevant ones and all others the irrelevant ones:

        x = (f - o) / |f - o|                     f [d]: pooled feature, o [d]: see `centre`
        p_c = sum_i y_ic x_i / sum_i y_ic  -  negatives * sum_i (1 - y_ic) x_i / sum_i (1 - y_ic)
        score(x, c) = p_c x / |p_c|               (without `unit`: p_c x)

    With `negatives=0` (preset `simpleshot`) it is the nearest centroid after subtraction of the
    base mean and division by the length, CL2N, of Wang, Chao, Weinberger and van der Maaten
    (SimpleShot, 2019), by cosine in place of distance.

    What we decided. Images carry several labels, so a mean over a label's few images holds what
    else is in them, and what is in every image; the second part is what the other images take out.
    The base mean is the mean over all base images, each once; it is all that `fit` learns. The
    score has no bias: 0, the threshold, means as much like the label's images as like the others.
    A label without a support image, or with all of them, keeps the other of the two means.
    """

    name = "contrastive-prototypes"
    Params = ContrastivePrototypesParams
    presets = {"simpleshot": {"negatives": 0.0}}  # noqa: RUF012
    trains = True
    printed = "Contrastive prototypes"
    citation = (
        "Rocchio, Relevance Feedback in Information Retrieval, 1971; features as in Wang et al., "
        "SimpleShot, 2019"
    )
    bibtex = """\
@incollection{rocchio1971relevance,
  title = {Relevance Feedback in Information Retrieval},
  author = {Rocchio, Joseph J.},
  booktitle = {The {SMART} Retrieval System: Experiments in Automatic Document Processing},
  editor = {Salton, Gerard},
  publisher = {Prentice-Hall}, year = {1971}
}
@article{wang2019simpleshot,
  title = {{SimpleShot}: Revisiting Nearest-Neighbor Classification for Few-Shot Learning},
  author = {Wang, Yan and Chao, Wei-Lun and Weinberger, Kilian Q. and van der Maaten, Laurens},
  journal = {arXiv preprint arXiv:1911.04623}, year = {2019}
}"""
    params: ContrastivePrototypesParams

    def __init__(self, params: MethodParams | None = None) -> None:
        super().__init__(params)
        self._mean: Tensor | None = None  # [d], of the base images

    def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
        """The mean feature of the base images; nothing with another `centre`."""
        if self.params.centre == "base":
            with torch.no_grad():
                self._mean = base.images.pooled().mean(0)

    def state(self) -> dict[str, Tensor]:
        """`mean` [d] with `centre=base`; otherwise nothing."""
        return {} if self._mean is None else {"mean": self._mean}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self._mean = state.get("mean")

    def adapt(self, support: Support) -> Predictor:
        """Scores float32 [q, L] from pooled features alone."""
        f, Y = support.images.pooled(), support.targets
        centre = self._centre(f)
        x = normalize(f - centre, dim=1)
        p = _means(Y, x) - self.params.negatives * _means(1 - Y, x)
        if self.params.unit:
            p = normalize(p, dim=1)

        def predictor(query: Images) -> Tensor:
            return normalize(query.pooled() - centre, dim=1) @ p.T

        return predictor

    def _centre(self, f: Tensor) -> Tensor:
        if self.params.centre == "none":
            return f.new_zeros(f.shape[1])
        if self.params.centre == "support":
            return f.mean(0)
        if self._mean is None:
            raise BenchError(
                "contrastive-prototypes has no base mean to subtract",
                expected="fit or load_state before adapt, with centre=base",
                found="a method that has seen no base part",
                remedy="fit the method first, or choose centre=support",
            )
        return self._mean.to(f.device)


def _means(Y: Tensor, x: Tensor) -> Tensor:
    """float [L, d]: the mean row of x [s, d] for each column of Y [s, L] of 0 and 1; 0 if none."""
    return Y.T @ x / Y.sum(0).clamp(min=1)[:, None]

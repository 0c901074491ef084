"""The `text-probe` row: a linear probe that starts at the texts and is kept near them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import torch
from mlfsic_baselines.text.zero_shot import text_directions
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import normalize

from mlfsic_bench.methods.contract import Images, Method, MethodParams, Predictor, Support

CHUNK = 10  # episodes tuned together
MOMENTUM = 0.9


class TextProbeParams(MethodParams):
    """Parameters of TextProbe."""

    constraint: Literal["class-adaptive", "constant", "none"] = Field(
        "class-adaptive",
        description="pull to the texts: by how well each label's text does on the support, by "
        "their mean, or none",
    )
    penalty: float = Field(100.0, gt=0, description="strength of that pull, on unit vectors")
    tune_epochs: int = Field(300, ge=0, description="full-batch steps on each support set")
    head_lr: float = Field(1e-3, gt=0, description="learning rate at the first step")
    scale: float = Field(100.0, gt=0, description="factor of the cosine; CLIP's is 100")

    @model_validator(mode="after")
    def _consistent(self) -> TextProbeParams:
        if self.constraint == "none":
            self.without_effect("constraint=none", "penalty")
        if self.tune_epochs == 0:
            self.without_effect("tune_epochs=0", "constraint", "penalty", "head_lr")
        return self


class TextProbe(Method):
    """Silva-Rodriguez, Hajimiri, Ben Ayed and Dolz, CVPR 2024 (CLAP), for several labels.

    (A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models.) A linear probe whose
    rows start at the texts of the labels (ZS-LP), and are pulled back to them, the more the better
    a text does by itself on the support images (CLAP). The same few steps for every episode and
    data set: the work's point is that no value of them is chosen on a val set.

        z_il = scale * (f_i - m) . w_l / |w_l|
        loss = 1/L sum_l [ 1/s sum_i BCE(sigmoid(z_il), y_il)  +  penalty a_l |w_l - t_l|^2 ]
        a_l = mean over i with y_il = 1 of exp(scale f_i.t_l) / sum_k exp(scale f_i.t_k),
              k: label l and those that image i does not have
        score(q, l) = scale * (f_q - m) . w_l / |w_l|

    f_i, f_q [d]: global vectors of unit length; m [d]: mean of f_i over the s support images; t_l
    [d]: label embedding of unit length, w_l starts there; a_l: a constant, computed before the
    first step. Gradient descent with momentum 0.9 and a cosine schedule to 0, as in the original.

    What we decided. The original classifies with softmax and cross-entropy. Here labels are
    independent: BCE in place of cross-entropy, and the mean over support images is taken off before
    the cosine. That is a bias for each label, and says what a score of 0 means: no more like the
    label than the average support image is (CLIP's cosines all lie in a narrow band above 0). It
    leaves the ranking of images for a label as it was, so `tune_epochs=0` has the macro-AP of
    `zero-shot`. In a_l, other labels of the same image do not count as mistakes of the text; with
    one label an image it is the original's. The original's rows are as long as the texts come out
    of CLIP, and its learning rate is 0.1; label embeddings here have unit length. A text ten times
    as long takes a hundredth of the relative step and a hundredth of the relative pull, hence 1e-3
    and 100 (that lengths are about ten is not verified). No augmented views of the support
    (the original has 20 of each image). A label without a support image has a_l = 0.
    """

    name = "text-probe"
    Params = TextProbeParams
    presets = {"zs-lp": {"constraint": "none"}}  # noqa: RUF012
    needs_embeddings = True
    needs_text_side = True
    adapts_by_gradient = True
    printed = "CLAP"
    citation = (
        "Silva-Rodriguez et al., A Closer Look at the Few-Shot Adaptation of Large Vision-Language "
        "Models, CVPR 2024"
    )
    bibtex = """\
@inproceedings{silva2024closer,
  title = {A Closer Look at the Few-Shot Adaptation of Large Vision-Language Models},
  author = {Silva-Rodr{\\'i}guez, Julio and Hajimiri, Sina and Ben Ayed, Ismail and
    Dolz, Jose},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern
    Recognition (CVPR)}, year = {2024}
}"""

    params: TextProbeParams

    def adapt(self, support: Support) -> Predictor:
        """A probe for one episode; scores float32 [q, L]. BenchError for another space."""
        return self.adapt_all([support])[0]

    def adapt_all(self, supports: Sequence[Support]) -> list[Predictor]:
        """Probes for many episodes: those of equal shape are tuned together, in chunks."""
        p = self.params
        groups: dict[torch.Size, list[int]] = defaultdict(list)
        for i, support in enumerate(supports):
            groups[support.targets.shape].append(i)
        predictors: dict[int, Predictor] = {}
        for members in groups.values():
            for start in range(0, len(members), CHUNK):
                chunk = members[start : start + CHUNK]
                F = torch.stack([normalize(supports[i].images.pooled(), dim=1) for i in chunk])
                Y = torch.stack([supports[i].targets for i in chunk])
                T = torch.stack([text_directions(supports[i]) for i in chunk])
                pull = p.penalty * multipliers(F, Y, T, p.scale, p.constraint)
                m = F.mean(1)
                W = tune(F - m[:, None], Y, T, pull, p.tune_epochs, p.head_lr, p.scale)
                W = p.scale * normalize(W, dim=2)
                predictors.update(zip(chunk, map(_probe, W, m), strict=True))
        return [predictors[i] for i in range(len(supports))]


def multipliers(F: Tensor, Y: Tensor, T: Tensor, scale: float, constraint: str) -> Tensor:
    """a_l of E episodes, float [E, L]: how well the text of each label does on the support.

    F: float [E, s, d] and T: float [E, L, d], of unit length; Y: float [E, s, L] of 0 and 1.
    """
    if constraint == "none":
        return Y.new_zeros(Y.shape[0], Y.shape[2])
    z = scale * torch.bmm(F, T.transpose(1, 2))  # [E, s, L]
    absent = z.masked_fill(Y > 0, -torch.inf).logsumexp(2, keepdim=True)
    share = (z - absent).sigmoid()  # of label l among itself and the absent ones
    a = (Y * share).sum(1) / Y.sum(1).clamp(min=1)
    return a if constraint == "class-adaptive" else a.mean(1, keepdim=True).expand_as(a)


@torch.no_grad()
def tune(
    X: Tensor, Y: Tensor, T: Tensor, pull: Tensor, epochs: int, lr: float, scale: float
) -> Tensor:
    """Rows after gradient descent on E episodes at once, float [E, L, d].

    X: float [E, s, d], centred support features. Y: float [E, s, L] of 0 and 1. T: float [E, L, d],
    where the rows start and what they are pulled to. pull: float [E, L], penalty times a_l.

    The gradient is written by hand, as autograd would build a graph for each step: with the unit
    row u = w / |w| and r = (sigmoid(z) - y) / (s L), it is scale * P r^T X / |w| with P = 1 - u u^T
    (a row's length changes no score) plus 2 pull (w - t) / L.
    """
    W, velocity = T.clone(), torch.zeros_like(T)
    s, L = Y.shape[1:]
    weight = 2 * pull[:, :, None] / L
    for epoch in range(epochs):
        length = W.norm(dim=2, keepdim=True).clamp(min=1e-12)
        unit = W / length
        residual = torch.bmm(X, unit.transpose(1, 2)).mul_(scale).sigmoid_().sub_(Y).div_(s * L)
        g = torch.bmm(residual.transpose(1, 2), X).mul_(scale)
        g = (g - (g * unit).sum(2, keepdim=True) * unit) / length + weight * (W - T)
        velocity.mul_(MOMENTUM).add_(g)
        W.sub_(velocity, alpha=lr * 0.5 * (1 + math.cos(math.pi * epoch / epochs)))
    return W


def _probe(W: Tensor, m: Tensor) -> Predictor:
    def predictor(query: Images) -> Tensor:
        return (normalize(query.pooled(), dim=1) - m) @ W.T

    return predictor

"""The `protonet` row: mean prototypes for several labels an image, compared by cosine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from mlfsic_bench.methods.contract import Images, Method, MethodParams, Predictor, Support
from mlfsic_bench.methods.scoring import score


class ProtoNetParams(MethodParams):
    """Parameters of ProtoNet."""

    scale: float = Field(20.0, gt=0, description="scale of the score, lambda")
    score: Literal["margin_distance", "cosine"] = Field(
        "margin_distance",
        description="(1 - distance of unit vectors) * scale, or cosine * scale; both rank alike",
    )
    centre: Literal["none", "support"] = Field(
        "none", description="subtract the mean support feature from prototypes and queries"
    )


class ProtoNet(Method):
    """Snell, Swersky and Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017.

    In the multi-label form of Simon, Koniusz and Harandi, Meta-Learning for Multi-Label Few-Shot
    Classification, WACV 2022: the prototype of a label is the mean over all support images that
    carry it, so an image with several labels counts for each of them.

        p_c = sum_i y_ic f_i / sum_i y_ic          f_i [c]: pooled feature of support image i
        d(x, c) = || f_x / |f_x|  -  p_c / |p_c| ||
        score(x, c) = scale * (1 - d(x, c))        (`margin_distance`, the default)
        score(x, c) = scale * cos(f_x, p_c)        (`cosine`)

    What we decided. Nothing is trained: the features are used as they come. Cosine takes the place
    of the squared distance, because features of different backbones differ in length. d falls
    where the cosine rises, so every AP is the same for the two scores; they differ in what is
    predicted. Features after a ReLU are not negative, so their cosine is never below 0 and
    `cosine` predicts every label. `margin_distance` is 0 at a cosine of 1/2 (60 degrees), a
    threshold that needs no labels; pooled features of deep backbones are often closer to each
    other than that, and then recall is near 100 % and precision near the prevalence. The preset
    `centred` subtracts the mean feature of the support first (from its images, without their
    labels): 0 then means no more like the label's prototype than the average support image is.

    A label without a support image has the zero vector as its prototype and a cosine of 0.
    """

    name = "protonet"
    Params = ProtoNetParams
    presets = {"centred": {"centre": "support", "score": "cosine"}}  # noqa: RUF012
    printed = "ProtoNet"
    citation = (
        "Snell et al., Prototypical Networks for Few-shot Learning, NeurIPS 2017; "
        "multi-label form: Simon et al., WACV 2022"
    )
    bibtex = """\
@inproceedings{snell2017prototypical,
  title = {Prototypical Networks for Few-shot Learning},
  author = {Snell, Jake and Swersky, Kevin and Zemel, Richard},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {30}, year = {2017}
}
@inproceedings{simon2022meta,
  title = {Meta-Learning for Multi-Label Few-Shot Classification},
  author = {Simon, Christian and Koniusz, Piotr and Harandi, Mehrtash},
  booktitle = {Proceedings of the IEEE/CVF Winter Conference on Applications of Computer
    Vision (WACV)},
  pages = {3951--3960}, year = {2022}
}"""

    params: ProtoNetParams

    def adapt(self, support: Support) -> Predictor:
        """Scores float32 [q, L] from pooled features alone."""
        f = support.images.pooled()
        Y = support.targets
        centre = f.mean(0) if self.params.centre == "support" else f.new_zeros(f.shape[1])
        p = Y.T @ (f - centre) / Y.sum(0).clamp(min=1)[:, None]
        p = normalize(p, dim=1)
        scale, form = self.params.scale, self.params.score

        def predictor(query: Images) -> Tensor:
            return score(query.pooled() - centre, p, scale, form)

        return predictor

"""The `tip-adapter` row: zero-shot scores plus a training-free cache of the support images."""

from __future__ import annotations

from dataclasses import dataclass

from mlfsic_baselines.text.zero_shot import text_directions
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import normalize

from mlfsic_bench.methods.contract import Images, Method, MethodParams, Predictor, Support


class TipAdapterParams(MethodParams):
    """Parameters of TipAdapter: tau, alpha and beta of its equation."""

    tau: float = Field(100.0, ge=0, description="weight of the cosine with the text; CLIP's is 100")
    alpha: float = Field(1.17, ge=0, description="weight of the cache of support images")
    beta: float = Field(
        1.0, gt=0, description="sharpness of the cache: how fast a support image's vote falls"
    )

    @model_validator(mode="after")
    def _consistent(self) -> TipAdapterParams:
        if self.alpha == 0:
            self.without_effect("alpha=0", "beta")
        return self


class TipAdapter(Method):
    """Zhang, Zhang, Fang, Gao, Li, Dai, Qiao and Li, Tip-Adapter, ECCV 2022, for several labels.

    (Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification.) Support images are
    the keys of a cache and their labels its values; a query adds what the cache says to its
    zero-shot score. Nothing is trained.

        score(q, l) = tau cos(q, t_l) + alpha sum_i y_il exp(-beta (1 - cos(q, f_i))) / sum_i y_il

    q, f_i [d]: global vectors of the query and of support image i; t_l [d]: label embedding (the
    text of the label); y_il: 1 where support image i has label l.

    What we decided. The original classifies: each support image has one label, every label has
    equally many, and its sum over support images is not divided. Here an image votes for each label
    that it has, and the votes for a label are averaged, so that a label with more support images
    than another has no higher scores for that reason. With one support image a label and one label
    an image it is the original. A label without a support image keeps its zero-shot score. alpha
    and beta start at the original's values for ImageNet, which it then searches on val images:
    choose them on val episodes here too. Decisions are those of `zero-shot`: a label is predicted
    where the softmax of the scores over the labels is above an even share. tau=0 leaves the cache.
    The fine-tuned form (Tip-Adapter-F) is not here.
    """

    name = "tip-adapter"
    Params = TipAdapterParams
    needs_embeddings = True
    needs_text_side = True
    printed = "Tip-Adapter"
    citation = (
        "Zhang et al., Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification, "
        "ECCV 2022"
    )
    bibtex = """\
@inproceedings{zhang2022tip,
  title = {{Tip-Adapter}: Training-free Adaption of {CLIP} for Few-shot Classification},
  author = {Zhang, Renrui and Zhang, Wei and Fang, Rongyao and Gao, Peng and Li, Kunchang and
    Dai, Jifeng and Qiao, Yu and Li, Hongsheng},
  booktitle = {European Conference on Computer Vision (ECCV)}, year = {2022}
}"""

    params: TipAdapterParams

    def adapt(self, support: Support) -> Predictor:
        """A predictor with scores float32 [q, L] and decisions; BenchError for another space."""
        values = support.targets / support.targets.sum(0).clamp(min=1)
        keys = normalize(support.images.pooled(), dim=1)
        return _Cache(text_directions(support), keys, values, self.params)


@dataclass(frozen=True)
class _Cache:
    """Texts [L, d] and keys [s, d] of unit length; values [s, L], each label's sum to 1 or 0."""

    texts: Tensor
    keys: Tensor
    values: Tensor
    params: TipAdapterParams

    def __call__(self, query: Images, /) -> Tensor:
        p, f = self.params, normalize(query.pooled(), dim=1)
        votes = (p.beta * (f @ self.keys.T - 1)).exp()
        return p.tau * f @ self.texts.T + p.alpha * votes @ self.values

    def decide(self, query: Images) -> Tensor:
        return self(query).softmax(1) > 1 / len(self.texts)

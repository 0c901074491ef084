"""The `zero-shot` row: labels as texts in the space of the images; the support is not looked at."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import Images, Method, MethodParams, Predictor, Support


def text_directions(support: Support) -> Tensor:
    """Label embeddings as unit vectors in the space of the global vectors, float32 [L, d].

    BenchError for label embeddings of another width than the global vectors.
    """
    assert support.embeddings is not None
    d, d_w = support.images.source.dim, support.embeddings.shape[1]
    if d != d_w:
        raise BenchError(
            "the label embeddings do not live in the space of the backbone's global vectors",
            expected=f"label embeddings of {d} numbers",
            found=f"{d_w} numbers",
            remedy="choose a backbone with a text side, such as open_clip:ViT-B-32/openai, and "
            "leave --embeddings out",
        )
    return normalize(support.embeddings, dim=1)


class ZeroShotParams(MethodParams):
    """Parameters of ZeroShot."""

    scale: float = Field(
        100.0, gt=0, description="inverse temperature of the softmax that decides; CLIP's is 100"
    )


class ZeroShot(Method):
    """Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021.

    A label is a text, such as "a photo of a dog.", and its vector lives in the space of the
    backbone's global vectors:

        score(x, c) = scale * cos(f_x, w_c)       f_x [d]: global vector; w_c [d]: label embedding
        predicted where softmax_c(score(x, c)) > 1 / L

    What we decided. CLIP chooses one label; here an image has several, so the ranking for a label
    goes by the cosine itself: a softmax over the labels would make the rank of an image for one
    label depend on the other labels. Decisions need a threshold that no label has set:
    more than an even share of the softmax. A row of this kind has seen names of labels, and
    perhaps the labels themselves, in its pre-training: it is no few-shot row, and says where words
    alone lead to.
    """

    name = "zero-shot"
    Params = ZeroShotParams
    needs_embeddings = True
    needs_text_side = True
    printed = "Zero-shot"
    citation = (
        "Radford et al., Learning Transferable Visual Models From Natural Language Supervision, "
        "ICML 2021"
    )
    bibtex = """\
@inproceedings{radford2021learning,
  title = {Learning Transferable Visual Models From Natural Language Supervision},
  author = {Radford, Alec and Kim, Jong Wook and Hallacy, Chris and others},
  booktitle = {Proceedings of the International Conference on Machine Learning (ICML)},
  pages = {8748--8763}, year = {2021}
}"""

    params: ZeroShotParams

    def adapt(self, support: Support) -> Predictor:
        """A predictor with scores float32 [q, L] and decisions; BenchError for another space."""
        return _Cosines(text_directions(support), self.params.scale)


class _Cosines:
    def __init__(self, words: Tensor, scale: float) -> None:
        self.words, self.scale = words, scale

    def __call__(self, query: Images, /) -> Tensor:
        return self.scale * normalize(query.pooled(), dim=1) @ self.words.T

    def decide(self, query: Images) -> Tensor:
        return self(query).softmax(1) > 1 / len(self.words)

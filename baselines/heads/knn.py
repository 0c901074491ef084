"""The `knn` row: a vote of the support images that are most like the query image."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from mlfsic_bench.methods.contract import Images, Method, MethodParams, Predictor, Support

FAR = 1e-6  # weight of an image that is not among the k nearest, as a share
NONE = 1e-12  # share that stands for none at all, so that its logarithm is finite
EQUAL = 1e-6  # cosines closer than this are equal


class NearestNeighboursParams(MethodParams):
    """Parameters of NearestNeighbours."""

    k: int | None = Field(None, ge=1, description="images that vote; none: the whole support")
    beta: float = Field(
        20.0, gt=0, description="weight of a vote is exp(beta * cosine): how local the vote is"
    )
    centre: Literal["none", "support"] = Field(
        "none", description="subtract the mean support feature before cosines are taken"
    )


class NearestNeighbours(Method):
    """Cover and Hart, Nearest Neighbor Pattern Classification, IEEE Trans. Inf. Theory 1967.

    With the weights of Wu, Xiong, Yu and Lin (CVPR 2018), whose temperature is 1/beta:

        u_i = exp(beta cos(f_x, f_i))              f_i [d]: pooled feature of support image i
        p_c(x) = sum_{i in k nearest} u_i y_ic / sum_{i in k nearest} u_i
        score(x, c) = log p_c / (1 - p_c)

    What we decided. An image votes for every label it carries, so p_c is a share for each label,
    and shares do not add up to 1 over the labels. With few neighbours most images have a share of
    exactly 0 or 1, and ties would decide AP; so the other support images vote too, each with a
    millionth of its weight, which orders images with equal shares and hardly moves any other.
    Neighbours as near as the k-th all vote. A label that no support image carries scores the same
    for every image.
    """

    name = "knn"
    Params = NearestNeighboursParams
    printed = "kNN"
    citation = (
        "Cover and Hart, Nearest Neighbor Pattern Classification, 1967; weights of Wu et al., "
        "CVPR 2018"
    )
    bibtex = """\
@article{cover1967nearest,
  title = {Nearest Neighbor Pattern Classification},
  author = {Cover, Thomas M. and Hart, Peter E.},
  journal = {IEEE Transactions on Information Theory},
  volume = {13}, number = {1}, pages = {21--27}, year = {1967}
}
@inproceedings{wu2018unsupervised,
  title = {Unsupervised Feature Learning via Non-Parametric Instance Discrimination},
  author = {Wu, Zhirong and Xiong, Yuanjun and Yu, Stella X. and Lin, Dahua},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern
    Recognition (CVPR)},
  year = {2018}
}"""
    params: NearestNeighboursParams

    def adapt(self, support: Support) -> Predictor:
        """Scores float32 [q, L], log-odds of the share of the vote."""
        f = support.images.pooled()
        centre = f.mean(0) if self.params.centre == "support" else f.new_zeros(f.shape[1])
        kept = normalize(f - centre, dim=1)
        Y = support.targets.double()
        k = min(self.params.k or len(f), len(f))

        def predictor(query: Images) -> Tensor:
            cosine = (normalize(query.pooled() - centre, dim=1) @ kept.T).double()
            far = cosine < cosine.topk(k).values[:, -1:] - EQUAL
            log_u = self.params.beta * cosine + torch.where(far, math.log(FAR), 0.0)
            u = log_u.softmax(1)
            return ((u @ Y + NONE).log() - (u @ (1 - Y) + NONE).log()).to(f.dtype)

        return predictor

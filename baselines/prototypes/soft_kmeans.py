"""The `soft-kmeans-prototypes` row: prototypes that the query images refine, without labels."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from mlfsic_bench.methods.contract import Images, Method, MethodParams, Predictor, Support


class SoftKMeansParams(MethodParams):
    """Parameters of the refined prototypes."""

    scale: float = Field(
        5.0, gt=0, description="scale of the squared distances in the assignment, lambda"
    )
    iterations: int = Field(3, ge=0, description="rounds in which the query images are assigned")
    centre: Literal["none", "episode"] = Field(
        "none", description="subtract the mean feature of support and query images first"
    )


def refined(
    x: Tensor, Y: Tensor, queries: Tensor, scale: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """Two prototypes a label, of images with it and without it: float [L, d] each.

    x: [s, d] features of the support, Y: [s, L] its labels, queries: [q, d].
    """
    none = Y.new_zeros(len(queries), Y.shape[1])
    p, n = means(x, Y, queries, none), means(x, 1 - Y, queries, none)
    for _ in range(iterations):
        Z = assignment(queries, p, n, share(Y), scale).sigmoid()
        p, n = means(x, Y, queries, Z), means(x, 1 - Y, queries, 1 - Z)
    return p, n


def means(x: Tensor, Y: Tensor, queries: Tensor, Z: Tensor) -> Tensor:
    """float [L, d]: means of support and queries weighted by Y [s, L] and Z [q, L].

    A label without any weight has the mean of the support.
    """
    weight = Y.sum(0) + Z.sum(0)
    whole = (Y.T @ x + Z.T @ queries) / weight.clamp(min=1e-12)[:, None]
    return torch.where(weight[:, None] > 1e-12, whole, x.mean(0))


def share(Y: Tensor) -> Tensor:
    """float [L]: the log odds that an image has the label, from the support, one of each added."""
    n = Y.sum(0)
    return (n + 1).log() - (len(Y) - n + 1).log()


def assignment(z: Tensor, positive: Tensor, negative: Tensor, odds: Tensor, scale: float) -> Tensor:
    """float [n, L]: the log odds that each of z [n, d] is of the cluster of images with the label.

    Squared distances are taken as |z|^2 + |p|^2 - 2 z p, of which |z|^2 cancels.
    """
    nearer = negative.square().sum(1) - positive.square().sum(1) + 2 * z @ (positive - negative).T
    return scale * nearer + odds


class SoftKMeansPrototypes(Method):
    """Ren et al., Meta-Learning for Semi-Supervised Few-Shot Classification, ICLR 2018.

    Soft k-means, with the query images of the episode as the unlabelled images. An image has
    several labels, so each label has two clusters of its own, of the images with it and without it,
    with prototypes p_c and n_c, and both weights of an image sum to 1:

        x_i = f_i / |f_i|      (`centre=episode`: f_i less the mean of the episode's images)
        p_c = mean of x_i over support images with c,    n_c = over those without
        z_jc = sigmoid(scale (|x_j - n_c|^2 - |x_j - p_c|^2) + b_c)       for each query image j
        p_c <- (sum_i y_ic x_i + sum_j z_jc x_j) / (sum_i y_ic + sum_j z_jc)
        n_c <- likewise with 1 - y and 1 - z
        score(x, c) = scale (|x - n_c|^2 - |x - p_c|^2) + b_c

    b_c is the log odds of the label among the support images, with one image of each kind added. A
    softmax over the two clusters is this sigmoid, so the score is the logit of the last assignment.

    What we decided. In the original an image belongs to one class, by a softmax over classes; here
    labels don't compete. It has one cluster a class and no b; two of very different size need it:
    without it half of the query images would move to p_c. It trains the features with the
    refinement in the loop; here nothing is trained, and unit length takes the place of learnt
    distances, with `scale` for their size. Three rounds (there one) of scale 5, without centring,
    were best on val episodes of COCO photographs. `iterations=0` compares the two prototypes as
    the support gives them. Its distractor
    cluster and masks have no place here, since a query without any label is in the second cluster
    of each. A label that no support image has, or all have, has the mean of the support in the
    place of the missing prototype.
    """

    name = "soft-kmeans-prototypes"
    Params = SoftKMeansParams
    transductive = True
    printed = "Soft k-means prototypes"
    citation = (
        "Ren et al., Meta-Learning for Semi-Supervised Few-Shot Classification, ICLR 2018; "
        "multi-label, transductive reading"
    )
    bibtex = """\
@inproceedings{ren2018meta,
  title = {Meta-Learning for Semi-Supervised Few-Shot Classification},
  author = {Ren, Mengye and Triantafillou, Eleni and Ravi, Sachin and Snell, Jake and
    Swersky, Kevin and Tenenbaum, Joshua B. and Larochelle, Hugo and Zemel, Richard S.},
  booktitle = {International Conference on Learning Representations},
  year = {2018}
}"""

    params: SoftKMeansParams

    def adapt(self, support: Support) -> Predictor:
        """Scores float64 [q, L] from pooled features alone."""
        p = self.params
        f, Y = support.images.pooled().double(), support.targets.double()

        def predictor(query: Images) -> Tensor:
            g = query.pooled().double()
            centre = torch.cat([f, g]).mean(0) if p.centre == "episode" else f.new_zeros(())
            x, queries = normalize(f - centre, dim=1), normalize(g - centre, dim=1)
            pair = refined(x, Y, queries, p.scale, p.iterations)
            return assignment(queries, *pair, share(Y), p.scale)

        return predictor

"""The `relation-network` row: a small convolutional network scores query map and label map."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    conv2d,
    group_norm,
    linear,
    max_pool2d,
    mse_loss,
)

from mlfsic_bench.features.sources import FeatureSource
from mlfsic_bench.methods.contract import Images, Predictor, Support, TrainingPart
from mlfsic_bench.randomness import stream_seed

from .episodic import (
    EpisodicMethod,
    EpisodicParams,
    Shapes,
    Weights,
)

CHUNK = 64  # query images scored together


class RelationParams(EpisodicParams):
    """Parameters of the relation network."""

    steps: int = Field(1000, ge=0, description="training steps, each on one base episode")
    channels: int = Field(32, ge=1, description="channels that maps are reduced to, and of blocks")
    hidden: int = Field(8, ge=1, description="size of the layer before the score")
    ways: int = Field(16, ge=1, description="labels of a training episode")
    loss: Literal["bce", "mse"] = Field(
        "bce", description="of the relation score, a probability; mse in the paper"
    )


def reduced(weights: Weights, f_loc: Tensor) -> Tensor:
    """float [n, k, h, w]: local maps [n, c, h, w] with fewer channels."""
    return conv2d(f_loc, weights["reduce"], weights["reduce_bias"]).relu()


def mean_maps(maps: Tensor, Y: Tensor) -> Tensor:
    """float [L, k, h, w]: for each label the mean of the maps [s, k, h, w] of its images."""
    mean = Y.T @ maps.flatten(1) / Y.sum(0).clamp(min=1)[:, None]
    return mean.view(-1, *maps.shape[1:])


def relations(weights: Weights, query: Tensor, label: Tensor) -> Tensor:
    """float [q, L]: logits of all pairs of maps [q, k, h, w] and [L, k, h, w].

    A convolution of two maps side by side is the sum of one of each, so the first block convolves
    q + L maps and not q * L pairs of them.
    """
    k = query.shape[1]
    first = weights["block1"]
    x = conv2d(query, first[:, :k], padding=1)
    y = conv2d(label, first[:, k:], padding=1)
    z = (x[:, None] + y).flatten(0, 1)  # [q * L, k, h, w]
    z = _after(z, weights, "block1")
    z = _after(conv2d(z, weights["block2"], padding=1), weights, "block2")
    z = linear(z.flatten(1), weights["hidden"], weights["hidden_bias"]).relu()
    return linear(z, weights["out"], weights["out_bias"]).view(len(query), len(label))


def _after(z: Tensor, weights: Weights, block: str) -> Tensor:
    """What follows a convolution: normalisation, ReLU, and the maximum over 2 x 2 places."""
    # a scale starts from 0, as all vectors do, and is added to 1
    z = group_norm(z, 1, 1 + weights[f"{block}_scale"], weights[f"{block}_bias"])
    return max_pool2d(z.relu(), 2, ceil_mode=True)


class RelationNetwork(EpisodicMethod):
    """Sung, Yang, Zhang, Xiang, Torr and Hospedales, Learning to Compare, CVPR 2018.

    In the multi-label form of Simon, Koniusz and Harandi, Meta-Learning for Multi-Label Few-Shot
    Classification, WACV 2022: a label's map is made from the maps of all support images that carry
    it, and each label's score is a probability of its own.

        m_i = relu(A * f_i)                    A: 1 x 1 convolution to `channels` channels
        p_c = mean of m_i over the images i with label c
        r(x, c) = fc(fc(block2(block1([m_x, p_c]))))
        block = 3 x 3 convolution, normalisation, ReLU, maximum over 2 x 2 places

    Query and label map lie side by side along the channels, so the network compares what the two
    show at the same place. The score is the logit r; the relation score is sigmoid(r). Trained on
    base episodes: BCE of sigmoid(r) with the targets, as the WACV code has it, or with `loss=mse`
    their squared difference, as the CVPR paper has it.

    What we decided. Both originals train a small ConvNet end to end; here features are frozen by
    default and A, which takes its last layer's place, makes the rest affordable. A mean in place of
    their sum over the support images, since labels differ in the number of images. Normalisation
    over all channels and places of one pair in place of their batch normalisation, under which a
    score would depend on the other queries. Convolutions keep the size of the map, and the maximum
    keeps an incomplete row, so that any grid will do. An episode is trained with `ways` of its base
    labels, drawn at random, and the queries that carry one of them: originals train with 5 or 10
    labels too, and all base labels would be several times slower. Adam at 1e-3, as both; the rate
    falls on a cosine to a 32nd; no clipping of gradients (WACV: norm 0.5). A label without a
    support image has a map of zeros.
    """

    name = "relation-network"
    Params = RelationParams
    check_settings = {  # noqa: RUF012
        "steps": "4",
        "select_every": "2",
        "channels": "6",
        "ways": "4",
    }
    printed = "RelationNet"
    citation = (
        "Sung et al., Learning to Compare: Relation Network for Few-Shot Learning, CVPR 2018; "
        "multi-label form: Simon et al., WACV 2022"
    )
    bibtex = """\
@inproceedings{sung2018learning,
  title = {Learning to Compare: Relation Network for Few-Shot Learning},
  author = {Sung, Flood and Yang, Yongxin and Zhang, Li and Xiang, Tao and Torr, Philip H. S.
    and Hospedales, Timothy M.},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern
    Recognition (CVPR)},
  year = {2018}, doi = {10.1109/CVPR.2018.00131}
}
@inproceedings{simon2022meta,
  title = {Meta-Learning for Multi-Label Few-Shot Classification},
  author = {Simon, Christian and Koniusz, Piotr and Harandi, Mehrtash},
  booktitle = {Proceedings of the IEEE/CVF Winter Conference on Applications of Computer
    Vision (WACV)},
  pages = {3951--3960}, year = {2022}
}"""

    params: RelationParams

    def shapes(self, source: FeatureSource) -> Shapes:
        """The 1 x 1 convolution, the two blocks and the two layers of the relation module."""
        k, hidden = self.params.channels, self.params.hidden
        h, w = source.grid
        places = ((h + 3) // 4) * ((w + 3) // 4)  # after two maxima over 2 x 2
        shapes: Shapes = {"reduce": (k, source.channels, 1, 1), "reduce_bias": (k,)}
        for block, inputs in (("block1", 2 * k), ("block2", k)):
            shapes[block] = (k, inputs, 3, 3)
            shapes[f"{block}_scale"] = shapes[f"{block}_bias"] = (k,)
        shapes |= {"hidden": (hidden, k * places), "hidden_bias": (hidden,)}
        return shapes | {"out": (1, hidden), "out_bias": (1,)}

    def loss(self, weights: Weights, base: TrainingPart, number: int, seed: int) -> Tensor:
        """The loss on `ways` labels of base episode `number`."""
        episode = base.episode(number)
        support = episode.support
        rng = np.random.Generator(np.random.PCG64(stream_seed("relation/labels", seed, number)))
        labels = np.sort(rng.permutation(len(support.labels))[: self.params.ways]).tolist()
        Y_s, Y_q = support.targets[:, labels], episode.query_targets[:, labels]
        shown, asked = (Y.any(1).nonzero()[:, 0].tolist() for Y in (Y_s, Y_q))
        maps = reduced(weights, support.images.subset(shown).local())
        query = reduced(weights, episode.query.subset(asked).local())
        r = relations(weights, query, mean_maps(maps, Y_s[shown]))
        if self.params.loss == "mse":
            return mse_loss(r.sigmoid(), Y_q[asked])
        return binary_cross_entropy_with_logits(r, Y_q[asked])

    @torch.no_grad()
    def adapt(self, support: Support) -> Predictor:
        """Logits float32 [q, L] of the relation scores with the labels' maps."""
        weights = self.weights_for(support.images.source)
        maps = mean_maps(reduced(weights, support.images.local()), support.targets)

        def predictor(query: Images) -> Tensor:
            with torch.no_grad():
                places = range(len(query))
                chunks = [query.subset(places[i : i + CHUNK]) for i in places[::CHUNK]]
                return torch.cat(
                    [relations(weights, reduced(weights, chunk.local()), maps) for chunk in chunks]
                )

        return predictor

"""The losses of the paper's model: L_cmw, L_query and their sum L_all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from mlfsic_bench.methods.word_guided.attention_pool import by_label_count

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from mlfsic_bench.methods.contract import Images, Support, TrainingEpisode
    from mlfsic_bench.methods.word_guided.model import WordGuidedAttention


def features(images: Images, reads_local: bool) -> tuple[Tensor | None, Tensor]:
    """(f_loc [m, n, h, w] or None, f_glo [m, n]) of some images.

    A backbone in training is run once, its global features being the means of its local ones.
    """
    if images.source.trainable_parameters():
        f_loc = images.local()
        return f_loc, f_loc.mean((2, 3))
    return (images.local() if reads_local else None), images.pooled()


def sorted_support(support: Support) -> tuple[Images, Tensor]:
    """The support images and their targets [S, C], images with few labels first.

    Nothing that is computed from a support depends on the order of its images, and attention is
    fastest in this one. Sorting ids costs nothing; sorting feature maps would copy them.
    """
    order = by_label_count(support.targets)
    return support.images.subset(order), support.targets[order]


def bce(logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
    """Binary cross-entropy with logits over images and labels.

    The paper prints its sums without the minus sign; what is minimised here is their negative.
    """
    return functional.binary_cross_entropy_with_logits(
        logits, targets.to(logits.dtype), reduction=reduction
    )


def cmw_loss(model: WordGuidedAttention, f_glo: Tensor, targets: Tensor, w: Tensor) -> Tensor:
    """L_cmw: images f_glo [m, n] against projected label vectors w [C, d_w]; scalar."""
    return bce(model.score(model.f_hat(f_glo), model.w_hat(w)), targets, model.params.reduction)


def episode_loss(
    model: WordGuidedAttention, episode: TrainingEpisode, generator: Generator | None
) -> Tensor:
    """L_all = L_cmw + gamma L_query of one episode, a scalar; dropout from `generator`.

    Without the CMW loss (Table 3) L_query runs over the support and query images together.
    """
    support, query, p = episode.support, episode.query, model.params
    words = support.words
    assert words is not None
    images, targets = sorted_support(support)
    S = len(images)
    if query.source.trainable_parameters():
        # One batch through the backbone, so that batch norm sees support and query together.
        f_loc, f_glo = features(type(query)(images.ids + query.ids, query.source), True)
        assert f_loc is not None
        f_loc = f_loc[:S]
    else:
        f_loc, f_glo_S = features(images, model.reads_local)
        f_glo = torch.cat([f_glo_S, query.pooled()])
    f_hat = model.f_hat(f_glo)  # support and query in one product, and its gradient too
    prototypes = model.prototypes(f_loc, f_glo[:S], targets, words, generator)
    if not p.use_cmw_loss:
        both = torch.cat([targets, episode.query_targets])
        return bce(model.score(f_hat, prototypes), both, p.reduction)
    cmw = bce(model.score(f_hat[:S], model.w_hat(words)), targets, p.reduction)
    query_loss = bce(model.score(f_hat[S:], prototypes), episode.query_targets, p.reduction)
    return cmw + p.gamma * query_loss

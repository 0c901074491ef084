"""The label-count head: how many of an episode's labels an image shows, from its features alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import Images, Support, TrainingPart
from mlfsic_bench.training.light import LBFGS

MOST = 4  # the classes are 1, 2, 3, and 4 or more labels
PENALTIES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
BASE_IMAGES = (1.0, 4.0, 16.0, 64.0, math.inf)
WITHOUT_VAL = 30.0, 4.0  # (penalty, base images) where there is no val part to choose them on


@dataclass(frozen=True, eq=False)
class LabelCountHead:
    """After the neural label count of Simon, Koniusz and Harandi, WACV 2022; a linear head.

    (Meta-Learning for Multi-Label Few-Shot Classification.) A classifier of the number of labels
    is trained on the base part; at test a query image gets its so many highest-scored labels. It
    knows no method, so one head serves all methods that use the same features.

        p(k | x) = softmax_k(w_k . z + b_k),  k = 1, 2, 3, 4+     z: global vector, standardised
        loss = mean over base images of -log p(k_i | x_i) + penalty / 2 sum of w^2

    z has mean 0 and standard deviation 1 over the base images; k_i is the number of base labels
    that image i shows. One image with z = 0 is added for each class: where no base image shows 4
    labels, the head would otherwise never say so.

    What we decided. Their network sees a query and a support image, says how many labels the two
    show together, and the support images vote after their known counts are subtracted. This is
    multinomial logistic regression on the query image's frozen features; the support comes in by
    its counts alone. The number of labels depends on the list of labels: an image shows so many of
    52 base labels and so many of 16 novel ones. So the shares of the classes are replaced in each
    episode (Saerens, Latinne and Decaestecker, Neural Computation 14, 2002, for known shares):

        p_e(k | x) ~ p(k | x) s_e(k) / s(k)       s: shares of the base images
        s_e(k) = (n_k + m s(k)) / (n + m)         n_k of the n support images show k labels

    Support and query images of an episode are drawn in the same way, one or four for each label, so
    the support's counts say what to expect of the query; m says how many support images the base
    shares are worth, and with m = inf the support is not looked at. Penalty and m are those with
    the highest log-likelihood of the counts of the val episodes' query images. The count is the
    most probable k, the lowest of equals; "4+" is taken as 4.

    Attributes
    ----------
    mean, scale: float64 [d], of the base images' global vectors.
    weights: float64 [d + 1, 4], the biases in the last row. shares: float64 [4], s.
    penalty, base_images: float64 scalars, the choices; `base_images` is m.
    """

    mean: Tensor
    scale: Tensor
    weights: Tensor
    shares: Tensor
    penalty: Tensor
    base_images: Tensor

    @classmethod
    def fitted(cls, base: TrainingPart, val: TrainingPart | None) -> LabelCountHead:
        """The head of this base part, its two settings chosen on val. Nothing in it is random."""
        shown = base.targets.sum(1) >= 1
        if not shown.any():
            raise BenchError(
                "a label-count head needs base images that show labels",
                expected="at least one base image with a base label",
                found=f"{len(base.images)} base images without any",
                remedy="use more images",
            )
        x = base.images.pooled().double()[shown]
        k = classes_of(base.targets[shown])
        mean, scale = x.mean(0), x.std(0, correction=0).clamp(min=1e-6)
        # and one image at the mean for each class, so that none is unheard of
        x = with_ones(torch.cat([(x - mean) / scale, x.new_zeros(MOST, x.shape[1])]))
        k = torch.cat([k, torch.arange(MOST, device=k.device)])
        shares = torch.bincount(k, minlength=MOST).double() / len(k)
        W = x.new_zeros(x.shape[1], MOST)
        W[-1] = shares.log()
        heads: list[LabelCountHead] = []
        penalties = (WITHOUT_VAL[0],) if val is None else PENALTIES
        sizes = (WITHOUT_VAL[1],) if val is None else BASE_IMAGES
        for penalty in penalties:  # from strong to weak, each from where the last one ended
            W = solve(x, k, W, penalty)
            heads += [
                cls(mean, scale, W, shares, *(x.new_tensor(v) for v in (penalty, size)))
                for size in sizes
            ]
        if val is None:
            return heads[0]
        episodes = ValCounts.of(val)
        found = [assess(head, episodes).log_likelihood for head in heads]
        return heads[found.index(max(found))]

    def log_probabilities(self, query: Images, support: Support) -> Tensor:
        """float64 [q, 4]: log p_e(k | x) of each query image in the episode of this support."""
        n = torch.bincount(classes_of(support.targets), minlength=MOST)
        return self.corrected(self.logits(query.pooled()), n)

    def logits(self, x: Tensor) -> Tensor:
        """float64 [n, 4]: of p(k | x), from global vectors x [n, d]."""
        return with_ones((x.double() - self.mean) / self.scale) @ self.weights

    def corrected(self, logits: Tensor, n: Tensor) -> Tensor:
        """float64 [q, 4]: log p_e(k | x) for supports in which n_k images show k labels.

        `n` is int64 [4], or [q, 4] for images of several episodes.
        """
        s, m = self.shares, self.base_images
        if not math.isinf(float(m)):
            here = (n + m * s) / (n.sum(-1, keepdim=True) + m)
            logits = logits + (here / s).log()
        return logits.log_softmax(1)

    def counts(self, query: Images, support: Support) -> Tensor:
        """int64 [q]: how many of the support's L labels each query image shows, 1 to min(4, L)."""
        k = 1 + self.log_probabilities(query, support).argmax(1)
        return k.clamp(max=support.targets.shape[1])


@dataclass(frozen=True, eq=False)
class ValCounts:
    """The query images of all val episodes, gathered once.

    Attributes
    ----------
    x: float32 [i, d], global vectors of the distinct images. row: int64 [n], the image of each
        query. k: int64 [n], its class. support: int64 [n, 4], the classes of its support images.
    """

    x: Tensor
    row: Tensor
    k: Tensor
    support: Tensor

    @classmethod
    def of(cls, val: TrainingPart) -> ValCounts:
        """Those of the val part."""
        place: dict[str, int] = {}
        row, k, support = [], [], []
        for index in range(val.n_episodes or 0):
            episode = val.episode(index)
            row += [place.setdefault(image, len(place)) for image in episode.query.ids]
            k.append(classes_of(episode.query_targets))
            n = torch.bincount(classes_of(episode.support.targets), minlength=MOST)
            support.append(n.expand(len(k[-1]), -1))
        x = Images(tuple(place), val.images.source).pooled()
        return cls(x, torch.tensor(row, device=x.device), torch.cat(k), torch.cat(support))


@dataclass(frozen=True)
class CountQuality:
    """How well a head counts the labels of the val episodes' query images; means over all of them.

    `accuracy` and `error` (mean absolute) are of counts up to 4; `accuracy_of_one` and
    `error_of_one` are those of always saying 1.
    """

    log_likelihood: float
    accuracy: float
    error: float
    accuracy_of_one: float
    error_of_one: float


def assess(head: LabelCountHead, val: ValCounts) -> CountQuality:
    """The quality of a head on val."""
    log_p, k = head.corrected(head.logits(val.x)[val.row], val.support), val.k
    off = (log_p.argmax(1) - k).abs().double()
    likelihood = log_p.gather(1, k[:, None])
    means = (likelihood, (off == 0).double(), off, (k == 0).double(), k.double())
    return CountQuality(*(float(values.mean()) for values in means))


def classes_of(targets: Tensor) -> Tensor:
    """int64 [n]: the class of each image's number of labels, from 0 for one label (or none)."""
    return targets.sum(1).long().clamp(1, MOST) - 1


def with_ones(x: Tensor) -> Tensor:
    """[n, d + 1]: with a last column of ones, for the bias."""
    return torch.cat([x, x.new_ones(len(x), 1)], 1)


def solve(x: Tensor, k: Tensor, start: Tensor, penalty: float) -> Tensor:
    """float64 [d + 1, 4]: the minimum of the loss, by L-BFGS from `start`; the loss is convex.

    x: float64 [n, d + 1], the last column 1. k: int64 [n], classes from 0.
    """
    W = start.clone()
    W.grad = torch.zeros_like(W)
    steps = LBFGS(
        [W],
        max_iter=500,
        tolerance_grad=1e-8,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )
    target = torch.nn.functional.one_hot(k, MOST).to(x)

    @torch.no_grad()
    def loss() -> Tensor:
        log_p = (x @ W).log_softmax(1)
        free = W.clone()
        free[-1] = 0  # the biases are not penalised
        assert W.grad is not None
        W.grad.copy_(x.T @ (log_p.exp() - target) / len(x) + penalty * free)
        value: Tensor = -(log_p * target).sum() / len(x) + penalty / 2 * (free**2).sum()
        return value

    steps.step(loss)  # type: ignore[no-untyped-call]
    W.grad = None
    return W

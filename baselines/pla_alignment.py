"""Ordering the true labels of an image for its loss: predicted label alignment, and minimal loss.

Yazici, Gonzalez-Garcia, Ramisa, Twardowski and van de Weijer, Orderless Recurrent Models for
Multi-label Classification, CVPR 2020, section 3.2.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

Alignment = Literal["pla", "mla"]
IGNORED = -1


def order_labels(
    logp: npt.NDArray[np.floating], labels: npt.NDArray[np.int64], alignment: Alignment
) -> npt.NDArray[np.int64]:
    """The label that each of the first n steps has to predict, an ordering of `labels`.

    Parameters
    ----------
    logp: float [at least n, L + 1], log softmax of each step, the end token in the last column.
    labels: the n true labels of the image, distinct.
    alignment: `mla` is the ordering with the least -log p. `pla` first puts every true label that
        is predicted (the argmax of a step, the end token included) at one of the n steps at the
        first of these, and orders the others on the steps that remain, with the least -log p.

    A label first predicted after step n counts as not predicted. The original code searches all
    steps but moves labels within the first n, so there such a label stays wherever it happened to
    stand and is in no assignment either; here it takes part in the assignment (methodology, M32).
    """
    from scipy.optimize import linear_sum_assignment  # only here: listing methods stays quick

    n = len(labels)
    step_of: dict[int, int] = {}
    if alignment == "pla":
        for t, token in enumerate(logp[:n].argmax(1).tolist()):
            step_of.setdefault(token, t)
    kept = {int(label): step_of[label] for label in labels.tolist() if label in step_of}
    order = np.full(n, IGNORED, np.int64)
    for label, t in kept.items():
        order[t] = label
    steps = np.flatnonzero(order == IGNORED)
    others = np.array([label for label in labels.tolist() if label not in kept], np.int64)
    rows, columns = linear_sum_assignment(-logp[steps][:, others])
    order[steps[rows]] = others[columns]
    return order


def aligned(logits: Tensor, targets: Tensor, alignment: Alignment) -> Tensor:
    """The token that each step has to predict: an image's n labels, the end token, then nothing.

    Parameters
    ----------
    logits: float [b, T, L + 1], the end token last; T > n for every image.
    targets: float [b, L] of 0 and 1.

    Returns int64 [b, T] on the device of `logits`, IGNORED after the end token at step n.
    """
    logp = logits.detach().log_softmax(2).double().cpu().numpy()
    truth = targets.cpu().numpy() > 0
    b, T, end = logits.shape[0], logits.shape[1], logits.shape[2] - 1
    tokens = np.full((b, T), IGNORED, np.int64)
    for i in range(b):
        labels = np.flatnonzero(truth[i])
        tokens[i, : len(labels)] = order_labels(logp[i], labels, alignment)
        tokens[i, len(labels)] = end
    return torch.from_numpy(tokens).to(logits.device)


def alignment_loss(logits: Tensor, targets: Tensor, alignment: Alignment) -> Tensor:
    """Cross-entropy to the aligned tokens, the mean over all n + 1 steps of all images."""
    tokens = aligned(logits, targets, alignment)
    return cross_entropy(logits.flatten(0, 1), tokens.flatten(), ignore_index=IGNORED)

"""Random changes of training images: shift, contrast and flip, keyed by named streams.

Source: the baselines of MMCI-ML-FSIC and PLA shift by up to 3 %, change the contrast by up to 0.25
and flip half of the images (docs/methodology.md, M13).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mlfsic_bench.features.training_options import Augmentation
from mlfsic_bench.randomness import splitmix64_array

SHIFT = 0.03  # of the side, at most, in each direction
CONTRAST = 0.25  # the factor lies between 1 - CONTRAST and 1 + CONTRAST


def augmented(x: Tensor, kinds: Sequence[Augmentation], seeds: Sequence[int]) -> Tensor:
    """A changed copy of inputs float [n, 3, H, W], channels last in memory.

    Parameters
    ----------
    kinds: what is done. A kind draws the same numbers whichever others there are.
    seeds: the seed of each image's stream.

    `translate` shifts by whole pixels; what comes in repeats the border, since the papers' black
    would be another value in each network's normalisation. `contrast` scales the differences from
    the mean of each channel. `flip` mirrors left and right with probability 1/2.
    """
    n, _, height, width = x.shape
    words = splitmix64_array(
        np.array(seeds, np.uint64)[:, None], np.arange(4, dtype=np.uint64)[None]
    )
    u = torch.from_numpy(words >> np.uint64(11)).double() / 2**53  # [n, 4] in [0, 1)
    rows, columns = (
        torch.arange(side)[None] - _shift(part, side if "translate" in kinds else 0)[:, None]
        for part, side in ((u[:, 0], height), (u[:, 1], width))
    )
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    if "flip" in kinds:
        columns = torch.where(u[:, 3, None] < 0.5, columns.flip(1), columns)
    images = torch.arange(n, device=x.device)[:, None, None]
    moved = x.permute(0, 2, 3, 1)[
        images, rows.to(x.device)[:, :, None], columns.to(x.device)[:, None, :]
    ].permute(0, 3, 1, 2)
    if "contrast" in kinds:
        factor = (1 + CONTRAST * (2 * u[:, 2] - 1)).to(x)[:, None, None, None]
        mean = moved.mean(dim=(2, 3), keepdim=True)
        moved = mean + factor * (moved - mean)
    return moved


def _shift(u: Tensor, side: int) -> Tensor:
    """int64 [n] of -m ... m, m being SHIFT of the side, rounded."""
    most = round(SHIFT * side)
    return (u * (2 * most + 1)).long() - most

"""Merging batch norms into the convolutions before them: the same function, fewer passes."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mlfsic_bench.features.backbones.base import Backbone

T = TypeVar("T", bound=nn.Module)


def folded(backbone: Backbone) -> nn.Module:
    """A copy of the backbone in evaluation mode whose declared batch norms are merged.

    Equal to the original up to float32 rounding. Only what the backbone declares in
    `conv_norm_pairs` is merged, plus a convolution directly followed by a batch norm inside an
    `nn.Sequential`, where the order of calls is known.
    """
    result = copy.deepcopy(backbone).eval()
    pairs = getattr(backbone, "conv_norm_pairs", ())
    for module in list(result.modules()):
        names = list(pairs)
        if isinstance(module, nn.Sequential):
            children = list(module._modules)
            names += list(pairwise(children))
        for conv_name, norm_name in names:
            conv, norm = module._modules.get(conv_name), module._modules.get(norm_name)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    return result.requires_grad_(False)

"""Backbones by name, one (`resnet50`) or several side by side (`resnet50+vit_b_16`)."""

from __future__ import annotations

import importlib
from typing import cast

from mlfsic_bench.errors import unknown_name
from mlfsic_bench.features.backbones.base import Backbone
from mlfsic_bench.features.backbones.names import TABLE, backbone_names, split_name, split_weights

__all__ = ["backbone_names", "build_backbone", "build_backbones", "split_name", "split_weights"]


def build_backbone(name: str, weights: str = "default") -> Backbone:
    """The backbone `name`, one network, in evaluation mode on the CPU.

    `weights` is `default` (= `imagenet`; for the backbones of `scenes` those in the package),
    `none` (drawn from a named stream, the same every time) or the path of a state dict, loaded
    strictly. Raises BenchError for an unknown name, a failing download, or weights that do not fit.
    """
    if name not in TABLE:
        raise unknown_name("backbone", name, TABLE)
    module = importlib.import_module(TABLE[name])
    if weights == "default" and not name.startswith("scenes-"):
        weights = "imagenet"
    return cast(Backbone, module.build(name, weights).eval())


def build_backbones(name: str, weights: str = "default") -> tuple[Backbone, ...]:
    """The networks of `name`, in its order: one for `a`, two for `a+b`, and so on.

    `weights` is as in `build_backbone` and, for several networks, a keyword for all of them or one
    value for each, joined by +. Raises what `build_backbone` and `split_name` raise.
    """
    names = split_name(name)
    if len(names) == 1:
        return (build_backbone(name, weights),)
    for one in names:  # before the first is built: that may be a download
        if one not in TABLE:
            raise unknown_name("backbone", one, TABLE)
    each = split_weights(weights, names)
    return tuple(build_backbone(one, given) for one, given in zip(names, each, strict=True))

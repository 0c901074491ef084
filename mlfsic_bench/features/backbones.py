"""Backbones by name."""

from __future__ import annotations

import importlib
from typing import cast

from mlfsic_bench.errors import unknown_name
from mlfsic_bench.features.backbone import Backbone

# name -> module with `build(name, weights)`; imported only when that backbone is asked for
TABLE = {
    "resnet50": "mlfsic_bench.features.torchvision_models",
    "resnet101": "mlfsic_bench.features.torchvision_models",
    "vit_b_16": "mlfsic_bench.features.torchvision_models",
    "efficientnet-lite2": "mlfsic_bench.features.lite",
    "scenes-small": "mlfsic_bench.features.scenes_backbone",
}


def backbone_names() -> tuple[str, ...]:
    """The names `build_backbone` knows."""
    return tuple(TABLE)


def build_backbone(name: str, weights: str = "default") -> Backbone:
    """The backbone `name` in evaluation mode on the CPU.

    `weights` is `default` (= `imagenet`; for `scenes-small` the weights in the package), `none`
    (drawn from a named stream, the same every time) or the path of a state dict, loaded strictly.
    Raises BenchError for an unknown name, a failing download, or weights that do not fit.
    """
    if name not in TABLE:
        raise unknown_name("backbone", name, TABLE)
    module = importlib.import_module(TABLE[name])
    if name == "scenes-small":
        built = module.build(weights)
    else:
        built = module.build(name, "imagenet" if weights == "default" else weights)
    return cast(Backbone, built.eval())

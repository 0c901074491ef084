"""Backbones by name, one (`resnet50`) or several side by side (`resnet50+vit_b_16`).

Imports nothing heavy, so help texts can use it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from mlfsic_bench.errors import BenchError, unknown_name

if TYPE_CHECKING:
    from mlfsic_bench.features.backbones.base import Backbone


# name -> module with `build(name, weights)`; imported only when that backbone is asked for
TABLE = {
    "resnet50": "mlfsic_bench.features.backbones.torchvision_models",
    "resnet101": "mlfsic_bench.features.backbones.torchvision_models",
    "vit_b_16": "mlfsic_bench.features.backbones.torchvision_models",
    "efficientnet-lite2": "mlfsic_bench.features.backbones.lite",
    "scenes-small": "mlfsic_bench.features.backbones.scenes",
    "scenes-deep": "mlfsic_bench.features.backbones.scenes",
    "scenes-patch": "mlfsic_bench.features.backbones.scenes",
}
JOIN = "+"
KEYWORDS = ("default", "imagenet", "none")  # values of `weights` that mean the same to all networks


def backbone_names() -> tuple[str, ...]:
    """The names of single networks; `+` joins several of them (`features.backbones`)."""
    return tuple(TABLE)


def split_name(name: str) -> tuple[str, ...]:
    """`a+b` -> `("a", "b")`; whether a name is known is not asked here.

    Raises BenchError for an empty name and for one that stands twice.
    """
    names = tuple(name.split(JOIN))
    doubled = sorted({one for one in names if names.count(one) > 1 and one})
    if len(names) > 1 and ("" in names or doubled):
        raise BenchError(
            f"the backbone {name!r} is not a list of networks",
            expected="different names joined by +, such as resnet50+vit_b_16",
            found=f"{doubled[0]!r} twice" if doubled else "an empty name beside a +",
            remedy="correct --backbone",
        )
    return names


def split_weights(weights: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """What `weights` says for each of these networks: a keyword for all, or `W1+W2`.

    For one network it is taken as it stands. For several, every + divides, so the path of a file
    must not contain one. Raises BenchError when there are not as many values as networks.
    """
    if len(names) == 1:
        return (weights,)
    if weights in KEYWORDS:
        return (weights,) * len(names)
    each = tuple(weights.split(JOIN))
    if len(each) != len(names) or "" in each:
        raise BenchError(
            f"the weights {weights!r} do not say what each of {len(names)} networks gets",
            expected=f"one of {', '.join(KEYWORDS)} for all, or {len(names)} values joined by +, "
            f"for {', '.join(names)}",
            found=f"{len(each)} value{'s' if len(each) > 1 else ''}"
            + (", one of them empty" if "" in each else ""),
            remedy="name one for each network (default where there is nothing to say); a file with "
            "a + in its path must be renamed",
        )
    return each


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
    return cast("Backbone", module.build(name, weights).eval())


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

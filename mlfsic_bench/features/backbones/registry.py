"""Backbones by name, by file and as objects; several of them side by side.

A spec is `NAME`, `PROVIDER:NAME` or `path/to/file.py:build`, each optionally with `@VECTOR`; `+`
joins several. Names and providers come in by entry points, those of this project too. Importing
this module imports nothing heavy, so help texts can use it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from mlfsic_bench.errors import BenchError, nearest, unknown_name
from mlfsic_bench.paths import exists, is_folder
from mlfsic_bench.plugins.doors import Door
from mlfsic_bench.plugins.files import names_a_file

if TYPE_CHECKING:
    from torch import nn

    from mlfsic_bench.features.backbones.base import Backbone

EXAMPLE = "path/to/file.py:build"
BACKBONES = Door("mlfsic_bench.backbones", "backbone", callable, EXAMPLE)
PROVIDERS = Door("mlfsic_bench.backbone_providers", "backbone provider")
JOIN = "+"
KEYWORDS = ("default", "imagenet", "none")  # values of `weights` that mean the same to all networks


@dataclass(frozen=True)
class Spec:
    """What names one network.

    Attributes
    ----------
    provider: the name of its provider; empty for a registered name and for a file.
    name: what the provider, the entry point or the file is asked for.
    vector: what stands behind `@`, or None.
    """

    provider: str
    name: str
    vector: str | None

    @property
    def is_file(self) -> bool:
        """Whether it is a function in a file."""
        return not self.provider and names_a_file(self.name)

    def as_name(self, name: str) -> str:
        """`name` with the vector, as it stands in records."""
        return f"{name}@{self.vector}" if self.vector else name


def parse_spec(one: str) -> Spec:
    """The parts of a spec of one network; whether there is such a network is not asked here.

    >>> parse_spec("timm:vit_base_patch16_224@mean")
    Spec(provider='timm', name='vit_base_patch16_224', vector='mean')
    >>> parse_spec("nets/mine.py:build").provider
    ''
    """
    name, _, vector = one.rpartition("@")
    if not name or not re.fullmatch("[a-z]*", vector):
        name, vector = one, ""
    provider, colon, rest = name.partition(":")
    if not colon or names_a_file(name):
        return Spec("", name, vector or None)
    return Spec(provider, rest, vector or None)


def backbone_names() -> tuple[str, ...]:
    """The registered names of single networks, sorted."""
    return BACKBONES.names()


def provider_names() -> tuple[str, ...]:
    """What may stand before the colon of a spec, sorted."""
    return PROVIDERS.names()


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


def build_backbone(spec: str, weights: str = "default") -> Backbone:
    """The backbone that `spec` names, one network, in evaluation mode on the CPU.

    `weights` is `default`, `imagenet` where the backbone knows these, `none` (drawn from a named
    stream, the same every time) or the path of a state dict, loaded strictly. Nothing is
    downloaded. Raises BenchError for an unknown name, for weights that are not on this machine or
    do not fit, and for what fails in a plug-in.
    """
    from mlfsic_bench.features.backbones.weights import initialised
    from mlfsic_bench.offline import offline
    from mlfsic_bench.plugins.foreign import plugin_call

    parsed = parse_spec(spec)
    make = find_builder(spec)
    with plugin_call("backbone", spec, "while it was built"), offline():
        # random weights that a builder draws are the same every time
        made = initialised(lambda: make(weights), spec)
        backbone = as_built(made, spec)
    return _identified(backbone, parsed, spec)


def build_backbones(
    given: str | Backbone | tuple[nn.Module, Any] | Sequence[Backbone], weights: str = "default"
) -> tuple[Backbone, ...]:
    """The networks that `given` names or is, in their order: one for `a`, two for `a+b`, and so on.

    Parameters
    ----------
    given: a spec; a Backbone or several; or a pair (module, transform), as `as_backbone` takes it.
    weights: of a spec, as in `build_backbone`; for several networks a keyword for all of them or
        one value for each, joined by +.

    Raises what `build_backbone`, `split_name` and `as_backbone` raise.
    """
    if not isinstance(given, str):
        return _objects(given)
    names = split_name(given)
    for one in names:  # all of them before the first is built, which may take long
        find_builder(one)
    each = split_weights(weights, names)
    return tuple(build_backbone(one, its) for one, its in zip(names, each, strict=True))


def as_built(made: object, spec: str) -> Backbone:
    """What a builder returned, as a Backbone; BenchError when it is none."""
    from mlfsic_bench.features.backbones.base import Backbone
    from mlfsic_bench.features.backbones.objects import as_backbone, shown

    if isinstance(made, tuple) and len(made) == 2:
        module, transform = made
        file = PurePath(parse_spec(spec).name).name if names_a_file(spec) else spec
        made = as_backbone(module, transform, name=file)
    if not isinstance(made, Backbone):
        raise BenchError(
            f"{spec} gives no backbone",
            expected="a Backbone, or a pair (nn.Module, transform)",
            found=shown(made),
            remedy="return one of these from build(weights); docs/backbones.md has a template",
        )
    return _sound(made, spec).eval()


def _sound(backbone: Backbone, spec: str) -> Backbone:
    """`backbone`, when a feature store can be made of what it says of itself; else BenchError."""
    from mlfsic_bench.features.store.manifest import LARGEST, LONGEST
    from mlfsic_bench.schema import is_plain

    b: Any = backbone
    texts = {"name": b.name, "vector": b.vector, "id of its transform": b.transform_id}
    numbers: dict[str, Any] = {"channels": b.channels, "dim": b.dim, "input_size": b.input_size}
    pair = isinstance(b.grid, Sequence) and len(b.grid) == 2
    grid: list[Any] = list(b.grid) if pair else [b.grid, b.grid]
    numbers |= {"grid height": grid[0], "grid width": grid[1]}
    expected = found = ""
    for what, text in texts.items():
        if not is_plain(text) or len(text) > LONGEST or (what == "name" and JOIN in text):
            expected = f"{what}: one line of plain text of at most {LONGEST} characters"
            expected += f", without {JOIN}" if what == "name" else ""
            found = f"{what} {text!r:.80}"
    for what, number in numbers.items():
        whole = isinstance(number, Integral) and not isinstance(number, bool)
        if not whole or not 0 < number <= LARGEST:
            expected = f"{what}: a whole number from 1 to {LARGEST}"
            found = f"{what} {number!r:.80}"
    if found:
        raise BenchError(
            f"{spec} can't be used as a backbone",
            expected=expected,
            found=found,
            remedy="correct it where the Backbone is made (docs/backbones.md)",
        )
    b.channels, b.dim, b.input_size = int(b.channels), int(b.dim), int(b.input_size)
    b.grid = (int(grid[0]), int(grid[1]))
    return backbone


def known_spec(name: str) -> str:
    """`name`, when it can be looked up without opening a file that it names; BenchError otherwise.

    For names out of files of others: registered ones and those of providers, each with @VECTOR,
    joined by +.
    """
    for one in split_name(name):
        parsed = parse_spec(one)
        plain = re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", parsed.name, re.ASCII)
        if parsed.provider in provider_names() and plain:
            continue
        if parsed.provider or parsed.name not in backbone_names():
            raise unknown_name("backbone in a file", one, backbone_names())
    return name


def is_own(name: str) -> bool:
    """Whether all of these networks are made by code of this project, from a library or not."""
    return all(
        bool(PROVIDERS.own_place(one.provider) if one.provider else BACKBONES.own_place(one.name))
        for one in map(parse_spec, split_name(name))
    )


def find_builder(spec: str) -> Callable[[str], object]:
    """What makes the network that `spec` names, given the weights; BenchError when nothing does."""
    import inspect

    parsed = parse_spec(spec)
    if parsed.provider:
        if parsed.provider not in provider_names():
            close = nearest(parsed.provider, provider_names())
            raise BenchError(
                f"unknown provider of backbones {parsed.provider!r} in {spec!r}",
                expected=f"one of: {', '.join(provider_names())}",
                found=repr(parsed.provider),
                remedy=f"did you mean {close}:{parsed.name}?"
                if close
                else f"see `mlfsic-bench backbones list`; a file is named {EXAMPLE}",
            )
        provider: Any = PROVIDERS.find(parsed.provider)
        own = None if parsed.vector == "mean" else parsed.vector
        return lambda weights: provider(parsed.name, weights, own)
    if not parsed.is_file and parsed.name not in backbone_names():
        raise _unknown(parsed.name)
    found: Any = BACKBONES.find(parsed.name)
    if not callable(found):
        raise BenchError(
            f"{spec} is no function that builds a backbone",
            expected="def build(weights: str) -> Backbone, or a pair (nn.Module, transform)",
            found=f"a {type(found).__name__}",
            remedy="name the function; `mlfsic-bench backbones new FILE.py` writes a template",
        )
    if parsed.vector in (None, "mean"):
        return lambda weights: found(weights)
    if "vector" not in inspect.signature(found).parameters:
        raise BenchError(
            f"the backbone {parsed.name} has no choice of global vectors",
            expected="@mean, or none for its own",
            found=f"@{parsed.vector}",
            remedy="in a file of your own, write def build(weights, vector=None)",
        )
    return lambda weights: found(weights, vector=parsed.vector)


def _unknown(name: str) -> BenchError:
    """What to say of a name that is not registered."""
    error = unknown_name("backbone", name, backbone_names())
    error.expected += f"; timm:NAME, torchvision:NAME, open_clip:ARCH/PRETRAINED, hf:ID; {EXAMPLE}"
    place = Path(name)
    if exists(place / "manifest.json"):
        error.remedy = f"a folder of features is named with --features-pack {name}"
    elif is_folder(place):
        error.remedy = f"a folder of transformers is named hf:./{name.removeprefix('./')}"
    else:
        close = nearest(name, backbone_names())
        error.remedy = (f"did you mean {close!r}? " if close else "") + (
            f"a network of a library has the library in front, such as timm:{name}"
        )
    return error


def _identified(backbone: Backbone, parsed: Spec, spec: str) -> Backbone:
    """The backbone under its name; of a file, the hash of the file goes into the identity."""
    from mlfsic_bench.hashing import hash_json
    from mlfsic_bench.plugins.files import source_hash

    if parsed.vector == "mean":
        backbone.use_mean()
    if parsed.provider:
        backbone.name = parsed.as_name(f"{parsed.provider}:{backbone.name}")
        return backbone
    if not parsed.is_file:
        backbone.name = spec
        return backbone
    if backbone.name in backbone_names() or parse_spec(backbone.name).provider in provider_names():
        raise BenchError(
            f"{spec} calls itself {backbone.name!r}, which is the name of another backbone",
            expected="a name of its own",
            found=f"name={backbone.name!r}",
            remedy=f"change the name in the file, for example to 'my-{backbone.name}'",
        )
    backbone.name = parsed.as_name(backbone.name)
    backbone.weights_hash = hash_json([backbone.weights_hash, source_hash(parsed.name)])
    return backbone


def _objects(given: Any) -> tuple[Backbone, ...]:
    from mlfsic_bench.features.backbones.base import Backbone

    if isinstance(given, Backbone):
        return (_sound(given, "this object").eval(),)
    each = list(given) if isinstance(given, tuple | list) else []
    if each and all(isinstance(one, Backbone) for one in each):
        split_name(JOIN.join(one.name for one in each))
        return tuple(_sound(one, "one of these objects").eval() for one in each)
    if isinstance(given, tuple) and len(given) == 2:
        return (as_built(given, type(given[0]).__name__),)
    raise BenchError(
        f"a {type(given).__name__} is no backbone",
        expected="a name, a Backbone, or a pair (nn.Module, transform)",
        found=f"a {type(given).__name__}",
        remedy="make one: mlfsic_bench.as_backbone(network, transform, name=...)",
    )

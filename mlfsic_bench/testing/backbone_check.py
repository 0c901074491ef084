"""The contract tests of a backbone: `check_backbone(make)` returns one result for each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.base import MEAN, Backbone, folded
from mlfsic_bench.features.backbones.objects import shown, trial_image
from mlfsic_bench.plugins.surroundings import Surroundings, watching
from mlfsic_bench.testing.contract import (
    Check,
    CheckFailedError,
    CheckNotMadeError,
    Checks,
    CheckWarningError,
    run_check,
)
from mlfsic_bench.testing.process import CheckResult

SIZES = ((150, 100), (60, 90), (33, 33))
TOLERANCE = 1e-3  # relative to the largest value: float32 sums in another order
CHECKS = Checks()


class BackboneBench:
    """The backbone under test, built once, and what it makes of a few images.

    `make` builds it; it may be called again. Tests must leave `backbone` as it is.
    """

    def __init__(self, make: Callable[[], Backbone]) -> None:
        self.make = make
        self.backbone = make()

    @property
    def images(self) -> list[Image]:
        """Three images of different shapes, made anew each time."""
        return [trial_image(k, size) for k, size in enumerate(SIZES)]

    @cached_property
    def inputs(self) -> Tensor:
        """float32 [3, 3, H, H] of three images; CheckNotMadeError where the transform is wrong."""
        made = [self.backbone.transform(image) for image in self.images]
        if not all(_is_input(x, self.backbone.input_size) for x in made):
            raise CheckNotMadeError("the test `transform` says what is wrong with the inputs")
        return torch.stack(made)

    def run(self, x: Tensor, backbone: Backbone | None = None) -> tuple[Any, Any]:
        """What `features` gives, whatever that is."""
        with torch.no_grad():
            made = (backbone or self.backbone).features(x)
        if not isinstance(made, tuple) or len(made) != 2:
            raise CheckFailedError(
                "The network was given a batch through `features`.",
                expected="a pair (maps [n, c, h, w], vectors [n, d])",
                came=shown(made),
                cause="`features` is overridden, or the body returns more than two things",
                remedy="let the body return the maps, or a pair (maps, vectors)",
            )
        return made

    def features(self, x: Tensor, backbone: Backbone | None = None) -> tuple[Tensor, Tensor]:
        """The same, of the right shapes; CheckNotMadeError where they are wrong."""
        maps, vectors = self.run(x, backbone)
        b = self.backbone
        fine = isinstance(maps, Tensor) and isinstance(vectors, Tensor)
        if not fine or maps.shape != (len(x), b.channels, *b.grid):
            raise CheckNotMadeError("the test `maps` says what is wrong with the maps")
        if vectors.shape != (len(x), b.dim):
            raise CheckNotMadeError("the test `vector` says what is wrong with the vectors")
        if not (torch.isfinite(maps).all() and torch.isfinite(vectors).all()):
            raise CheckNotMadeError("its features are not finite")
        return maps.float(), vectors.float()

    @cached_property
    def apart(self) -> float:
        """How far the first passes of the same inputs are from each other."""
        fresh = self.make()
        passes = [self.features(self.inputs, fresh) for _ in range(2)]
        passes.append(self.features(self.inputs))
        return max(
            _apart(a, b) for other in passes[1:] for a, b in zip(passes[0], other, strict=True)
        )

    def steady(self) -> tuple[Tensor, Tensor]:
        """The features of the inputs; CheckNotMadeError where two passes differ."""
        if self.apart > TOLERANCE:
            raise CheckNotMadeError("the test `deterministic` says what is wrong")
        return self.features(self.inputs)

    def copy(self) -> Backbone:
        """A copy of the backbone; CheckNotMadeError where it can't be copied."""
        try:
            return copy.deepcopy(self.backbone)
        except Exception as error:
            raise CheckNotMadeError("the test `copy` says why it can't be copied") from error


def check_backbone(make: Callable[[], Backbone]) -> Iterator[CheckResult]:
    """Run all contract tests on what `make` builds; the first is the building itself."""
    bench: list[BackboneBench] = []

    def build(_: object) -> None:
        bench.append(BackboneBench(make))

    first = Check("build", "the backbone can be built", build)
    result = run_check(first, None, "backbone")
    yield result
    for check in CHECKS if bench else ():
        yield run_check(check, bench[0], "backbone")


# -- the transform ------------------------------------------------------------------------------


@CHECKS.add("transform", "the transform gives float32 [3, H, H] of any image")
def transform(bench: BackboneBench) -> None:
    """Type, shape and values of what the transform gives."""
    side = bench.backbone.input_size
    for image in bench.images:
        made: Any = bench.backbone.transform(image)
        if not _is_input(made, side):
            raise CheckFailedError(
                f"The transform was given an image of {image.size[0]} x {image.size[1]} pixels.",
                expected=f"torch.float32 [3, {side}, {side}]",
                came=shown(made),
                cause="an image whose shape is kept, or a result in bytes (uint8) or float64",
                remedy="resize to one square size, and make a float32 tensor with 3 channels",
            )
        if not torch.isfinite(made).all():
            raise CheckFailedError(
                "The transform was given an image.",
                expected="finite values",
                came="NaN or infinity",
                cause="a division by a standard deviation of 0",
                remedy="correct the normalisation",
            )


@CHECKS.add("transform-same", "the same image gives the same input, whatever came before")
def transform_same(bench: BackboneBench) -> None:
    """Nothing random in the transform, and nothing that it remembers."""
    make = bench.backbone.transform
    first, again = make(bench.images[0]), make(bench.images[0])
    _same(first, again, "one image twice", "a random crop, flip or colour", "evaluation")
    for image in bench.images[1:]:
        make(image)
    later = make(bench.images[0])
    _same(
        first,
        later,
        "an image, then others, then that image again",
        "a transform that keeps something of the images it saw, such as a running mean",
        "one image alone",
    )


def _same(first: Any, second: Any, done: str, cause: str, kind: str) -> None:
    if not torch.equal(torch.as_tensor(first), torch.as_tensor(second)):
        raise CheckFailedError(
            f"The transform was given {done}.",
            expected="the same input",
            came="two that differ",
            cause=cause,
            remedy=f"use the transform of {kind}: features are stored once for each image",
        )


@CHECKS.add("transform-image", "the transform leaves the image as it is")
def transform_image(bench: BackboneBench) -> None:
    """The image is not changed in place."""
    image = bench.images[0]
    before = np.asarray(image).copy()
    bench.backbone.transform(image)
    if not np.array_equal(before, np.asarray(image)):
        raise CheckFailedError(
            "The transform was given an image.",
            expected="the image unchanged afterwards",
            came="an image with other pixels",
            cause="an operation in place, such as thumbnail() or paste()",
            remedy="work on a copy: image.copy()",
        )


# -- the network --------------------------------------------------------------------------------


@CHECKS.add("maps", "the maps are [n, c, h, w] as declared, and finite")
def maps(bench: BackboneBench) -> None:
    """Shape, type and values of the maps."""
    b = bench.backbone
    found, _ = bench.run(bench.inputs)
    expected = [len(bench.inputs), b.channels, *b.grid]
    done = f"The network was given inputs {list(bench.inputs.shape)}."
    if not isinstance(found, Tensor) or list(found.shape) != expected:
        cause, remedy = _shape_fault(found, b)
        raise CheckFailedError(
            done,
            expected=f"maps {expected}: channels={b.channels}, grid={b.grid}",
            came=shown(found),
            cause=cause,
            remedy=remedy,
        )
    if found.dtype != torch.float32:
        raise CheckFailedError(
            done,
            expected="float32 maps of float32 inputs",
            came=shown(found),
            cause="a network that converts its input or its weights, such as .half()",
            remedy="build it with .float(); --precision chooses the arithmetic",
        )
    _finite(found, "maps")
    if b.grid == (1, 1):
        raise CheckWarningError(
            done,
            expected="a map of several places",
            came="a map of one place",
            cause="a network with its last pooling left in, or a class token instead of a map",
            remedy="return what comes before the pooling: methods with attention need places",
        )


def _shape_fault(found: Any, b: Backbone) -> tuple[str, str]:
    if isinstance(found, Tensor) and found.dim() == 3:
        return (
            "tokens [n, t, d], a class token among them perhaps, instead of a map",
            "use as_backbone(..., prefix_tokens=1), or drop the class token and reshape",
        )
    if not isinstance(found, Tensor) or found.dim() != 4:
        return (
            "a class token or a pooled vector where a map was promised",
            "return what comes before the last pooling, [n, c, h, w]",
        )
    _, c, h, w = found.shape
    if c == b.channels and (w, h) == b.grid:
        return "height and width in the wrong order", f"declare grid=({h}, {w}): rows first"
    if w == b.channels:
        return "channels last [n, h, w, c]", "permute the map to [n, c, h, w]"
    return (
        "channels or grid that belong to another network or input size",
        f"declare channels={c}, grid=({h}, {w}), or let as_backbone find them",
    )


@CHECKS.add("vector", "the global vectors are [n, d] as declared, and finite")
def vector(bench: BackboneBench) -> None:
    """Shape and values of the global vectors; those called `mean` are the means of the maps."""
    b = bench.backbone
    found_maps, found = bench.run(bench.inputs)
    done = f"The network was given inputs {list(bench.inputs.shape)}."
    width = found_maps.shape[1] if isinstance(found_maps, Tensor) and found_maps.dim() > 1 else 0
    if b.vector == MEAN and width != b.channels:
        raise CheckNotMadeError("the test `maps` says what is wrong with the maps")
    if not isinstance(found, Tensor) or found.shape != (len(bench.inputs), b.dim):
        raise CheckFailedError(
            done,
            expected=f"vectors [{len(bench.inputs)}, {b.dim}]: dim={b.dim}",
            came=shown(found),
            cause="a wrong dim=, or a vector that still has places (tokens)",
            remedy="declare the width of what the network returns, or let as_backbone find it",
        )
    _finite(found, "vectors")
    if b.vector == MEAN and isinstance(found_maps, Tensor) and found_maps.dim() == 4:
        mean = found_maps.float().mean(dim=(2, 3))
        if mean.shape != found.shape or _apart(mean, found) > TOLERANCE:
            raise CheckFailedError(
                done,
                expected="vector='mean': the mean of the map over its places",
                came="other vectors",
                cause="a vector of another kind (a norm after the mean, a class token)",
                remedy="say what it is with vector=, such as 'class token' or 'projection'",
            )


def _finite(found: Tensor, what: str) -> None:
    if not torch.isfinite(found).all():
        raise CheckFailedError(
            "The network was given three images.",
            expected=f"finite {what}",
            came="NaN or infinity",
            cause="weights that were never loaded, or a division by 0",
            remedy="look at the network's outputs layer by layer",
        )


@CHECKS.add("deterministic", "the same input gives the same features")
def deterministic(bench: BackboneBench) -> None:
    """Two passes of one input."""
    if bench.apart > TOLERANCE:
        raise CheckFailedError(
            "One batch was run twice.",
            expected="the same features",
            came=f"a difference of {bench.apart:.1%} of the largest value",
            cause="dropout or noise that is on in evaluation mode, or a state that each pass moves",
            remedy="make it depend on self.training",
        )


@CHECKS.add("alone", "an image's features don't depend on the others in its batch")
def alone(bench: BackboneBench) -> None:
    """One image, alone and in a batch."""
    together = bench.steady()
    single = [bench.features(bench.inputs[k : k + 1]) for k in range(len(bench.inputs))]
    by_kind = [torch.cat(parts) for parts in zip(*single, strict=True)]
    apart = max(map(_apart, together, by_kind))
    if apart > TOLERANCE:
        training = [n for n, m in bench.backbone.named_modules() if m.training]
        raise CheckFailedError(
            "Three images were run one by one, and in one batch.",
            expected="the same features",
            came=f"a difference of {apart:.1%} of the largest value",
            cause=f"batch norm in training mode ({training[0] or 'the whole network'})"
            if training
            else "a norm, a mean or an attention over the batch",
            remedy="leave eval() in force: do not override train(), and use running statistics",
        )


@CHECKS.add("unchanged", "a pass changes neither the network nor the process")
def unchanged(bench: BackboneBench) -> None:
    """Weights, device, dtype, mode, and all that `surroundings` knows."""
    b = bench.make()  # that no pass has changed yet
    before = {key: value.detach().clone() for key, value in b.state_dict().items()}
    modes = [module.training for module in b.modules()]
    around = Surroundings()
    with watching() as changed:
        bench.run(bench.inputs, b)
        around.restore()
    if changed:
        raise CheckFailedError(
            "The network was run on a batch.",
            expected="everything outside the network as before",
            came=f"other values of {', '.join(sorted(changed))}",
            cause="a draw from a global generator, or a setting of torch that is changed",
            remedy="use a torch.Generator of your own, or nothing random at all",
        )
    after = b.state_dict()
    moved = [k for k, v in before.items() if k not in after or not _as_before(v, after[k])]
    moved += ["train() or eval()"] * (modes != [module.training for module in b.modules()])
    if moved or list(after) != list(before):
        raise CheckFailedError(
            "The network was run on a batch.",
            expected="the same weights, of the same type and on the same device, and mode",
            came=f"a change of {', '.join(moved[:3])}",
            cause="a buffer that counts passes, or .to(...), .half(), .train() inside forward",
            remedy="let forward only compute; what it must remember belongs outside of the state",
        )


def _as_before(one: Tensor, other: Tensor) -> bool:
    if (one.dtype, one.device, one.shape) != (other.dtype, other.device, other.shape):
        return False
    return torch.equal(one.nan_to_num(), other.nan_to_num())


@CHECKS.add("same-weights", "building it twice gives the same weights")
def same_weights(bench: BackboneBench) -> None:
    """The hash of the weights of two builds."""
    other = bench.make()
    if other.weights_hash != bench.backbone.weights_hash:
        raise CheckFailedError(
            "The backbone was built twice.",
            expected=f"the same hash of the weights, {bench.backbone.weights_hash[:12]}",
            came=other.weights_hash[:12],
            cause="random weights from a generator that is not seeded (numpy, the time)",
            remedy="draw from torch's global generator, which is seeded around build, or load "
            "the weights from a file",
        )
    if other.transform_id != bench.backbone.transform_id:
        raise CheckFailedError(
            "The backbone was built twice.",
            expected=f"the same transform, {bench.backbone.transform_id}",
            came=other.transform_id,
            cause="an id with an address or a random part",
            remedy="give a fixed text as transform_id",
        )


@CHECKS.add("copy", "a copy of it gives the same features")
def copied(bench: BackboneBench) -> None:
    """What extraction does first."""
    here = bench.steady()
    try:
        other = copy.deepcopy(bench.backbone)
    except Exception as error:
        raise CheckFailedError(
            "The backbone was copied with copy.deepcopy.",
            expected="a copy",
            came=f"{type(error).__name__}: {error}",
            cause="a lock, a file, a thread or a generator kept in the network",
            remedy="make it when it is needed, or write __deepcopy__; extraction runs a copy",
        ) from error
    if max(map(_apart, here, bench.features(bench.inputs, other))) > TOLERANCE:
        raise CheckFailedError(
            "The backbone was copied with copy.deepcopy.",
            expected="a copy with the same features",
            came="other features",
            cause="an override of __deepcopy__ or __getattr__, or weights outside of parameters",
            remedy="keep weights as parameters or buffers",
        )


@CHECKS.add("folded", "merging its batch norms changes nothing")
def merged(bench: BackboneBench) -> None:
    """What extraction runs, beside what is declared."""
    whole = bench.steady()
    quick = bench.features(bench.inputs, folded(bench.copy()))
    apart = max(map(_apart, whole, quick))
    if apart > TOLERANCE:
        pairs = bench.backbone.conv_norm_pairs
        raise CheckFailedError(
            "The batch norms were merged into the convolutions before them, as extraction does.",
            expected="the same features",
            came=f"a difference of {apart:.1%} of the largest value",
            cause=f"a pair in conv_norm_pairs={pairs} with something between the two"
            if pairs
            else "an nn.Sequential whose parts are also called by themselves",
            remedy="declare only pairs that follow each other directly",
        )


@CHECKS.add("weights-move", "all weights move with it to another type")
def weights_move(bench: BackboneBench) -> None:
    """A copy in float64 gives the same features: no tensor is left behind."""
    other = bench.copy().double()
    found, _ = bench.run(bench.inputs.double(), other)
    if isinstance(found, Tensor) and found.dtype != torch.float64:
        raise CheckFailedError(
            "A copy was converted to float64 and run, as --device and --precision convert it.",
            expected="maps in float64",
            came=shown(found),
            cause="a forward that names a type or a device, such as .float() or .cpu()",
            remedy="use x.dtype and x.device, and register tensors as parameters or buffers",
        )


@CHECKS.add("trainable", "gradients reach its weights")
def trainable(bench: BackboneBench) -> None:
    """What a run end to end needs."""
    b = bench.copy().requires_grad_(True)
    if next(b.parameters(), None) is None:
        raise CheckNotMadeError("it has no parameters")
    with torch.enable_grad():
        found: Any = b.features(bench.inputs[:1])[0]
    if not isinstance(found, Tensor) or not found.requires_grad:
        raise CheckWarningError(
            "The network was run with gradients.",
            expected="maps with a graph behind them",
            came="maps without one",
            cause="torch.no_grad(), inference_mode() or detach() in forward",
            remedy="remove it, where the network is to be trained end to end (`--features live`)",
        )


@CHECKS.add("text", "its text side gives vectors in the space of its global vector")
def text_side(bench: BackboneBench) -> None:
    """Shape and type of two encoded texts."""
    side = bench.backbone.text
    if side is None:
        raise CheckNotMadeError("it has no text side")
    try:
        found: Any = side.encode(["a cat", "a photo of a dog"])
    except BenchError as error:
        raise CheckNotMadeError(f"{error.what}: {error.found}") from error
    right = isinstance(found, np.ndarray) and found.dtype == np.float32
    if not right or found.shape != (2, bench.backbone.dim) or not np.isfinite(found).all():
        raise CheckFailedError(
            "Two texts were encoded.",
            expected=f"finite numpy float32 [2, {bench.backbone.dim}]",
            came=f"{getattr(found, 'dtype', type(found).__name__)} {getattr(found, 'shape', '')}",
            cause="a text side of another network, or vectors as tensors",
            remedy="encode into the space of the global vector",
        )


def _is_input(x: Any, side: int) -> bool:
    return isinstance(x, Tensor) and x.dtype == torch.float32 and x.shape == (3, side, side)


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    if one.shape != other.shape:
        return float("inf")
    size = max(float(one.abs().max()), 1e-12)
    difference = (one.double() - other.double()).abs().max()
    return float(difference) / size if torch.isfinite(difference) else float("inf")

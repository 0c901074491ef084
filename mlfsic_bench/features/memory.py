"""The memory of a training step: estimated before the first one, and saved by computing again.

What fills a memory is what the network keeps of every image until its gradient is due. Two ways
keep less and give the same gradients: micro-batches go through the network twice, activation
checkpointing computes each block of it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mlfsic_bench.errors import BenchError

if TYPE_CHECKING:
    from mlfsic_bench.features.backbones.base import Backbone
    from mlfsic_bench.features.store.manifest import Precision
    from mlfsic_bench.features.training_options import Training

CONTAINERS = (nn.Sequential, nn.ModuleList)
GB = 1e9
TIGHT = 0.8  # share of the free memory from which on it is said
SMALLEST = 8  # images of a micro-batch that is proposed


# -- computing again -----------------------------------------------------------------------------


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """The batch norms in a network."""
    return [one for one in module.modules() if isinstance(one, _BatchNorm)]


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """The blocks of a network: modules with parts of their own, in a Sequential or a ModuleList.

    The stages of a ResNet are such lists themselves; their blocks are what is meant.
    """
    found: list[nn.Module] = []
    for child in module.children():
        whole = isinstance(module, CONTAINERS) and not isinstance(child, CONTAINERS)
        if whole and next(child.children(), None) is not None:
            found.append(child)
        else:
            found += blocks_of(child)
    return found


def computed_again(function: Callable[..., Any], module: nn.Module) -> Callable[..., Any]:
    """`function`, which calls `module`, keeping only its inputs for the backward pass.

    The second time it draws the same random numbers, under the same autocast, and batch norms don't
    count the images again in their running statistics.
    """
    norms = batch_norms(module)

    def called(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(
            function,
            *args,
            use_reentrant=False,
            early_stop=False,  # it stops by an exception, which a network may catch
            context_fn=lambda: (nullcontext(), _not_counted(norms)),
            **kwargs,
        )

    return called


@contextmanager
def _not_counted(norms: list[_BatchNorm]) -> Iterator[None]:
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms if norm.training]
    for norm, _, count in before:
        norm.momentum = 0.0  # what is there already counts in full
        norm.num_batches_tracked = None if count is None else count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count


def checkpoint_blocks(backbone: Backbone) -> None:
    """From now on keep only the inputs of the blocks of a backbone; BenchError where it has none.

    The blocks are called as before, and names in the state dict stay.
    """
    blocks = blocks_of(backbone.body)
    if not blocks:
        raise BenchError(
            f"the backbone {backbone.name!r} has no blocks to compute again",
            expected="blocks in an nn.Sequential or an nn.ModuleList",
            found="none",
            remedy="leave --checkpointing out; --micro-batch saves memory with any network",
        )
    for block in blocks:
        again = computed_again(block.forward, block)
        # without a graph there is nothing to keep, and nothing to compute again
        block.forward = _in_graph(again, block.forward)


def _in_graph(again: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: (again if torch.is_grad_enabled() else plain)(*args, **kwargs)


# -- estimating ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """Bytes that are kept for the backward pass: of floating numbers in float32, and of others."""

    floats: float = 0.0
    others: float = 0.0

    def bytes(self, precision: Precision) -> float:
        """In all, where activations have this precision."""
        return self.floats * (0.5 if precision == "bf16" else 1.0) + self.others

    def __add__(self, other: Kept) -> Kept:
        return Kept(self.floats + other.floats, self.others + other.others)


@dataclass(frozen=True)
class Footprint:
    """What a network needs in training, in bytes; of one image where nothing else is said.

    Attributes
    ----------
    kept: what is kept for the backward pass. between, largest_block: with checkpointing, what is
        kept for good, the inputs of blocks and all outside of blocks, and what the largest block
        keeps while its gradient is made.
    largest: the largest tensor, of which the backward pass makes gradients.
    input, output: the input, and map and vector.
    weights: of all images: the parameters that are trained.
    """

    kept: Kept
    between: Kept
    largest_block: Kept
    largest: float
    input: float
    output: float
    weights: float

    def need(self, images: int, precision: Precision, training: Training) -> float:
        """Bytes of a step with so many images, at least: activations, weights and optimiser."""
        share = 0.5 if precision == "bf16" else 1.0
        at_once = min(images, training.micro_batch or images)
        if training.checkpointing:
            kept = (self.between + self.largest_block).bytes(precision)
        else:
            kept = self.kept.bytes(precision)
        one = kept + 2 * self.largest * share
        # weights, their gradients, two moments of Adam; bf16 has a rounded copy
        fixed = self.weights * (4 + (0.5 if precision == "bf16" else 0.0))
        outside = images * (self.input + 2 * self.output)
        return fixed + at_once * one + outside


def footprint(backbone: Backbone) -> Footprint | None:
    """Measured on the meta device, where nothing is computed; None for a network that can't run so.

    The network stays as it is: its mode is that in which it is measured.
    """
    state = {
        name: torch.empty_like(tensor, device="meta", requires_grad=tensor.requires_grad)
        for name, tensor in [*backbone.body.named_parameters(), *backbone.body.named_buffers()]
    }
    own = {tensor.untyped_storage()._cdata for tensor in state.values()}
    images = 2
    side = backbone.input_size
    x = torch.empty(images, 3, side, side, device="meta")
    measured = _Measured(own)
    try:
        with ExitStack() as stack:
            stack.enter_context(_plain(backbone.body))
            for block in blocks_of(backbone.body):
                stack.callback(block.register_forward_pre_hook(measured.enter).remove)
                stack.callback(block.register_forward_hook(measured.leave).remove)
            stack.enter_context(torch.enable_grad())
            stack.enter_context(
                torch.autograd.graph.saved_tensors_hooks(measured.pack, lambda tensor: tensor)
            )
            torch.func.functional_call(backbone.body, state, (x,))
    except Exception:  # a network may do what no meta tensor can: there is no estimate then
        return None
    inside = [sum(b.values(), Kept()) for b in measured.blocks]
    whole = sum(measured.kept.values(), Kept())
    outside = Kept(
        whole.floats - sum(b.floats for b in inside), whole.others - sum(b.others for b in inside)
    )
    between = outside + Kept(measured.inputs)
    largest = max(inside, key=lambda b: b.floats + b.others, default=Kept())
    h, w = backbone.grid
    return Footprint(
        kept=_each(whole, images),
        between=_each(between, images),
        largest_block=_each(largest, images),
        largest=measured.largest / images,
        input=4.0 * x[0].numel(),
        output=4.0 * (backbone.channels * h * w + backbone.dim),
        weights=float(sum(4 * p.numel() for p in backbone.parameters() if p.requires_grad)),
    )


@contextmanager
def _plain(body: nn.Module) -> Iterator[None]:
    """In the block the network is neither compiled nor checkpointed."""
    patched = {b: b.__dict__.pop("forward") for b in blocks_of(body) if "forward" in vars(b)}
    compiled = getattr(body, "_compiled_call_impl", None)
    body._compiled_call_impl = None
    try:
        yield
    finally:
        body._compiled_call_impl = compiled
        for block, forward in patched.items():
            block.forward = forward


def _each(kept: Kept, images: int) -> Kept:
    return replace(kept, floats=kept.floats / images, others=kept.others / images)


class _Measured:
    """What a forward pass keeps, by storage, so that nothing is counted twice."""

    def __init__(self, own: set[int]) -> None:
        self.own = own
        self.kept: dict[int, Kept] = {}
        self.blocks: list[dict[int, Kept]] = []
        self.inputs = 0.0
        self.largest = 0.0
        self.inside = False
        self.alive: list[Tensor] = []  # or another storage would get the number of one that is gone

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.inside = True
        self.blocks.append({})
        self.inputs += sum(4.0 * one.numel() for one in args if isinstance(one, Tensor))

    def leave(self, module: nn.Module, args: tuple[Any, ...], made: Any) -> None:
        self.inside = False

    def pack(self, tensor: Tensor) -> Tensor:
        number = tensor.untyped_storage()._cdata
        if number in self.own or number in self.kept:
            return tensor
        self.alive.append(tensor)
        size = float(tensor.untyped_storage().nbytes())
        one = Kept(floats=size) if tensor.is_floating_point() else Kept(others=size)
        self.kept[number] = one
        self.largest = max(self.largest, size)
        if self.inside:
            self.blocks[-1][number] = one
        return tensor


def free_memory(device: torch.device) -> float | None:
    """Bytes that are free on a device; None where nothing says so."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(free + kept)
    try:
        text = Path("/proc/meminfo").read_text("ascii")  # Linux alone
        lines = dict(line.split(":", 1) for line in text.splitlines())
        return 1024.0 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None


def require_memory(
    backbone: Backbone,
    measured: Footprint,
    images: int,
    precision: Precision,
    training: Training,
    free: float,
    log: Callable[[str], None],
) -> None:
    """BenchError before a step that can't fit, naming the options with which it would.

    The estimate leaves out what a library takes beside, so it is at most what is needed; a step
    that would need most of what is free is a line to `log`.
    """
    need = measured.need(images, precision, training)
    said = (
        f"a training step of {images} images with {backbone.name} needs {need / GB:.1f} GB or more"
    )
    if need <= free:
        if need > TIGHT * free:
            log(f"note: {said} (estimate); {free / GB:.1f} GB are free")
        return
    fitting = options_that_fit(backbone, measured, images, precision, training, free)
    raise BenchError(
        said,
        expected=f"at most the {free / GB:.1f} GB that are free",
        found=f"an estimate of {need / GB:.1f} GB in {precision}",
        remedy=f"it would fit with {'; or '.join(fitting)}"
        if fitting
        else "use a smaller network or input, or a device with more memory",
    )


def options_that_fit(
    backbone: Backbone,
    measured: Footprint,
    images: int,
    precision: Precision,
    training: Training,
    free: float,
) -> list[str]:
    """The options, each with its estimate, with which a step fits in `free` bytes."""
    choices: list[tuple[str, Precision, Training]] = []
    formats: list[tuple[str, Precision]] = [("", precision)]
    if precision == "fp32":
        formats.append(("--precision bf16 ", "bf16"))
    for named, chosen in formats:
        if named:
            choices.append((named, chosen, training))
        if not training.checkpointing and not training.compile and blocks_of(backbone.body):
            choices.append(
                (named + "--checkpointing", chosen, replace(training, checkpointing=True))
            )
        size = SMALLEST
        while size < min(images, training.micro_batch or images):
            size *= 2
        for micro in (size >> shift for shift in range(1, size.bit_length())):
            smaller = replace(training, micro_batch=micro)
            if micro >= SMALLEST and measured.need(images, chosen, smaller) <= free:
                choices.append((f"{named}--micro-batch {micro}", chosen, smaller))
                break
    found = []
    for option, chosen, other in choices:
        need = measured.need(images, chosen, other)
        if need <= free:
            found.append(f"{option.strip()} ({need / GB:.1f} GB)")
    return found

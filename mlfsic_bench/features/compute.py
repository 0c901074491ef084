"""Running a frozen backbone fast on many images without changing what it computes."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlfsic_bench import distributed
from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.base import folded
from mlfsic_bench.features.backbones.objects import trial_image
from mlfsic_bench.plugins.foreign import blamed
from mlfsic_bench.plugins.surroundings import exits_refused
from mlfsic_bench.text import exception_text

if TYPE_CHECKING:
    from PIL.Image import Image

    from mlfsic_bench.features.backbones.base import Backbone, Transform
    from mlfsic_bench.features.store.manifest import Precision

Maps = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


class Runner:
    """A frozen copy of a backbone, ready to be called on batches of transformed images.

    Batch norms are merged into convolutions, tensors lie channels last; in `fp32` nothing is
    rounded beyond float32 (TensorFloat-32 is off), so CPU and GPU agree to float32 rounding.
    """

    def __init__(self, backbone: Backbone, device: torch.device, precision: Precision) -> None:
        self.device = device
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        with _call(backbone, "while it was copied"):
            network = folded(backbone).to(device=device, dtype=self.dtype)
            self.network: Backbone = network.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, images: list[Tensor]) -> Maps:
        """Maps float32 [n, h*w, c] and global vectors float32 [n, d] of inputs [3, H, W]."""
        x = torch.stack(images).to(
            device=self.device, dtype=self.dtype, memory_format=torch.channels_last
        )
        with float32_products():
            maps, pooled = features_of(self.network, x)
        local = maps.float().permute(0, 2, 3, 1).flatten(1, 2)
        return local.contiguous().cpu().numpy(), pooled.float().cpu().numpy()


def input_of(backbone: Backbone, image: Image) -> Tensor:
    """float [3, H, H]: what the transform makes of an image; BenchError where it fails."""
    with _call(backbone, "while its transform made an input"):
        made: object = backbone.transform(image)
    side = backbone.input_size
    if not isinstance(made, Tensor) or made.shape != (3, side, side):
        raise _not_declared(backbone, "inputs", f"a tensor [3, {side}, {side}]", made)
    return made


def pixels_of(backbone: Backbone, image: Image) -> npt.NDArray[np.uint8]:
    """uint8 [H, H, 3]: what a transform that `splits` makes of an image before it normalises."""
    with _call(backbone, "while its transform resized an image"):
        pixels: npt.NDArray[np.uint8] = backbone.transform.pixels(image)  # type: ignore[attr-defined]
    side = backbone.input_size
    if pixels.dtype != np.uint8 or pixels.shape != (side, side, 3):
        found = torch.empty(pixels.shape, device="meta")
        raise _not_declared(backbone, "pixels", f"uint8 [{side}, {side}, 3]", found)
    return pixels


def splits(transform: Transform) -> bool:
    """Whether `transform` first makes uint8 pixels and then normalises these, to the same bits."""
    if not hasattr(transform, "pixels") or not hasattr(transform, "normalised"):
        return False
    image = trial_image()
    pixels = torch.from_numpy(np.array(transform.pixels(image)))
    if pixels.dtype != torch.uint8:
        return False
    return torch.equal(transform.normalised(pixels[None])[0], transform(image))


def features_of(backbone: Backbone, x: Tensor) -> tuple[Tensor, Tensor]:
    """`backbone.features(x)`; BenchError where it fails or gives other shapes than declared."""
    with _call(backbone, "while it made features"):
        maps, vectors = backbone.features(x)
    shape = (len(x), backbone.channels, *backbone.grid)
    for what, found, wanted in (
        ("maps", maps, shape),
        ("global vectors", vectors, (len(x), backbone.dim)),
    ):
        if not isinstance(found, Tensor) or found.shape != wanted or not found.is_floating_point():
            raise _not_declared(backbone, what, f"floating numbers {list(wanted)}", found)
    return maps, vectors


@contextmanager
def _call(backbone: Backbone, stage: str) -> Iterator[None]:
    with blamed("backbone", backbone.name, stage, _advice), exits_refused():
        yield


def _advice(error: BaseException) -> str:
    if "out of memory" not in exception_text(error).lower() and not isinstance(error, MemoryError):
        return ""
    return "make --batch-size smaller, or choose another --device"


def _not_declared(backbone: Backbone, what: str, expected: str, found: object) -> BenchError:
    kind = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found)
    return BenchError(
        f"the backbone {backbone.name!r} gives {what} that it does not declare",
        expected=expected,
        found=str(kind).removeprefix("torch."),
        remedy="correct the backbone (mlfsic-bench backbones check says more)",
    )


def parse_device(name: str | torch.device) -> torch.device:
    """The torch device `cpu`, `cuda` or `cuda:N`; `auto` is a GPU where there is one.

    Where several processes work together, `cuda` is another GPU for each on a machine. BenchError
    for another name and for a GPU that is not here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", str(name)):
        raise BenchError(
            f"{str(name)!r} is not a device to compute on",
            expected="auto, cpu, cuda or cuda:N",
            found=repr(str(name)),
            remedy="check --device",
        )
    device = torch.device(name)
    if str(device) == "cuda" and distributed.count() > 1:
        device = torch.device("cuda", distributed.own_gpu())
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise BenchError(
                f"there is no {device} here",
                expected="a GPU that torch can use",
                found=f"{count} GPUs; torch {torch.__version__}",
                remedy="use --device cpu, or install a torch built for your GPU",
            )
    return device


@contextmanager
def kept_memory() -> Iterator[None]:
    """While the block runs, glibc keeps freed memory instead of giving it back to the system.

    Activations are otherwise mapped and faulted in anew for every layer and batch, which costs a
    CPU extraction 10 to 20 %. The usual thresholds are restored; elsewhere this does nothing.
    """
    mallopt = None
    if sys.platform == "linux":
        try:
            mallopt = ctypes.CDLL("libc.so.6").mallopt
        except (OSError, AttributeError):  # another libc, such as musl
            mallopt = None
    trim, mmaps = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
    if mallopt is not None:
        mallopt(mmaps, 0)
        mallopt(trim, 2**31 - 1)
    try:
        yield
    finally:
        if mallopt is not None:
            mallopt(mmaps, 65536)
            mallopt(trim, 128 * 1024)


@contextmanager
def float32_products(tf32: bool = False) -> Iterator[None]:
    """In the block, convolutions and matrix products of a GPU may use TensorFloat-32, or may not.

    It rounds factors to 10 bits on recent GPUs; torch's own default allows it in convolutions.
    """
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = tf32
    try:
        yield
    finally:
        convolutions.allow_tf32, products.allow_tf32 = before

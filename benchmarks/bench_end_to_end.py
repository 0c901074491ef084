"""Training a backbone end to end: a step against plain PyTorch, its memory, its wait for images.

    python benchmarks/bench_end_to_end.py [--images 8] [--side 96] [--rounds 3] [--device cpu]

A ResNet-50 with random weights. The peer is what one would write by hand: the same network channels
last, all inputs normalised and in memory, one forward and backward pass and Adam. Both are timed
here, in turns, in CPU seconds. The memory of a step with 52 + 208 images at 224 pixels is an
estimate: nobody could run it here. How long a step waits for images is measured on this CPU, and
set against a step of this CPU; a GPU takes that step 50 times as fast, so for it the wait is also
given as a share of such a step. With --device cuda all is measured there: seconds and peak memory
of a step with 260 images at 224 pixels in each precision, beside the estimate.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from goals import report
from PIL import Image

from mlfsic_bench.data.dataset import Annotations, Dataset
from mlfsic_bench.features.backbones.base import Squash
from mlfsic_bench.features.backbones.registry import build_backbone
from mlfsic_bench.features.compute import float32_products
from mlfsic_bench.features.live import LiveFeatures, LiveOptions
from mlfsic_bench.features.memory import GB, footprint, options_that_fit
from mlfsic_bench.features.training_options import PLAIN, Training

IMAGES, LIMIT_GB = 52 + 208, 12.0
GPU_STEP_S = 0.09  # an estimate: 260 images, bf16, channels last, on an H100 (docs/performance.md)


class Photos(Dataset):
    """JPEG files of 640 x 480 pixels, as COCO has them."""

    name = "photos"

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.ids = tuple(f"photo{i:04d}" for i in range(count))
        for number, name in enumerate(self.ids):
            coarse = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
            image.save(folder / f"{name}.jpg", quality=90)

    def annotations(self) -> Annotations:
        """Images without labels."""
        none = np.zeros((len(self.ids), 0), bool)
        return Annotations((), self.ids, none, none)

    def available(self, image_ids: tuple[str, ...]) -> np.ndarray:
        """All of them."""
        return np.ones(len(image_ids), bool)

    def image_bytes(self, image_id: str) -> bytes:
        """The file."""
        return (self.folder / f"{image_id}.jpg").read_bytes()

    def open_image(self, image_id: str) -> Image.Image:
        """The image, decoded."""
        return Image.open(self.folder / f"{image_id}.jpg").convert("RGB")


def resnet(side: int):
    """ResNet-50 with random weights for inputs of `side` pixels."""
    backbone = build_backbone("resnet50", "none")
    if side != backbone.input_size:
        backbone.transform = Squash(side)
        backbone.input_size, backbone.grid = side, (-(-side // 32), -(-side // 32))
    return backbone


def cpu_seconds(function: Callable[[], object]) -> float:
    """CPU seconds of all threads in one call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def plain_step(backbone, x: torch.Tensor) -> Callable[[], object]:
    """A step of a loop as one would write it."""
    network = backbone.to(memory_format=torch.channels_last).train()
    adam = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    x = x.to(memory_format=torch.channels_last)

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        network(x).mean((2, 3)).square().mean().backward()
        adam.step()

    return step


def live_step(live: LiveFeatures, ids: tuple[str, ...]) -> Callable[[], object]:
    """A step with the program's own source, images decoded or read ahead of time included."""
    adam = torch.optim.Adam(live.trainable_parameters(), lr=1e-4, fused=True)
    numbers = iter(range(1 << 30))

    def step() -> None:
        live.train(True)
        live.begin_episode(next(numbers), ids)
        adam.zero_grad(set_to_none=True)
        live.local(ids).mean((2, 3)).square().mean().backward()
        adam.step()

    return step


def step_ratio(dataset: Photos, side: int, rounds: int, cache: Path) -> float:
    """CPU seconds of a step by those of the plain loop; also the goal of the input stall."""
    ids = dataset.ids
    options = LiveOptions(cache=cache, ids=ids)
    live = LiveFeatures(resnet(side), dataset, "cpu", True, options)
    x = live.inputs(ids).clone()
    peer, own = plain_step(resnet(side), x), live_step(live, ids)
    peer(), own()
    taken: dict[str, list[float]] = {"peer": [], "own": []}
    live._reader().waited, start, spent = 0.0, time.perf_counter(), 0.0
    for _ in range(rounds):
        taken["peer"].append(cpu_seconds(peer))
        start = time.perf_counter()
        taken["own"].append(cpu_seconds(own))
        spent += time.perf_counter() - start
    before, after = (statistics.median(taken[name]) for name in ("peer", "own"))
    report(
        "end-to-end-step",
        after / before,
        f"{after:.2f} of {before:.2f} CPU s; {len(ids)} images of {side} pixels",
    )
    return live._reader().waited / spent


def memory() -> None:
    """The goal of the memory: an estimate of the step with 260 images."""
    backbone = resnet(224).train()
    measured = footprint(backbone)
    assert measured is not None
    chosen = Training(checkpointing=True)
    need = {
        "bf16": measured.need(IMAGES, "bf16", PLAIN),
        "fp32": measured.need(IMAGES, "fp32", PLAIN),
        "bf16 --checkpointing": measured.need(IMAGES, "bf16", chosen),
    }
    said = ", ".join(f"{name} {value / GB:.1f}" for name, value in need.items())
    fitting = options_that_fit(backbone, measured, IMAGES, "bf16", PLAIN, LIMIT_GB * GB)
    report(
        "end-to-end-memory",
        need["bf16 --checkpointing"] / GB,
        f"estimates in GB: {said}; within {LIMIT_GB:g} GB in bf16: {'; '.join(fitting)}",
    )


def stall(dataset: Photos, cache: Path, share: float) -> None:
    """The goal of the wait for images, with the rate of the reader at 224 pixels beside it."""
    ids = dataset.ids
    live = LiveFeatures(
        resnet(224), dataset, "cpu", True, LiveOptions(cache=cache, ids=ids, workers=1)
    )
    reader = live._reader()
    seconds = {}
    for name in ("decoded", "kept"):
        seconds[name] = cpu_seconds(lambda: reader._gathered(ids)) / len(ids)
    gpu = IMAGES * seconds["kept"] / GPU_STEP_S / 8  # eight decoding threads
    report(
        "input-stall",
        100 * share,
        f"on this CPU; an image takes {1e3 * seconds['decoded']:.1f} ms decoded, "
        f"{1e3 * seconds['kept']:.2f} ms kept, of a thread. Estimate for an H100: reading fills "
        f"{100 * gpu:.0f} % of a step, during the step before it",
    )


def on_gpu(dataset: Photos, rounds: int, cache: Path, device: torch.device) -> None:
    """Seconds and peak memory of whole steps on a GPU, with each option; all three goals."""
    ids = dataset.ids

    def timed(step: Callable[[], object]) -> tuple[float, float]:
        for _ in range(2):
            step()
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        start = time.perf_counter()
        for _ in range(rounds):
            step()
        torch.cuda.synchronize(device)
        seconds = (time.perf_counter() - start) / rounds
        return seconds, torch.cuda.max_memory_allocated(device) / GB

    def timed_plain() -> tuple[float, float]:
        made = LiveFeatures(resnet(224), dataset, device, False, LiveOptions(cache=cache, ids=ids))
        plain = plain_step(resnet(224).to(device), made.inputs(ids).clone())

        def step() -> None:
            with torch.autocast("cuda", torch.bfloat16):
                plain()

        return timed(step)

    peer, peer_gb = timed_plain()
    print(f"plain loop, bf16: {peer:.3f} s a step, {peer_gb:.1f} GB")
    choices = {
        "fp32": ("fp32", PLAIN),
        "tf32": ("fp32", Training(tf32=True)),
        "bf16": ("bf16", PLAIN),
        "bf16 --checkpointing": ("bf16", Training(checkpointing=True)),
        "bf16 --micro-batch 64": ("bf16", Training(micro_batch=64)),
    }
    found = {}
    for name, (precision, training) in choices.items():
        torch.cuda.empty_cache()
        options = LiveOptions(training, precision, cache=cache, ids=ids)  # type: ignore[arg-type]
        live = LiveFeatures(resnet(224), dataset, device, True, options)
        with float32_products(training.tf32):
            live._reader()
            step = live_step(live, ids)
            step()
            live._reader().waited = 0.0
            seconds, gb = timed(step)
        waited = live._reader().waited / (rounds + 2) / seconds
        measured = live._footprint
        need = measured.need(len(ids), precision, training) / GB if measured else float("nan")  # type: ignore[arg-type]
        print(
            f"{name}: {seconds:.3f} s a step, {gb:.1f} GB (estimate {need:.1f}), "
            f"{100 * waited:.1f} % waiting for images"
        )
        found[name] = seconds, gb, waited
        del live, step
    report("end-to-end-step", found["bf16"][0] / peer, f"bf16, {len(ids)} images, {device}")
    report("end-to-end-memory", found["bf16 --checkpointing"][1], "measured, with --checkpointing")
    report("input-stall", 100 * found["bf16"][2], f"bf16, {len(ids)} images, {device}")


def main() -> None:
    """Time and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cuda":
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            on_gpu(Photos(root, IMAGES), 5, root / "cache", device)
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        dataset = Photos(root, given.images)
        share = step_ratio(dataset, given.side, given.rounds, root / "cache")
        stall(dataset, root / "cache", share)
    memory()


if __name__ == "__main__":
    main()

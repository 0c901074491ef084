"""On paper: what a million images with a thousand labels would take, and Table 1 on GPUs.

    python benchmarks/estimate.py                   # the estimate
    python benchmarks/estimate.py --measure cuda    # images a second of one training step

Nothing is trained. FLOPs and the memory of activations are counted on tensors without data;
everything assumed is a constant below, with its source. `make gpu-check` measures the step on a GPU
(`--measure`) and keeps it in results/gpu/; the estimate then uses the rates measured there.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from mlfsic_bench.data.coco_reader import MAX_BYTES
from mlfsic_bench.evaluation.scores import LIMIT as SCORES_LIMIT
from mlfsic_bench.features.backbones.registry import build_backbone
from mlfsic_bench.features.memory import GB, Footprint, footprint
from mlfsic_bench.features.store.manifest import Precision
from mlfsic_bench.features.store.store import LIMIT as INDEX_LIMIT
from mlfsic_bench.features.store.store import index_lines
from mlfsic_bench.features.training_options import Training
from mlfsic_bench.files import MOST_VALUES
from mlfsic_bench.methods.registry import make_method

ROOT = Path(__file__).resolve().parents[1]

# The split coco-52-12-16-text-v1: 52 base labels, 16 novel ones, and so many base images.
BASE_LABELS, NOVEL_LABELS, BASE_IMAGES = 52, 16, 26_723
SUPPORT, QUERY = 1, 4  # images of a label in an episode
SIDE = 224
SEEDS = 3  # of what trains: profile `coco` of experiments/profiles.yaml

# Images a second in training ResNet-50 on one A100 80 GB, and on 8 of them: NVIDIA
# DeepLearningExamples, PyTorch/Classification/ConvNets/resnet50v1.5, "Training performance".
A100 = {"TF32": 938.0, "bf16": 2470.0}
EIGHT = {"TF32": 7248 / 938, "bf16": 16621 / 2470}  # how much faster one run is on eight
# A step of ResNet-50 waits for memory, not for arithmetic, so the rate is taken to follow the
# bandwidth: 3.35 TB/s (H100 SXM, NVIDIA's data sheet) against 2.04 TB/s (A100 80 GB SXM).
H100 = {name: rate * 3.35 / 2.04 for name, rate in A100.items()}
# A training step on one CPU core, 16 images, channels-last, measured at commit 67474d9.
CPU_SECONDS = 9.9 / 16

# The large case.
IMAGES, LABELS, EPISODES = 1_000_000, 1_000, 200
COCO_IMAGES, COCO_BYTES = 123_287, 482e6  # the official annotations of 2014
COCO_VALUES = 700_000  # in a split file of all of COCO (mlfsic_bench/files.py)
MAP_BYTES, POOLED_BYTES = 2 * 7 * 7 * 2048, 4 * 2048  # of ResNet-50 in a store
# Measured on one core: benchmarks/bench_metrics.py and bench_features.py at commit 67474d9.
METRIC_SECONDS = 0.122 / (200 * 208 * 52)  # a score
EXTRACTION_SECONDS = 2 * 0.338 / 8  # an image


def episode_images(labels: int) -> int:
    return labels * (SUPPORT + QUERY)


def flops(name: str) -> float:
    """FLOPs of one image in a training step of a torchvision network, on tensors without data."""
    import torchvision

    with torch.device("meta"):
        model = getattr(torchvision.models, name)(weights=None)
        images = torch.empty(2, 3, SIDE, SIDE)
    with FlopCounterMode(display=False) as counter:
        model(images).sum().backward()
    return counter.get_total_flops() / 2


def step_memory() -> Footprint:
    """What ResNet-50 needs in training: the estimate that a run makes before its first step."""
    measured = footprint(build_backbone("resnet50", "none"))
    assert measured is not None
    return measured


# Image passes of a run through a network that is trained too, by the method's parameters. Passes
# that only go forward count as much, so these are upper bounds.
PASSES: dict[str, Callable[..., float]] = {
    "word-guided-attention": lambda p: (
        p.epochs * p.steps_per_epoch * p.episodes_per_step * episode_images(BASE_LABELS)
    ),
    "linear": lambda p: p.epochs * BASE_IMAGES + EPISODES * p.tune_epochs * NOVEL_LABELS,
    "pla": lambda p: (p.encoder_epochs + p.epochs) * BASE_IMAGES,
    "laso": lambda p: (p.classifier_epochs + 2 * p.pairs_per_image * p.epochs) * BASE_IMAGES,
    "kggr": lambda p: p.epochs * BASE_IMAGES,
}


def measured_rates(root: Path) -> dict[str, tuple[float, str]]:
    """Images a second and the device by precision, from what `make gpu-check` kept."""
    found = {}
    for path in sorted(root.glob("results/gpu/*/step.txt")):
        for name, rate in re.findall(
            r"^(TF32|bf16): ([\d.e+]+) images a second", path.read_text(), re.M
        ):
            found[name] = float(rate), path.parent.name
    return found


def memory_of_options(measured: Footprint) -> list[str]:
    """The memory of a training step of ResNet-50 with each option that saves some."""
    images = episode_images(BASE_LABELS)
    options = {"plain": Training(), "--checkpointing": Training(checkpointing=True)}
    options |= {f"--micro-batch {n}": Training(micro_batch=n) for n in (64, 32)}
    kinds: tuple[Precision, ...] = ("fp32", "bf16")
    lines = [
        f"A training step of {images} images, ResNet-50: memory at least",
        f"  {'option':<20}{'fp32, TF32':>12}{'bf16':>12}",
    ]
    for name, training in options.items():
        cells = (measured.need(images, kind, training) / GB for kind in kinds)
        lines.append(f"  {name:<20}" + "".join(f"{cell:>9.1f} GB" for cell in cells))
    return lines


def table1(root: Path) -> list[str]:
    """What the rows of Table 1 that train cost with the profile `coco`."""
    rows = yaml.safe_load((root / "experiments" / "table1.yaml").read_text("utf-8"))["rows"]
    names = {"resnet50": "resnet50", "resnet101": "resnet101", "vit_b_16": "vit_b_16"}
    cost = {name: flops(of) for name, of in names.items()}
    base = cost["resnet50"]
    images = episode_images(BASE_LABELS)
    measured = measured_rates(root)
    rates = {name: measured[name][0] if name in measured else rate for name, rate in H100.items()}
    kind = "measured by make gpu-check on " + ", ".join({d for _, d in measured.values()})
    lines = [
        "The paper's Table 1 (profile coco: the backbone trained too)",
        f"  rates: {kind if measured else 'ESTIMATE, no make gpu-check has been recorded'}: "
        + ", ".join(f"{name} {rate:,.0f} images/s" for name, rate in rates.items()),
        f"  a training step of {images} images, ResNet-50: {images * base / 1e12:.1f} TFLOP; "
        f"20,000 steps {20_000 * images * base:.1e} FLOP",
        f"  on one CPU core {20_000 * images * CPU_SECONDS / 86_400:,.0f} days",
        f"  {'row':<36}{'runs':>5}{'M passes':>10}{'TF32 h':>9}{'bf16 h':>9}",
    ]
    total = dict.fromkeys(rates, 0.0)
    longest = dict.fromkeys(rates, 0.0)
    count = 0
    for row in rows:
        if row["method"] not in PASSES:
            continue
        passes = PASSES[row["method"]](make_method(row["method"], {}, row.get("preset")).params)
        of = row.get("backbone", "resnet50").split("+")
        factor = sum(cost[part] for part in of) / base
        hours = {name: passes * factor / rate / 3600 for name, rate in rates.items()}
        count += SEEDS
        for name, value in hours.items():
            total[name] += SEEDS * value
            longest[name] = max(longest[name], value)
        cells = "".join(f"{SEEDS * value:>9.1f}" for value in hours.values())
        lines.append(f"  {row['name']:<36}{SEEDS:>5}{passes / 1e6:>10.1f}{cells}")
    lines.append(
        f"  {'all, on one GPU':<36}{count:>5}{'':>10}"
        + "".join(f"{v:>9.1f}" for v in total.values())
    )
    eight = {name: max(total[name] / 8, longest[name]) for name in rates}
    lines.append(
        f"  {'on eight, a run on each':<51}" + "".join(f"{v:>9.1f}" for v in eight.values())
    )
    spread = {name: total[name] / EIGHT[name] for name in rates}
    lines.append(
        f"  {'on eight, each run on all':<51}" + "".join(f"{v:>9.1f}" for v in spread.values())
    )
    lines += [
        "  M passes: million images through the network in one run; forward passes count as",
        "  training steps, so an upper bound. Decoding is left out: images of 224 px are kept as",
        "  uint8, 4 GB. A pass costs as the network's FLOPs say; selecting and testing add 1 %.",
    ]
    return lines


def large(kept: float) -> list[str]:
    """A million images with a thousand labels: what each thing needs, and its limit.

    `kept`: bytes of activations that an image needs in a training step.
    """
    line = len(index_lines(["train2014/COCO_train2014_000000000009"], ["0" * 64]))
    scores = 4.0 * EPISODES * QUERY * LABELS * LABELS
    rows: list[tuple[str, str, str, float]] = [  # what, need, limit, need / limit
        _row(
            "annotations, one file of COCO's format", IMAGES * COCO_BYTES / COCO_IMAGES, MAX_BYTES
        ),
        _row("index of the feature store", float(IMAGES * line), INDEX_LIMIT),
        _row("scores of 200 episodes", scores, SCORES_LIMIT),
        (
            "values in a split's file",
            f"{IMAGES * COCO_VALUES / COCO_IMAGES / 1e6:.1f} million",
            f"{MOST_VALUES / 1e6:.0f} million",
            IMAGES * COCO_VALUES / COCO_IMAGES / MOST_VALUES,
        ),
    ]
    lines = [
        "A million images with a thousand labels",
        f"  {'limit of a reader':<42}{'needs':>14}{'limit':>14}",
    ]
    for what, need, limit, share in sorted(rows, key=lambda row: -row[3]):
        over = "  BREAKS" if share > 1 else ""
        lines.append(f"  {what:<42}{need:>14}{limit:>14}{over}")
    matrix = IMAGES * LABELS
    other = [
        (
            "feature store of 7x7x2048 maps, on disk",
            f"{IMAGES * (MAP_BYTES + POOLED_BYTES) / 1e9:,.0f} GB",
        ),
        (
            "the same without maps, for what reads only means",
            f"{IMAGES * POOLED_BYTES / 1e9:,.1f} GB",
        ),
        ("targets, one byte each, in memory", f"{matrix / 1e9:.1f} GB"),
        ("ids and digests of the index, in memory", f"{IMAGES * 300 / 1e9:.1f} GB"),
        ("maps of an episode's support, fp32", f"{LABELS * 2 * MAP_BYTES / 1e9:.1f} GB"),
        (
            "end-to-end step on an episode, activations",
            f"{episode_images(LABELS) * kept / 1e9:,.0f} GB",
        ),
        ("scores and targets of 200 episodes, in memory", f"{1.25 * scores / 1e9:.1f} GB"),
        ("their metrics, one core", f"{scores / 4 * METRIC_SECONDS:.0f} s"),
        ("features in fp32 on one core", f"{IMAGES * EXTRACTION_SECONDS / 3600:.0f} h"),
        ("episodes", "unchanged: drawing does not depend on the images"),
    ]
    lines += [f"  {what:<52}{need}" for what, need in other]
    lines += [
        "  First to break: the scores file, in labels (an episode has 4 L^2 scores), then the",
        "  files of annotations and of the split, in images. Then memory: activations, scores.",
    ]
    return lines


def _row(what: str, need: float, limit: float) -> tuple[str, str, str, float]:
    return what, f"{need / 1e6:,.0f} MB", f"{limit / 1e6:,.0f} MB", need / limit


def measure(device: str, images: int = episode_images(BASE_LABELS), steps: int = 20) -> None:
    """Print images a second and peak memory of training steps of ResNet-50, channels-last."""
    import torchvision

    cuda = device.startswith("cuda")
    if not cuda:  # a rehearsal
        images, steps = 2, 1
    model = torchvision.models.resnet50(weights=None).to(device, memory_format=torch.channels_last)
    batch = torch.rand(images, 3, SIDE, SIDE, device=device).to(memory_format=torch.channels_last)
    sgd = torch.optim.SGD(model.parameters(), lr=1e-6)

    def step(bf16: bool) -> None:
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=bf16):
            loss = model(batch).float().square().mean()
        loss.backward()
        sgd.step()
        sgd.zero_grad(set_to_none=True)

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    for name, bf16 in (("TF32", False), ("bf16", True)) if cuda else (("TF32", False),):
        if cuda:
            torch.cuda.reset_peak_memory_stats()
            for _ in range(3):
                step(bf16)
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(steps):
            step(bf16)
        if cuda:
            torch.cuda.synchronize()
        rate = steps * images / (time.perf_counter() - start)
        memory = torch.cuda.max_memory_allocated() / 1e9 if cuda else float("nan")
        print(f"{name}: {rate:.4g} images a second, {memory:.1f} GB, {images} images a step")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--measure", metavar="DEVICE", help="time a step in place of estimating")
    given = parser.parse_args()
    if given.measure:
        measure(given.measure)
    else:
        measured = step_memory()
        parts = large(measured.kept.bytes("fp32")), memory_of_options(measured), table1(ROOT)
        print("\n\n".join(map("\n".join, parts)))


if __name__ == "__main__":
    main()

"""Check on one machine, in minutes, everything that needs a GPU (`make gpu-check`).

    python -m tools.gpu_check                  # on the first CUDA device
    python -m tools.gpu_check --device cpu     # a rehearsal: the same steps without a GPU

Steps: tests/gpu (CPU and GPU agree, for every method), the benchmarks of the model, of the linear
heads and of a step end to end, a training step of ResNet-50 at the paper's size in TF32 and bf16,
and small trainings on the embedded scenes, with a frozen backbone and end to end, in fp32 and in
bf16 with micro-batches. Nothing is fetched. A rehearsal does the same with few methods, images and
rounds: it shows that the steps run.
Writes DIR/summary.json and one text file for each step; DIR is results/gpu/DEVICE by default, for a
rehearsal build/gpu-check. Exit code 1 when a step failed or ran out of time.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.provenance import provenance
from mlfsic_bench.features.compute import parse_device
from mlfsic_bench.files import write_json, write_text

ROOT = Path(__file__).resolve().parents[1]
REHEARSAL = "MLFSIC_GPU_TESTS_ON"  # names another device for tests/gpu
SLOWER = 6  # how much longer a step may take in a rehearsal
SMALL = ("epochs=1", "warmup_epochs=1", "steps_per_epoch=5", "select_every=1")


@dataclass(frozen=True)
class Step:
    """A command of the check, and the most seconds it may take."""

    name: str
    command: tuple[str, ...]
    limit: int


def steps(device: str, runs: Path) -> list[Step]:
    """All steps, within seven minutes together; runs of the harness go to the folder `runs`."""
    rounds, episodes = ("3", "200") if device.startswith("cuda") else ("1", "20")
    settings = [part for one in SMALL for part in ("--set", one)]
    training = (
        *("-m", "mlfsic_bench", "run", "word-guided-attention", "--split", "scenes-12-6-6-v1"),
        *("--backbone", "scenes-small", "--episodes", "5", "--base-images", "300"),
        *("--device", device, *settings, "--cache", str(runs / "cache")),
    )
    whole = (*training, "--features", "end-to-end")
    rounded = (*whole, "--precision", "bf16", "--augment", "flip", "--micro-batch", "32")
    on, each = ("--device", device), ("--rounds", rounds, "--episodes", episodes)
    return [
        Step("agreement", ("-m", "pytest", "tests/gpu", "-v", "-p", "no:cacheprovider"), 120),
        Step("model", ("benchmarks/bench_model.py", *on, "--repeats", rounds), 30),
        Step("linear", ("benchmarks/bench_linear.py", *on, *each), 30),
        Step("step", ("benchmarks/estimate.py", "--measure", device), 40),
        Step("frozen", (*training, "--out", str(runs / "frozen")), 40),
        Step("end-to-end", (*whole, "--out", str(runs / "end-to-end")), 40),
        Step("end-to-end-bf16", (*rounded, "--out", str(runs / "end-to-end-bf16")), 60),
        Step("end-to-end-step", ("benchmarks/bench_end_to_end.py", *on), 90),
    ]


def run_step(step: Step, device: str, to: Path) -> dict[str, Any]:
    """Run one step, keep what it prints in `to`; its line of the summary."""
    print(f"-- {step.name}", flush=True)
    cuda = device.startswith("cuda")
    environment = os.environ | ({} if cuda else {REHEARSAL: device})
    limit = step.limit if cuda else SLOWER * step.limit
    start = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, *step.command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
            check=False,
        )
        code, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        kept = late.stdout or ""
        code, output = None, kept if isinstance(kept, str) else kept.decode(errors="replace")
        output += f"\nended after {limit} s\n"
    write_text(to / f"{step.name}.txt", output)
    seconds = round(time.monotonic() - start, 1)
    print(output[-2000:], flush=True)
    return {"name": step.name, "exit_code": code, "seconds": seconds, "limit_s": limit}


def main() -> int:
    """Run the check; 1 when a step failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a rehearsal")
    parser.add_argument("--out", type=Path, metavar="DIR")
    given = parser.parse_args()
    try:
        device = parse_device(given.device)
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    here = provenance(str(device))
    name = re.sub(r"[^a-z0-9]+", "-", here.device.lower()).strip("-")
    rehearsal = ROOT / "build" / "gpu-check"
    out = given.out or (ROOT / "results" / "gpu" / name if device.type == "cuda" else rehearsal)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        lines = [run_step(step, str(device), out) for step in steps(str(device), runs)]
        for record in sorted(runs.glob("*/record.json")):
            shutil.copyfile(record, out / f"{record.parent.name}.record.json")
    summary = {"provenance": here.model_dump(mode="json"), "steps": lines}
    write_json(out / "summary.json", summary)
    bad = [line["name"] for line in lines if line["exit_code"] != 0]
    total = sum(line["seconds"] for line in lines)
    print(f"gpu-check on {here.device}: {total:.0f} s, {out}")
    if bad:
        print(f"failed: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

"""What `run` waits for beside its own compute, on a synthetic COCO of 3,000 small images.

    python benchmarks/bench_commands.py

Goals `warm-run`, `done-run` and `beside-load` (benchmarks/goals.py), from the CPU seconds of whole
processes and all that they start. Data, features and runs lie in a temporary folder. `warm` means
that features and labels are in the cache, as in the second run of a day.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import numpy as np
from goals import report
from PIL import Image

from mlfsic_bench.data.coco import COCO_CATEGORIES, FOLDERS

IMAGES = 1_500  # in each of the two folders
MOST_LABELS = 4  # of an image
SIDE = 32  # pixels
TIMES = 3
SPLIT, BACKBONE = "coco-52-12-16-open-v1", "scenes-small"
OWN_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
Environment = Mapping[str, str]


def write_coco(root: Path) -> None:
    """Images of one colour, each with 1 to 4 of the 80 labels, in the layout of COCO 2014."""
    rng = np.random.default_rng(0)
    numbers = sorted(COCO_CATEGORIES)
    (root / "annotations").mkdir(parents=True)
    for folder in FOLDERS:
        (root / folder).mkdir()
        images, found = [], []
        for i in range(1, IMAGES + 1):
            name = f"COCO_{folder}_{i:012d}.jpg"
            colour = tuple(int(value) for value in rng.integers(0, 256, 3))
            data = io.BytesIO()
            Image.new("RGB", (SIDE, SIDE), colour).save(data, "JPEG")
            (root / folder / name).write_bytes(data.getvalue())
            images.append({"id": i, "file_name": name, "width": SIDE, "height": SIDE})
            for number in rng.choice(numbers, rng.integers(1, MOST_LABELS + 1), replace=False):
                found.append({"id": len(found) + 1, "image_id": i, "category_id": int(number)})
        categories = [{"id": number, "name": COCO_CATEGORIES[number]} for number in numbers]
        content = {"images": images, "annotations": found, "categories": categories}
        (root / "annotations" / f"instances_{folder}.json").write_text(json.dumps(content))


def cpu_of(environment: Environment, *args: str) -> float:
    """CPU seconds of a Python process and of all that it has started and waited for."""
    command = [sys.executable, *args]
    child = subprocess.Popen(
        command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert child.stderr is not None
    said = child.stderr.read().decode(errors="replace")
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{said}")
    return used.ru_utime + used.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        top = Path(place)
        write_coco(top / "data" / "coco")
        base = {k: v for k, v in os.environ.items() if k not in OWN_WAITING}
        base |= {"MLFSIC_CACHE": str(top / "cache"), "MLFSIC_DATA": str(top / "data")}
        one_thread = {**base, "OMP_NUM_THREADS": "1"}
        made = 0

        def run(environment: Environment, again: bool = False) -> float:
            nonlocal made
            made += not again
            command = ["run", "protonet", "--split", SPLIT, "--backbone", BACKBONE]
            out = top / "runs" / str(made)
            return cpu_of(environment, "-m", "mlfsic_bench", *command, "--out", str(out))

        run(base)  # extracts the features
        torch = median(cpu_of(base, "-c", "import torch") for _ in range(TIMES))
        warm = median(run(base) for _ in range(TIMES))
        report("warm-run", warm / torch, f"{warm:.2f} s of {torch:.2f} s")
        help_text = median(cpu_of(base, "-m", "mlfsic_bench", "--help") for _ in range(TIMES))
        done = median(run(base, again=True) for _ in range(TIMES))
        report("done-run", done / help_text, f"{done:.2f} s of {help_text:.2f} s")
        alone = median(run(one_thread) for _ in range(TIMES))
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            beside = median(run(base) for _ in range(TIMES))
        finally:
            busy.kill()
            busy.wait()
        report("beside-load", beside / alone, f"{beside:.2f} s of {alone:.2f} s")


if __name__ == "__main__":
    main()

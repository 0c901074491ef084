"""COCO's annotation files: the first reading beside json.load, and every later one.

    python benchmarks/bench_annotations.py [--scale 0.5]

Synthetic files in the layout of the official ones (`official.py`), at half of their size
unless --scale says otherwise. Each value is the median of three processes; CPU seconds are those of
the call, without imports, and memory is the peak of the whole process, the interpreter with it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from goals import report
from official import write_coco

ROUNDS = 3
BEFORE = 0.38  # of json.load: the parse that every run made at commit 67474d9
TIMED = """
import json, resource, sys, time
from pathlib import Path
{imports}
path = Path(sys.argv[1])
start = time.process_time()
{call}
used = time.process_time() - start
print(json.dumps([used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""
WAYS = {
    "json": ("", "json.loads(path.read_bytes())"),
    "first": (
        "from mlfsic_bench.data import coco_plain\n"
        "from mlfsic_bench.data.coco import OFFICIAL, Instances",
        "Instances.read(path, OFFICIAL).tables()",
    ),
    "labels": ("from mlfsic_bench.data.coco import Coco", "Coco(path).annotations()"),
}


def measured(way: str, path: Path, cache: Path) -> tuple[float, float]:
    """CPU seconds and peak bytes of a way to read a file (of `labels`: a data root)."""
    imports, call = WAYS[way]
    out = subprocess.run(
        [sys.executable, "-c", TIMED.format(imports=imports, call=call), str(path)],
        env=os.environ | {"MLFSIC_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    seconds, peak = json.loads(out)
    return seconds, peak


def median(values: list[tuple[float, float]]) -> tuple[float, float]:
    seconds, peaks = zip(*values, strict=True)
    return statistics.median(seconds), statistics.median(peaks)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.5, help="1 for the official size")
    scale = parser.parse_args().scale
    with tempfile.TemporaryDirectory() as folder:
        root = write_coco(Path(folder), scale)
        path = root / "coco" / "annotations" / "instances_train2014.json"
        size = path.stat().st_size
        both = sum(file.stat().st_size for file in path.parent.iterdir())
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in (*WAYS, "again")}
        for number in range(ROUNDS):
            cache = Path(folder) / f"cache-{number}"
            for way in WAYS:
                runs[way].append(measured(way, path if way != "labels" else root, cache))
            runs["again"].append(measured("labels", root, cache))
    (peer, peer_peak), (first, peak), (labels, _), (again, _) = map(median, runs.values())
    print(f"train at {scale:g} of the official size, {size / 1e6:.0f} MB; both {both / 1e6:.0f} MB")
    print(f"json.load: {peer:.2f} CPU s, peak {peer_peak / 1e6:.0f} MB")
    report("parse-time", first / peer, f"{first:.2f} of {peer:.2f} CPU s, {size / 1e6:.0f} MB")
    report("parse-memory", peak / size, f"{peak / 1e6:.0f} of {size / 1e6:.0f} MB")
    parsed = BEFORE * peer * both / size  # what every run spent on both files
    detail = f"{parsed:.2f} s then, {labels:.2f} s once and {again * 1000:.0f} ms now"
    report("parse-again", parsed / again, f"{detail}, {both / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

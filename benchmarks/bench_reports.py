"""Commands that read results: the CPU seconds of their whole processes, and the level of chance.

    python benchmarks/bench_reports.py

Runs of four methods are made here, on 200 episodes of 16 labels in memory. Every command is a
process of its own, and its CPU seconds are those that the system counted; medians of 7. The level
of chance is computed in closed form and by exact fractions, rank by rank.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the features in memory

from benchmarks.goals import report
from mlfsic_bench.methods.registry import find_method
from mlfsic_bench.metrics.average_precision import expected_random_ap
from mlfsic_bench.splits.split import Part, Split
from tests.fakes.world import fake_run

ROUNDS = 7
# compiled modules are kept, as they are where somebody has installed the package
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
EPISODES, LABELS, POOL = 200, 16, 1000
METHODS = ("protonet", "prior", "random", "constant")
SIZES = ((4, 64), (100, 1024), (7, 4096), (3000, 40_504))


def split() -> Split:
    """A split whose novel images show two labels each, but every third."""
    parts = {}
    for name, count in (("base", 4), ("val", 4), ("novel", LABELS)):
        rng = np.random.default_rng(count)
        targets = np.zeros((POOL, count), bool)
        targets[np.arange(POOL), np.arange(POOL) % count] = True
        targets[np.arange(0, POOL, 3), rng.integers(count, size=len(range(0, POOL, 3)))] = True
        labels = tuple(f"{name}-{i:02d}" for i in range(count))
        parts[name] = Part(labels, tuple(f"{name}/{i:06d}" for i in range(POOL)), targets)
    return Split("made-up-v1", "0" * 64, "made-up", "open", parts, None)


def seconds(*command: str) -> float:
    """CPU seconds of `mlfsic-bench COMMAND`, the median of ROUNDS processes."""
    each = []
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "mlfsic_bench", *command],
            check=True,
            stdout=subprocess.DEVNULL,
            env=ENVIRONMENT,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        each.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(each)


def rank_by_rank(positives: int, total: int) -> float:
    """`expected_random_ap` by its definition, in exact fractions."""
    others = Fraction(positives - 1, total - 1)
    return sum(float((1 + (k - 1) * others) / k) for k in range(1, total + 1)) / total


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFSIC_CACHE"] = ENVIRONMENT["MLFSIC_CACHE"] = str(Path(folder, "cache"))
        ENVIRONMENT.setdefault("PYTHONPYCACHEPREFIX", str(Path(folder, "compiled")))
        made_up = split()
        runs = [
            str(fake_run(Path(folder, name), find_method(name), split=made_up, episodes=EPISODES))
            for name in METHODS
        ]
        start = seconds("--help")
        commands = {
            "methods-list": ("methods", "list"),
            "compare": ("compare", *runs[:3]),
            "table": ("table", *runs),
            "score": ("score", runs[0]),
        }
        for goal, command in commands.items():
            report(goal, seconds(*command), f"`--help` {start:.2f} s")
    before, clock = 0.0, time.process_time()
    exact = [rank_by_rank(*size) for size in SIZES]
    before, clock = time.process_time() - clock, time.process_time()
    closed = [expected_random_ap(*size) for size in SIZES]
    taken = time.process_time() - clock
    report(
        "chance",
        max(abs(a - b) for a, b in zip(exact, closed, strict=True)),
        f"{len(SIZES)} levels, up to {SIZES[-1][1]:,} ranks: {1e6 * taken:.0f} us, "
        f"by fractions {before:.2f} s",
    )


if __name__ == "__main__":
    main()

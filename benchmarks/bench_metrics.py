"""Metrics: our vectorised numpy against scikit-learn per episode, in the same run.

OMP_NUM_THREADS=1 python benchmarks/bench_metrics.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from sklearn import metrics as sk

from mlfsic_bench.metrics.registry import episode_metrics
from mlfsic_bench.randomness import splitmix64_array, stream_seed

NAMES = (
    "micro_precision", "micro_recall", "micro_f1", "micro_ap",
    "macro_precision", "macro_recall", "macro_f1", "macro_ap",
)  # fmt: skip


def make(episodes: int, queries: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 and targets bool, four positives a label plus a few shared ones."""
    seed = np.uint64(stream_seed("bench", "metrics", episodes, queries, labels))
    shape = (episodes, queries, labels)
    words = splitmix64_array(np.array(seed), np.arange(2 * np.prod(shape), dtype=np.uint64))
    u, v = (words >> np.uint64(11)).astype(np.float64).reshape(2, *shape) / 2**53
    targets = v < 0.1
    targets[:, np.arange(queries), np.arange(queries) % labels] = True
    return (6 * (u - 0.5) + targets).astype(np.float32), targets


def sklearn_metrics(scores: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    rows = []
    for s, y in zip(scores, targets, strict=True):
        d = s > 0
        row = []
        for average in ("micro", "macro"):
            p = sk.precision_score(y, d, average=average, zero_division=0)
            r = sk.recall_score(y, d, average=average, zero_division=0)
            row += [p, r, 2 * p * r / (p + r) if p + r else 0.0]
            row.append(sk.average_precision_score(y, s, average=average))
        rows.append(row)
    return dict(zip(NAMES, np.array(rows).T, strict=True))


def seconds(function: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the peer")
    rounds = parser.parse_args().rounds
    for shape in ((200, 64, 16), (200, 24, 6), (200, 208, 52)):
        scores, targets = make(*shape)
        ours, theirs = (
            episode_metrics(scores, targets, names=NAMES),
            sklearn_metrics(scores, targets),
        )
        worst = max(float(np.abs(ours[name] - theirs[name]).max()) for name in NAMES)
        peer = seconds(lambda s=scores, y=targets: sklearn_metrics(s, y), rounds)
        mine = seconds(lambda s=scores, y=targets: episode_metrics(s, y, names=NAMES), 7 * rounds)
        print(
            f"{'x'.join(map(str, shape)):>11}: scikit-learn {peer * 1e3:8.1f} ms, "
            f"ours {mine * 1e3:6.2f} ms, {peer / mine:5.0f}x, largest difference {worst:.1e}"
        )


if __name__ == "__main__":
    main()

"""Intervals over images, in closed form. The peers are simple code for the same numbers. No goal is
set. CPU time.

    python benchmarks/bench_intervals.py
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.metrics import average_precision_score

from mlfsic_bench.metrics.average_precision import Ranking
from mlfsic_bench.metrics.registry import episode_metrics, query_influence
from mlfsic_bench.randomness import stream_seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=200)
    options = parser.parse_args()
    E, Q, L = options.episodes, 64, 16
    rng = np.random.default_rng(stream_seed("bench", "intervals"))
    s = rng.normal(size=(E, Q, L)).astype(np.float32)
    y = rng.random(s.shape) < 0.05
    y[:, np.arange(Q), np.arange(Q) // 4] = True

    weights = rng.integers(0, 3, size=(E, Q)).astype(np.float64)
    few = min(E, 5)
    start = time.process_time()
    theirs = [
        [
            average_precision_score(y[e, :, k], s[e, :, k], sample_weight=weights[e])
            for k in range(L)
        ]
        for e in range(few)
    ]
    peer = (time.process_time() - start) / few
    start = time.process_time()
    ranking = Ranking(s.transpose(0, 2, 1), y.transpose(0, 2, 1))
    found = ranking.ap(np.repeat(weights[:, None], L, axis=1))
    mine = (time.process_time() - start) / E
    print(
        f"weighted AP of an episode: scikit-learn / measured {peer / mine:.0f}, "
        f"largest difference {np.abs(found[:few] - theirs).max():.1e}"
    )

    start = time.process_time()
    found = query_influence(s, y, names=["macro_ap"])["macro_ap"]
    mine = time.process_time() - start
    whole = episode_metrics(s, y, names=["macro_ap"])["macro_ap"]
    start = time.process_time()
    plain = np.stack(
        [
            whole
            - episode_metrics(np.delete(s, q, 1), np.delete(y, q, 1), names=["macro_ap"])[
                "macro_ap"
            ]
            for q in range(Q)
        ],
        axis=1,
    )
    peer = time.process_time() - start
    print(
        f"macro-AP without each query: the metric {Q} times / in closed form {peer / mine:.1f}, "
        f"largest difference {np.abs(found - plain).max():.1e}"
    )
    start = time.process_time()
    query_influence(s, y)
    print(f"all metrics without each query: {time.process_time() - start:.2f} s")


if __name__ == "__main__":
    main()

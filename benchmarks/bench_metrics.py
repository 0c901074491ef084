"""The eight metrics of 200 episodes in numpy, all episodes at once. The peer is scikit-learn,
episode by episode; it is timed on 20 of the 200 and scaled. CPU time.

    python benchmarks/bench_metrics.py
"""

from __future__ import annotations

import argparse

import numpy as np
from goals import report
from sklearn import metrics as sk
from timing import medians

from mlfsic_bench.metrics.registry import episode_metrics
from mlfsic_bench.randomness import splitmix64_array, stream_seed

NAMES = (
    "micro_precision", "micro_recall", "micro_f1", "micro_ap",
    "macro_precision", "macro_recall", "macro_f1", "macro_ap",
)  # fmt: skip

SHARE = 10  # scikit-learn is timed on one episode in so many


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for shape in ((200, 64, 16), (200, 24, 6), (200, 208, 52)):
        scores, targets = make(*shape)
        s, y = scores[::SHARE], targets[::SHARE]
        measured, expected = episode_metrics(s, y, names=NAMES), sklearn_metrics(s, y)
        worst = max(float(np.abs(measured[name] - expected[name]).max()) for name in NAMES)
        work = {
            "scikit-learn": lambda s=s, y=y: sklearn_metrics(s, y),
            "numpy": lambda s=scores, y=targets: episode_metrics(s, y, names=NAMES),
        }
        seconds = medians(work, rounds)
        peer, mine = SHARE * seconds["scikit-learn"], seconds["numpy"]
        print(
            f"{'x'.join(map(str, shape)):>11}: scikit-learn {peer * 1e3:8.1f} ms, "
            f"numpy {mine * 1e3:6.2f} ms, {peer / mine:5.0f}x, largest difference {worst:.1e}"
        )
        if shape[2] in (16, 52):
            detail = f"{mine * 1e3:.3g} of {peer * 1e3:.0f} ms"
            report(f"metrics-{shape[2]}", peer / mine, detail)


if __name__ == "__main__":
    main()

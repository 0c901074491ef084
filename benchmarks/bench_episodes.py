"""Episode sampling: all at once in numpy against a good plain-Python loop, in the same run.

    OMP_NUM_THREADS=1 python benchmarks/bench_episodes.py

The peer draws from the same pools under the same rule (draw until an unused image is met) with
`random.Random`, keeps a set of used images per episode, and is given rows, not ids, as we are.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

import numpy as np

from mlfsic_bench.episodes.feasibility import build_pools
from mlfsic_bench.episodes.per_label import ONE_PER_LABEL
from mlfsic_bench.randomness import splitmix64_array, stream_seed
from mlfsic_bench.splits.split import Part


def make_part(n: int, labels: int) -> Part:
    """A part with COCO-like pools: from 0.4 % to 30 % of the images, about 2.8 labels an image."""
    index = np.arange(n * labels, dtype=np.uint64)
    words = splitmix64_array(np.array(stream_seed("bench", n, labels), np.uint64), index)
    uniform = (words >> np.uint64(11)).reshape(n, labels) / 2**53
    share = np.geomspace(0.004, 0.3, labels)
    targets = uniform < share * min(1.0, 2.8 / share.sum())
    targets[:, -1] |= ~targets.any(axis=1)
    names = tuple(f"label {i}" for i in range(labels))
    return Part(names, tuple(f"image/{i:06d}" for i in range(n)), targets)


def plain_python(pools: list[list[int]], order: list[int], episodes: int) -> list[list[int]]:
    result = []
    for episode in range(episodes):
        rng = random.Random(episode)
        used: set[int] = set()
        taken: list[int] = []
        for each in (1, 4):
            for label in order:
                pool = pools[label]
                for _ in range(each):
                    image = pool[int(rng.random() * len(pool))]
                    while image in used:
                        image = pool[int(rng.random() * len(pool))]
                    used.add(image)
                    taken.append(image)
        result.append(taken)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    count = 200
    for n, labels in ((40_000, 16), (82_000, 16), (40_000, 52), (82_000, 52)):
        part = make_part(n, labels)
        sampler = ONE_PER_LABEL.sampler(part, "hash", "novel")
        pools = [sampler.pools[i].tolist() for i in range(labels)]
        order = sampler.pools.order.tolist()
        work = {
            "peer": lambda p=pools, o=order: plain_python(p, o, count),
            "rows": lambda s=sampler: s.draw_rows(range(count)),
            "episodes": lambda s=sampler: s.draw(range(count)),
            "one": lambda s=sampler: s.draw([7]),
            "pools": lambda part=part: build_pools(part.targets),
        }
        times: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(rounds):
            for name, function in work.items():
                start = time.perf_counter()
                function()
                times[name].append(1e3 * (time.perf_counter() - start))
        ms = {name: statistics.median(values) for name, values in times.items()}
        best = min(times["peer"]) / min(times["rows"])
        print(
            f"{n} images, {labels} labels, {count} episodes: plain Python {ms['peer']:.1f} ms, "
            f"rows {ms['rows']:.2f} ms "
            f"({ms['peer'] / ms['rows']:.1f}x by medians, {best:.1f}x by best rounds), "
            f"with ids {ms['episodes']:.2f} ms; one episode {ms['one']:.2f} ms, "
            f"pools (once) {ms['pools']:.1f} ms"
        )


if __name__ == "__main__":
    main()

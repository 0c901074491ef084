"""The clock of the benchmarks that compare functions within one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def clock_of(device: str) -> Callable[[], float]:
    """Seconds on the wall; on a GPU, once it has done all that it was given."""
    if not device.startswith("cuda"):
        return time.perf_counter
    import torch

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return clock


def medians(
    work: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """Median seconds of each function, by default CPU seconds of this process.

    They run in turn, round after round, so that other load falls on all alike; a first round that
    does not count fills the caches.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(rounds + 1):
        for name, function in work.items():
            start = clock()
            function()
            if round_:
                times[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in times.items()}

"""Gathering maps (7x7x2048, float16) as float32 from the feature store. The peers are the other
usual ways to keep maps on disk. Every reader returns the same values, checked first; all are timed
in turn, round after round, in one process; seconds on the wall, since a gather uses threads and
waits for the disk. `cold` drops the file from the page cache before each read (Linux).

    python benchmarks/bench_features.py [--rounds 5] [--folder DIR]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from goals import report

from mlfsic_bench.features.store.manifest import Manifest
from mlfsic_bench.features.store.store import LOCAL, FeatureStore
from mlfsic_bench.features.store.writer import StoreWriter

ROWS, MAPS, C, SIDE = 2000, 260, 2048, 7
STORE, FILES, MEMMAP = "FeatureStore.gather_local", "one .pt per image", "numpy memmap[rows]"
Reader = Callable[[list[int]], torch.Tensor]


def build(folder: Path) -> FeatureStore:
    """A store of random maps, and beside it one .pt file per image."""
    manifest = Manifest("bench", "bench", "0" * 64, "none", C, (SIDE, SIDE))
    rng = np.random.default_rng(0)
    (folder / "pt").mkdir()
    with StoreWriter(folder / "store", manifest) as writer:
        for start in range(0, ROWS, 100):
            local = rng.random((100, SIDE * SIDE, C), dtype=np.float32)
            names = [f"i{k}" for k in range(start, start + 100)]
            writer.add(names, ["d"] * 100, local, local.mean(axis=1))
            for name, maps in zip(names, local, strict=True):
                torch.save(torch.from_numpy(maps.astype(np.float16)), folder / "pt" / f"{name}.pt")
    return FeatureStore(folder / "store")


def readers(folder: Path, store: FeatureStore) -> dict[str, Reader]:
    path, shape = folder / "store" / LOCAL, (ROWS, SIDE * SIDE, C)
    memmap = np.memmap(path, dtype="<f2", mode="r", shape=shape)

    def shaped(x: torch.Tensor) -> torch.Tensor:
        return x.float().view(-1, SIDE, SIDE, C).permute(0, 3, 1, 2)

    def one_file_each(rows: list[int]) -> torch.Tensor:
        files = [folder / "pt" / f"i{r}.pt" for r in rows]
        return shaped(torch.stack([torch.load(f, weights_only=True) for f in files]))

    return {
        FILES: one_file_each,
        MEMMAP: lambda rows: shaped(torch.from_numpy(np.asarray(memmap[rows]))),
        STORE: lambda rows: store.gather_local([f"i{r}" for r in rows]),
    }


def drop_from_cache(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm(folder: Path, rounds: int) -> tuple[float, str]:
    all_readers = readers(folder, FeatureStore(folder / "store"))
    rng = np.random.default_rng(1)
    times: dict[str, list[float]] = {name: [] for name in all_readers}
    for round_ in range(rounds + 1):
        rows = rng.permutation(ROWS)[:MAPS].tolist()
        expected = all_readers[MEMMAP](rows)
        for name, read in all_readers.items():
            start = time.perf_counter()
            got = read(rows)
            if round_:  # the first round warms the caches
                times[name].append(time.perf_counter() - start)
            assert torch.equal(got, expected)
            del got
    return table(f"warm, {MAPS} maps", times)


def cold(folder: Path, rounds: int, count: int) -> tuple[float, str]:
    path = folder / "store" / LOCAL
    rng = np.random.default_rng(2)
    names = [MEMMAP, STORE]
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            drop_from_cache(path)  # nothing maps the file here, so its pages can go
            read = readers(folder, FeatureStore(folder / "store"))[name]
            rows = rng.permutation(ROWS)[:count].tolist()
            start = time.perf_counter()
            read(rows)
            times[name].append(time.perf_counter() - start)
            del read
    return table(f"cold, {count} maps", times)


def table(title: str, times: dict[str, list[float]]) -> tuple[float, str]:
    """Print the times; how often the store is as fast as the first, and both times."""
    first = statistics.median(next(iter(times.values())))
    print(f"{title}\n  {'':<28}{'median ms':>10}{'min ms':>10}{'ratio':>8}")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"  {name:<28}{median * 1e3:>10.1f}{min(values) * 1e3:>10.1f}{first / median:>8.1f}")
    mine = statistics.median(times[STORE])
    return first / mine, f"{1e3 * mine:.1f} of {1e3 * first:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write about 0.8 GB")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        build(folder)
        report("gather-warm", *warm(folder, arguments.rounds))
        report("gather-cold", *cold(folder, arguments.rounds, 64))
        cold(folder, arguments.rounds, MAPS)


if __name__ == "__main__":
    main()

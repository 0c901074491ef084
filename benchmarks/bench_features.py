"""Gathering 260 float16 maps (49 x 2048) as float32: this package's store beside its peers.

Every reader returns the same float32 [260, 2048, 7, 7] values, checked first; all are timed in
turn, round after round, in this one process; medians. `cold` drops the file from the page cache
before each read (Linux). Also: extraction with the store's way of running a network beside one
image at a time. Usage: python benchmarks/bench_features.py [--rounds 7] [--folder DIR]
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

from mlfsic_bench.features.compute import Runner, kept_memory
from mlfsic_bench.features.store.manifest import Manifest
from mlfsic_bench.features.store.store import LOCAL, FeatureStore
from mlfsic_bench.features.store.writer import StoreWriter

ROWS, MAPS, C, SIDE = 2000, 260, 2048, 7
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
        "one .pt per image": one_file_each,
        "numpy memmap[rows]": lambda rows: shaped(torch.from_numpy(np.asarray(memmap[rows]))),
        "FeatureStore.gather_local": lambda rows: store.gather_local([f"i{r}" for r in rows]),
    }


def drop_from_cache(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm(folder: Path, rounds: int) -> None:
    all_readers = readers(folder, FeatureStore(folder / "store"))
    rng = np.random.default_rng(1)
    times: dict[str, list[float]] = {name: [] for name in all_readers}
    for round_ in range(rounds + 1):
        rows = rng.permutation(ROWS)[:MAPS].tolist()
        expected = all_readers["numpy memmap[rows]"](rows)
        for name, read in all_readers.items():
            start = time.perf_counter()
            got = read(rows)
            if round_:  # the first round warms the caches
                times[name].append(time.perf_counter() - start)
            assert torch.equal(got, expected)
            del got
    table(f"warm, {MAPS} maps", times)


def cold(folder: Path, rounds: int, count: int) -> None:
    path = folder / "store" / LOCAL
    rng = np.random.default_rng(2)
    names = ["numpy memmap[rows]", "FeatureStore.gather_local"]
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
    table(f"cold, {count} maps", times)


def extraction(rounds: int) -> None:
    from mlfsic_bench.features.backbones.registry import build_backbone

    backbone = build_backbone("resnet50", "none")
    images = list(torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    runner = Runner(backbone, torch.device("cpu"), "fp32")
    times: dict[str, list[float]] = {"one at a time, autograd on": [], "Runner, 8 at once": []}
    for round_ in range(rounds + 1):
        start = time.perf_counter()
        for image in images:
            backbone(image[None]).detach()
        middle = time.perf_counter()
        with kept_memory():
            runner(images)  # a run is long: the memory is kept from the first batch on
            kept = time.perf_counter()
            runner(images)
            end = time.perf_counter()
        if round_:
            times["one at a time, autograd on"].append(middle - start)
            times["Runner, 8 at once"].append(end - kept)
    table("ResNet-50 on 8 images, CPU, without decoding", times)


def table(title: str, times: dict[str, list[float]]) -> None:
    first = statistics.median(next(iter(times.values())))
    print(f"{title}\n  {'':<28}{'median ms':>10}{'min ms':>10}{'ratio':>8}")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"  {name:<28}{median * 1e3:>10.1f}{min(values) * 1e3:>10.1f}{first / median:>8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where to write about 0.8 GB")
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        build(folder)
        warm(folder, arguments.rounds)
        for count in (64, MAPS):
            cold(folder, arguments.rounds, count)
    extraction(arguments.rounds)


if __name__ == "__main__":
    main()

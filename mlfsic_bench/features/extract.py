"""Extraction: the images a store lacks, decoded in threads, run and appended in batches.

And the check of a store against its images: fresh features of a sample beside the stored ones.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mlfsic_bench import distributed
from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.compute import Runner, input_of, kept_memory, parse_device
from mlfsic_bench.features.sharing import Batches, Rows, help_making, made_together
from mlfsic_bench.features.sources import FeatureSource, StoredFeatures, join
from mlfsic_bench.features.store.manifest import (
    MANIFEST,
    Manifest,
    Precision,
    default_cache,
    manifest_of,
    store_folder,
)
from mlfsic_bench.features.store.store import INDEX, FeatureStore
from mlfsic_bench.features.store.writer import StoreWriter
from mlfsic_bench.hashing import hash_bytes
from mlfsic_bench.locks import BusyError
from mlfsic_bench.paths import exists
from mlfsic_bench.plugins.surroundings import preserved
from mlfsic_bench.progress import LOG, progress
from mlfsic_bench.randomness import stream_seed

if TYPE_CHECKING:
    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.features.backbones.base import Backbone


DRIFT_IMAGES = 16
SPOT_CHECKS = 32
WAIT_SECONDS = 0.5
Decoded = tuple[str, str, Tensor]  # image id, SHA-256 of its bytes, transformed image


def extract(
    dataset: Dataset,
    ids: Iterable[str],
    backbone: Backbone,
    folder: Path,
    *,
    device: str | torch.device = "cpu",
    batch_size: int | None = None,
    workers: int | None = None,
    precision: Precision = "fp32",
    wait: bool = False,
    open_store: Callable[[Path], FeatureStore] = FeatureStore,
    log: Callable[[str], None] = print,
) -> FeatureStore:
    """A store in `folder` with features of at least these images; only missing ones are made.

    Rows are appended in sorted order of the ids, a batch at a time; killed at any moment, the next
    call goes on where the last whole batch ended. Neither `device`, `batch_size` nor `workers`
    changes the values beyond float32 rounding. `bf16` does, is a store of its own, and its drift
    from fp32 on the first images is passed to `log`.

    `batch_size`: default 8 on a CPU (small activations stay in cache), 64 on a GPU.
    `workers`: decoding threads, default one per core, at most 8.
    `wait`: where another process is writing to the store, wait until it has ended; else BenchError.
    `open_store`: opens the store in a folder, or gives the one that is open.
    Processes of one run (`distributed`) share the work.
    How far it is, is drawn as a bar on a terminal; elsewhere `log` gets a line every ten seconds.
    Raises BenchError naming a missing or corrupt image, or one whose features are not finite; rows
    stored before it stay. Of the images that are stored already, 32 spread over the ids are
    compared with the dataset by digest: a store made from other files of the same names is refused
    rather than used (`features verify` compares them all).
    """
    ids = sorted(set(ids))
    where = parse_device(device)
    batch_size = batch_size or (8 if where.type == "cpu" else 64)
    workers = workers or min(8, os.cpu_count() or 1)
    backbone.require_unchanged()
    manifest = manifest_of(dataset, backbone, precision)
    ready = _complete_store(open_store, folder, manifest, dataset, ids)
    if ready is not None:
        LOG.debug("features of %d images by %s are in %s already", len(ids), backbone.name, folder)
        return ready
    backbone = backbone.built()

    def make(batches: Batches, numbers: Iterator[int]) -> Iterator[tuple[int, Rows]]:
        run = Runner(backbone, where, precision)
        memory: AbstractContextManager[None] = nullcontext()
        if where.type == "cpu":
            memory = kept_memory()
        taken: deque[int] = deque()

        def names() -> Iterator[str]:
            for number in numbers:
                taken.append(number)
                yield from batches[number]

        with memory, ThreadPoolExecutor(workers) as threads:
            images = _decoded(dataset, names(), backbone, threads, 2 * batch_size + workers)
            for first in images:
                number = taken.popleft()
                batch = [first, *islice(images, len(batches[number]) - 1)]
                yield number, Rows([one[1] for one in batch], *run([one[2] for one in batch]))

    def meanwhile() -> bool:
        with preserved():
            return help_making(folder, make)

    with (
        distributed.inseparable(),
        _writer(folder, manifest, wait, log, meanwhile) as writer,
        preserved(),
    ):
        missing = sorted(set(ids) - writer.ids)
        if missing:
            if precision == "bf16":
                _log_drift(dataset, missing, backbone, where, log)
            log(f"features of {len(missing)} images by {backbone.name}, kept in {folder}")
            batches = [missing[k : k + batch_size] for k in range(0, len(missing), batch_size)]
            with progress(f"{backbone.name} on {dataset.name}", len(missing), log) as advance:
                for names, rows in made_together(folder, ids, batches, make):
                    writer.add(names, *rows)
                    advance(len(names))
    return open_store(folder)


def stored_features(
    dataset: Dataset,
    ids: Sequence[str],
    backbones: Sequence[Backbone],
    *,
    cache: Path | None = None,
    device: str | torch.device = "cpu",
    batch_size: int | None = None,
    workers: int | None = None,
    precision: Precision = "fp32",
    open_store: Callable[[Path], FeatureStore] = FeatureStore,
    log: Callable[[str], None] = print,
) -> tuple[FeatureSource, list[FeatureStore]]:
    """Features of at least these images by each network, side by side; and the stores they are in.

    A store of each network is kept in `cache` (None: the user's); the rest is as for `extract`.
    """
    stores = [
        extract(
            dataset,
            ids,
            backbone,
            store_folder(cache or default_cache(), dataset, backbone, precision),
            device=device,
            batch_size=batch_size,
            workers=workers,
            precision=precision,
            wait=True,
            open_store=open_store,
            log=log,
        )
        for backbone in backbones
    ]
    return join(backbones, [StoredFeatures(store, device) for store in stores]), stores


@contextmanager
def _writer(
    folder: Path,
    manifest: Manifest,
    wait: bool,
    log: Callable[[str], None],
    meanwhile: Callable[[], bool],
) -> Iterator[StoreWriter]:
    """A StoreWriter; with `wait`, as soon as no other process holds the store.

    `meanwhile` helps the holder, and says whether that is a process of this run.
    """
    said = False
    while True:
        try:
            with StoreWriter(folder, manifest, log) as writer:
                yield writer
            return
        except BusyError:
            if not wait and distributed.count() == 1:
                raise
        distributed.wait_for(lambda: True)  # raises where another process has failed
        if meanwhile():
            time.sleep(WAIT_SECONDS / 10)
            continue
        if not said:
            log(f"another process is writing to {folder}; waiting until it has ended")
            said = True
        time.sleep(WAIT_SECONDS)


def _complete_store(
    open_store: Callable[[Path], FeatureStore],
    folder: Path,
    manifest: Manifest,
    dataset: Dataset,
    ids: list[str],
) -> FeatureStore | None:
    """The store, when it has every image already; spot-checks those it has, without its lock."""
    if not exists(folder / MANIFEST) or not exists(folder / INDEX):
        return None
    store = open_store(folder)
    if store.manifest != manifest:
        return None  # the writer says what differs
    there = [i for i in ids if i in store]
    for image_id in there[:: max(1, -(-len(there) // SPOT_CHECKS))]:
        found = hash_bytes(dataset.image_bytes(image_id))
        if found != store.digest(image_id):
            raise BenchError(
                f"{folder} was made from other images than those of this data root",
                expected=f"{image_id} with SHA-256 {store.digest(image_id)[:12]}",
                found=f"SHA-256 {found[:12]}",
                remedy="name another cache folder with --cache, or remove this store",
            )
    return store if len(there) == len(ids) else None


def decode(dataset: Dataset, backbone: Backbone, image_id: str) -> Decoded:
    """One image's id, the SHA-256 of its bytes, and the backbone's input made from it."""
    digest = hash_bytes(dataset.image_bytes(image_id))
    return image_id, digest, input_of(backbone, dataset.open_image(image_id))


def _decoded(
    dataset: Dataset,
    ids: Iterator[str],
    backbone: Backbone,
    threads: ThreadPoolExecutor,
    ahead: int,
) -> Iterator[Decoded]:
    """The images in order, up to `ahead` of them decoded in advance."""
    waiting: deque[Future[Decoded]] = deque()
    try:
        while True:
            for image_id in islice(ids, ahead - len(waiting)):
                waiting.append(threads.submit(decode, dataset, backbone, image_id))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _log_drift(
    dataset: Dataset,
    ids: list[str],
    backbone: Backbone,
    device: torch.device,
    log: Callable[[str], None],
) -> None:
    """How far bf16 is from fp32 on the first images: relative L2 of pooled, mean local cosine."""
    images = [decode(dataset, backbone, i)[2] for i in ids[:DRIFT_IMAGES]]
    exact, rough = (Runner(backbone, device, p)(images) for p in ("fp32", "bf16"))
    a, b = exact[1].astype(np.float64), rough[1].astype(np.float64)
    relative = float(np.linalg.norm(a - b) / np.linalg.norm(a))
    u, v = exact[0].astype(np.float64), rough[0].astype(np.float64)
    norms = np.linalg.norm(u, axis=2) * np.linalg.norm(v, axis=2)
    cosines = (u * v).sum(axis=2)[norms > 0] / norms[norms > 0]
    cosine = float(cosines.mean()) if cosines.size else 1.0
    log(
        f"bf16 against fp32 on {len(images)} images: pooled features differ by {relative:.2e} "
        f"(relative L2), local features have cosine {cosine:.5f}"
    )


# Of an image's largest magnitude: float16 rounds to 5e-4 of a value; other devices and batch sizes
# add float32 rounding. bf16 keeps 8 bits and its sums differ between devices.
TOLERANCE = {"fp32": 2e-3, "bf16": 5e-2}


@dataclass(frozen=True)
class Difference:
    """One image whose row is not what it should be, and why."""

    image_id: str
    reason: str


def verify_store(
    store: FeatureStore,
    dataset: Dataset,
    backbone: Backbone,
    *,
    sample: int | None = None,
    device: str | torch.device = "cpu",
    batch_size: int = 8,
    log: Callable[[str], None] = lambda line: None,
) -> tuple[int, list[Difference]]:
    """(images checked, differences): digest of the image and values of map and pooled feature.

    `sample` images are drawn by a fixed rule from the ids; None checks every row. `log` gets a line
    every ten seconds on how far it is. Raises BenchError when dataset or backbone are not the ones
    the store was made with.
    """
    wanted = manifest_of(dataset, backbone, store.manifest.precision)
    if wanted != store.manifest:
        there, named = store.manifest.differences(wanted)
        raise BenchError(
            f"{store.folder} was not made by this backbone",
            expected=there,
            found=named,
            remedy="name the weights it was made with (--weights)",
        )
    ids = sorted(store.ids, key=lambda i: stream_seed("features", "verify", i))[:sample]
    run = Runner(backbone, parse_device(device), wanted.precision)
    differences: list[Difference] = []
    with preserved(), progress("features verify", len(ids), log) as advance:
        for start in range(0, len(ids), batch_size):
            batch = [decode(dataset, backbone, i) for i in ids[start : start + batch_size]]
            names = [name for name, _, _ in batch]
            fresh_local, fresh_pooled = run([tensor for _, _, tensor in batch])
            old_local = None
            if store.has_maps:
                old_local = store.gather_local(names).permute(0, 2, 3, 1).flatten(1, 2).numpy()
            old_pooled = store.gather_pooled(names).numpy()
            for k, (name, digest, _) in enumerate(batch):
                if digest != store.digest(name):
                    differences.append(Difference(name, "the image's bytes have changed"))
                    continue
                pairs = [("pooled feature", old_pooled[k], fresh_pooled[k])]
                if old_local is not None:
                    pairs.insert(0, ("local map", old_local[k], fresh_local[k]))
                for kind, old, new in pairs:
                    allowed = TOLERANCE[wanted.precision] * float(np.abs(new).max())
                    off = float(np.abs(old - new).max())
                    if not off <= allowed:  # NaN counts as a difference
                        reason = f"{kind} off by {off:.3g}, allowed {allowed:.3g}"
                        differences.append(Difference(name, reason))
            advance(len(batch))
    return len(ids), differences

"""Checking a store against its images: fresh features of a sample beside the stored ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.compute import Runner, parse_device
from mlfsic_bench.features.extract import decode
from mlfsic_bench.features.store.manifest import manifest_of
from mlfsic_bench.progress import Lines
from mlfsic_bench.randomness import stream_seed

if TYPE_CHECKING:
    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.features.backbones.base import Backbone
    from mlfsic_bench.features.store.store import FeatureStore

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

    `sample` images are drawn by a fixed rule from the ids; None checks every row. `log` is told how
    far it is every ten seconds. Raises BenchError when dataset or backbone are not the ones the
    store was made with.
    """
    wanted = manifest_of(dataset, backbone, store.manifest.precision)
    if wanted != store.manifest:
        old, new = store.manifest.as_json(), wanted.as_json()
        raise BenchError(
            f"{store.folder} was not made by this backbone",
            expected="; ".join(f"{k} {old[k]}" for k in old if new[k] != old[k]),
            found="; ".join(f"{k} {new[k]}" for k in old if new[k] != old[k]),
            remedy="name the weights it was made with (--weights)",
        )
    ids = sorted(store.ids, key=lambda i: stream_seed("features", "verify", i))[:sample]
    run = Runner(backbone, parse_device(device), wanted.precision)
    differences: list[Difference] = []
    digest_of = dict(zip(store.ids, store.digests, strict=True))
    lines = Lines("features verify", len(ids), log)
    for start in range(0, len(ids), batch_size):
        batch = [decode(dataset, backbone, i) for i in ids[start : start + batch_size]]
        names = [name for name, _, _ in batch]
        fresh_local, fresh_pooled = run([tensor for _, _, tensor in batch])
        old_local = store.gather_local(names).permute(0, 2, 3, 1).flatten(1, 2).numpy()
        old_pooled = store.gather_pooled(names).numpy()
        for k, (name, digest, _) in enumerate(batch):
            if digest != digest_of[name]:
                differences.append(Difference(name, "the image's bytes have changed"))
                continue
            for kind, old, new in (
                ("local map", old_local[k], fresh_local[k]),
                ("pooled feature", old_pooled[k], fresh_pooled[k]),
            ):
                allowed = TOLERANCE[wanted.precision] * float(np.abs(new).max())
                off = float(np.abs(old - new).max())
                if not off <= allowed:  # NaN counts as a difference
                    reason = f"{kind} off by {off:.3g}, allowed {allowed:.3g}"
                    differences.append(Difference(name, reason))
        lines.advance(len(batch))
    return len(ids), differences

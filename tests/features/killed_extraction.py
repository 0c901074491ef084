"""An extraction that is killed before one of its files is synced, and a second writer."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mlfsic_bench.features.extract import extract
from mlfsic_bench.features.store.manifest import read_manifest
from mlfsic_bench.features.store.writer import StoreWriter
from mlfsic_bench.locks import BusyError
from tests.fakes.processes import die_at
from tests.features.feature_fakes import FolderDataset, picked_backbone

BUSY = 3


def extract_until(images: Path, store: Path, end: int | None = None) -> None:
    if end is not None:
        die_at(os, "fsync", end)
    dataset = FolderDataset(images)
    ids = dataset.annotations().image_ids
    extract(dataset, ids, picked_backbone(), store, batch_size=2, workers=2)


def write_to(store: Path) -> None:
    """Open the store for writing; ends with BUSY where another process has it open."""
    try:
        with StoreWriter(store, read_manifest(store)):
            pass
    except BusyError:
        sys.exit(BUSY)

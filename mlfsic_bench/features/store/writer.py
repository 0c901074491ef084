"""Appending to a feature store: one writer, data before index, nothing lost but the last batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.store.manifest import MANIFEST, Manifest, read_manifest
from mlfsic_bench.features.store.store import (
    INDEX,
    LOCAL,
    POOLED,
    check_sizes,
    index_lines,
    read_index,
)
from mlfsic_bench.locks import BusyError, only_writer
from mlfsic_bench.paths import exists, list_folder

HALF_MAX = float(np.finfo(np.float16).max)


class StoreWriter:
    """A context manager that holds the store's lock and appends rows in batches.

        with StoreWriter(folder, manifest, log) as writer:
            writer.add(ids, digests, local, pooled)

    On entry, what a killed writer left behind its last complete row is cut away. Each `add` writes
    and syncs the data of a batch before its index lines, so a row that the index names is whole.
    Where the file system has no locks, `log` gets a line that says so; what another process appends
    meanwhile is noticed before the next batch, and the second writer stops.

    Attributes
    ----------
    ids: the images that are in the store, growing with `add`.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, log: Callable[[str], None] = lambda line: None
    ) -> None:
        self.folder, self.manifest, self._log = Path(folder), manifest, log
        self.ids: set[str] = set()
        self._files: dict[str, IO[bytes]] = {}
        self._open = ExitStack()
        self._broken = False

    def __enter__(self) -> StoreWriter:
        with ExitStack() as stack:
            stack.enter_context(only_writer(self.folder, log=self._log))
            try:
                self._prepare(stack)
            except OSError as error:
                raise self._cannot_write(error) from error
            self._open = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()  # closing the lock's file lets go of the lock

    def add(
        self,
        ids: Sequence[str],
        digests: Sequence[str],
        local: npt.NDArray[np.float32],
        pooled: npt.NDArray[np.float32],
    ) -> None:
        """Append n images: local float32 [n, h*w, c], location-major, and pooled float32 [n, d].

        BenchError naming the image when a value is not finite or beyond float16, when an image is
        in the store already, or when the disk is full; the store is then as it was before.
        """
        m = self.manifest
        shapes = ((len(ids), m.locations, m.channels), (len(ids), m.dim))
        if (local.shape, pooled.shape) != shapes:
            raise ValueError(f"maps {local.shape} and pooled {pooled.shape} for {m}")
        double = [i for k, i in enumerate(ids) if i in self.ids or i in ids[:k]]
        if double:
            raise ValueError(f"{double[0]} is in the store already")
        if self._broken:
            raise ValueError("a batch could not be written; open the store again")
        self._check(ids, local, pooled)
        self._refuse_second_writer()
        parts = (
            (LOCAL, local.astype("<f2").tobytes()),
            (POOLED, pooled.astype("<f4").tobytes()),
            (INDEX, index_lines(ids, digests)),
        )
        sizes = {name: self._files[name].tell() for name, _ in parts}
        try:
            for name, data in parts:
                if name == INDEX:  # the data must be on the disk before the index names it
                    for file in (LOCAL, POOLED):
                        os.fsync(self._files[file].fileno())
                _write(self._files[name], data)
            os.fsync(self._files[INDEX].fileno())
        except OSError as error:
            self._broken = True
            for name, size in sizes.items():
                self._files[name].truncate(size)
            raise self._cannot_write(error) from error
        self.ids.update(ids)

    def _check(
        self,
        ids: Sequence[str],
        local: npt.NDArray[np.float32],
        pooled: npt.NDArray[np.float32],
    ) -> None:
        """BenchError naming the first image with a NaN, an infinity or a value beyond float16."""
        for image_id, maps, mean in zip(ids, local, pooled, strict=True):
            # NaN and infinity pass through min and max, so two passes find everything
            low, high = (float(maps.min()), float(maps.max())) if maps.size else (0.0, 0.0)
            if low >= -HALF_MAX and high <= HALF_MAX and np.isfinite(mean).all():
                continue
            finite = np.isfinite([low, high]).all() and np.isfinite(mean).all()
            raise BenchError(
                f"the features of {image_id} can't be stored",
                expected=f"finite values within +-{HALF_MAX:.0f}, the range of float16",
                found=f"values from {low:g} to {high:g}" if finite else "NaN or infinity",
                remedy="check the weights and the precision; bf16 and random weights can overflow",
            )

    def _refuse_second_writer(self) -> None:
        if all(os.fstat(file.fileno()).st_size == file.tell() for file in self._files.values()):
            return
        self._broken = True
        raise BusyError(
            f"another process has written to {self.folder}",
            expected="one writer per feature store; here the file system has no locks to see to it",
            found="files that have grown since the last batch",
            remedy="run `mlfsic-bench features verify` on the store, and let one process write",
        )

    def _prepare(self, stack: ExitStack) -> None:
        """Check or write the manifest, then cut the files back to the last complete row."""
        if exists(self.folder / MANIFEST):
            found = read_manifest(self.folder)
            if found != self.manifest:
                wanted, there = self.manifest.differences(found)
                raise BenchError(
                    f"{self.folder} holds other features",
                    expected=wanted,
                    found=there,
                    remedy="name another folder, or remove this one",
                )
        else:
            foreign = [path.name for path in list_folder(self.folder)]
            if foreign:
                raise BenchError(
                    f"{self.folder} is not a feature store",
                    expected="an empty folder or a store with its manifest",
                    found=f"files such as {foreign[0]}",
                    remedy="name another folder",
                )
            self.manifest.write(self.folder)
        index = read_index(self.folder)
        m = self.manifest
        widths = {LOCAL: 2 * m.locations * m.channels, POOLED: 4 * m.dim}
        check_sizes(self.folder, len(index.ids), widths)
        ends = {name: len(index.ids) * width for name, width in widths.items()}
        for name, end in {**ends, INDEX: index.size}.items():
            # unbuffered: a row is in the system's hands when `write` returns
            stream = (self.folder / name).open("r+b" if exists(self.folder / name) else "x+b", 0)
            self._files[name] = stack.enter_context(stream)
            stream.truncate(end)
            stream.seek(end)
        self.ids = set(index.ids)

    def _cannot_write(self, error: OSError) -> BenchError:
        return BenchError(
            f"cannot write to the feature store {self.folder}",
            expected="a folder that can be written, with room for the features",
            found=f"{error.strerror or error} (errno {error.errno})",
            remedy="free some space or name another place; rows stored so far are kept",
        )


def _write(stream: IO[bytes], data: bytes) -> None:
    """Write all of `data`; an unbuffered write may take only part of it."""
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]

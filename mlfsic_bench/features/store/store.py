"""Reading a feature store: its index, and ids in, maps out, by memory map.

The index is one JSON line per row, appended after the row's data.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.store.manifest import MANIFEST, Manifest, read_manifest
from mlfsic_bench.files import open_regular, parse_json
from mlfsic_bench.paths import reason
from mlfsic_bench.schema import is_plain

if TYPE_CHECKING:
    from torch import Tensor

LIMIT = 128 << 20  # bytes of an index: a million images
INDEX, LOCAL, POOLED = "index.jsonl", "local.f16", "pooled.f32"
FILES = (MANIFEST, INDEX, LOCAL, POOLED)
UNKNOWN = "unknown"  # in place of the digest of an image that nobody has looked at


@dataclass(frozen=True)
class Index:
    """The complete lines of an index.

    Attributes
    ----------
    ids: image ids, row by row.
    digest: gives the SHA-256 of the bytes of the image in a row.
    size: bytes of the complete lines; what lies behind them was cut off by a kill.
    """

    ids: tuple[str, ...]
    digest: Callable[[int], str]
    size: int


def index_lines(ids: Sequence[str], digests: Sequence[str]) -> bytes:
    """The lines of these rows, each ending with a line end."""
    pairs = zip(ids, digests, strict=True)
    lines = (json.dumps({"id": i, "sha256": d}, ensure_ascii=False) + "\n" for i, d in pairs)
    return "".join(lines).encode()


def read_index(folder: Path) -> Index:
    """The rows of a store; BenchError naming the line when one is not the index's.

    A last line without its line end is left out: its writer was killed, or is still writing.
    """
    path = folder / INDEX
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            data = stream.read(min(size, LIMIT))
    except FileNotFoundError:
        size, data = 0, b""
    except OSError as error:
        raise damaged(str(path), "a file that can be read", reason(error)) from error
    if size > LIMIT:
        raise damaged(str(path), f"at most {LIMIT} bytes", "more")
    return parse_index(data, path)


def parse_index(data: bytes, path: Path) -> Index:
    """The rows that the lines of an index say; BenchError as `read_index`."""
    size = data.rfind(b"\n") + 1
    index = _as_written(data[:size]) or _line_by_line(data[:size], path)
    if len(set(index.ids)) != len(index.ids):
        double = next(name for name, count in Counter(index.ids).items() if count > 1)
        raise damaged(str(path), "each image once", f"{double!r} twice")
    return index


def _as_written(data: bytes) -> Index | None:
    """The rows, all lines being as `index_lines` writes them; None where one may not be.

    Refuses what `_line_by_line` refuses, in a tenth of its time: 50 ms for 120,000 rows. Ids
    beyond ASCII are left to that one.
    """
    first = _FIRST_LINE.match(data)
    if first is None or not data.isascii() or b"\\" in data or b"\x7f" in data:
        return None
    text, width = data.decode("ascii"), len(first[1])
    ids = tuple(re.findall(f'{{"id": "([^"]+)", "sha256": "[^"]{{{width}}}"}}\n', text))
    ends = np.cumsum(np.fromiter(map(len, ids), np.int64, len(ids)) + (width + len(_AROUND)))
    raw = np.frombuffer(data, np.uint8)
    # One control character a line: its end. The regular expression left nothing out.
    if ends[-1] != len(data) or np.count_nonzero(raw < 32) != len(ids):
        return None
    if np.count_nonzero(raw == 32) != _AROUND.count(" ") * len(ids):  # blanks in ids: at an end?
        blanks = sum(name.count(" ") for name in ids) + _AROUND.count(" ") * len(ids)
        if np.count_nonzero(raw == 32) != blanks or any(name != name.strip() for name in ids):
            return None
    behind = len(_AROUND) - len('{"id": "", "sha256": "')

    def digest(row: int) -> str:
        end = int(ends[row]) - behind
        return text[end - width : end]

    return Index(ids, digest, len(data))


_FIRST_LINE = re.compile(rb'\{"id": "[^"]+", "sha256": "([^"]+)"\}\n')
_AROUND = '{"id": "", "sha256": ""}\n'


def _line_by_line(data: bytes, path: Path) -> Index:
    ids: list[str] = []
    digests: list[str] = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            row = parse_json(line.decode("utf-8"))
            if not isinstance(row, dict) or not {"id", "sha256"} <= set(row):
                raise ValueError("no object with these keys")
            if len(row) > 2:
                raise ValueError(f"unknown key {next(iter(set(row) - {'id', 'sha256'}))!r}")
            if not is_plain(row["id"]) or not is_plain(row["sha256"]):
                raise ValueError("an id or a hash that is no plain text")
            ids.append(row["id"])
            digests.append(row["sha256"])
        except (ValueError, RecursionError) as error:
            raise damaged(
                f"{path} line {number}",
                'a line {"id": ..., "sha256": ...}',
                f"{type(error).__name__}: {error}",
            ) from error
    return Index(tuple(ids), digests.__getitem__, len(data))


def check_sizes(folder: Path, rows: int, row_bytes: dict[str, int]) -> None:
    """BenchError when a data file is shorter than its rows; longer is what a kill leaves."""
    for name, size in row_bytes.items():
        path = folder / name
        try:
            with open_regular(path) as stream:
                have = os.fstat(stream.fileno()).st_size
        except FileNotFoundError:
            have = 0
        except OSError as error:
            raise damaged(str(path), "a file that can be read", reason(error)) from error
        if have < rows * size:
            raise damaged(str(path), f"{rows} rows of {size} bytes", f"{have} bytes")


def damaged(place: str, expected: str, found: str) -> BenchError:
    """The error for a store whose files do not agree."""
    return BenchError(
        f"{place}: the feature store is damaged",
        expected=expected,
        found=found,
        remedy="remove the store's folder and extract again",
    )


CHUNK_BYTES = 1 << 21  # rows taken at once by a thread: few calls, yet still in its cache
THREADS = min(4, os.cpu_count() or 1)
KEPT = 4  # pieces of memory that wait to be used again


class BufferPool:
    """Float32 tensors on memory that returns to the pool when the last view of it is gone.

    A fresh result of 100 MB costs more in page faults than the copy into it, so memory is reused;
    but a tensor handed out stays the caller's for as long as it, a view of it or a graph that
    saved it is alive: the tensor's storage holds the numpy view made here, and only the end of
    that view gives the memory back.
    """

    def __init__(self) -> None:
        # Only single, atomic operations of the deque are used, never a lock: memory comes back
        # wherever the last reference dies, which may be inside `_take` itself.
        self._free: deque[npt.NDArray[np.float32]] = deque(maxlen=KEPT)

    def tensor(self, shape: tuple[int, ...]) -> Tensor:
        """float32 tensor of this shape with undefined content."""
        import torch

        size = math.prod(shape)
        owner = self._take(size)
        lease = owner[:size]
        weakref.finalize(lease, self._free.append, owner).atexit = False
        return torch.from_numpy(lease).view(shape)

    def _take(self, size: int) -> npt.NDArray[np.float32]:
        for _ in range(KEPT):
            try:
                owner = self._free.popleft()
            except IndexError:
                break
            # one that is far too large would hold memory for nothing
            if size <= owner.size <= max(4 * size, 1 << 16):
                return owner
            self._free.append(owner)
        return np.empty(size, dtype=np.float32)


class FeatureStore:
    """The rows that were complete when the store was opened; a writer may go on appending.

    Attributes
    ----------
    folder: where it lies.
    manifest: what it holds.
    ids: image ids, row by row.
    has_maps: whether there are local maps beside the pooled features.

    BenchError when there is none in the folder, or its files do not agree.
    """

    def __init__(self, folder: Path) -> None:
        folder = Path(folder)
        m, index = read_manifest(folder), read_index(folder)
        width, rows = m.locations * m.channels, len(index.ids)
        check_sizes(folder, rows, {LOCAL: 2 * width, POOLED: 4 * m.dim})
        mapped, local = _mapped(folder / LOCAL, "<f2", (rows, width))
        _, pooled = _mapped(folder / POOLED, "<f4", (rows, m.dim))
        self._hold(folder, m, index, local if width else None, pooled, mapped)

    def _hold(
        self,
        place: Path,
        manifest: Manifest,
        index: Index,
        local: npt.NDArray[Any] | None,
        pooled: npt.NDArray[Any],
        mapped: mmap.mmap | None = None,
    ) -> None:
        """Take these rows: local [rows, h w c] (None: no maps) and pooled [rows, d]."""
        self.folder, self.manifest = place, manifest
        self.ids, self._digest = index.ids, index.digest
        self._row = dict(zip(self.ids, range(len(self.ids)), strict=True))
        self.has_maps = local is not None
        self._local = np.empty((len(self.ids), 0), "<f2") if local is None else local
        self._pooled, self._map = pooled, mapped
        self._buffers = BufferPool()

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._row

    def digest(self, image_id: str) -> str:
        """SHA-256 of the bytes of an image that the store has; UNKNOWN for imported features."""
        return self._digest(self._row[image_id])

    def rows(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """int64 [n]: the rows of these images; BenchError naming images the store lacks."""
        try:
            return np.fromiter((self._row[i] for i in ids), dtype=np.int64, count=len(ids))
        except KeyError:
            missing = [i for i in dict.fromkeys(ids) if i not in self._row]
        raise BenchError(
            f"{len(missing)} of the images asked for have no features in {self.folder}",
            expected="features of every image of the split",
            found="none for " + ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else ""),
            remedy="run `mlfsic-bench features extract` for this split and backbone",
        )

    def gather_local(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c, h, w]: local maps in this order, a channels-last view of [n, h, w, c].

        The tensor is the caller's own: no later call writes into it while it is referred to.
        BenchError where there are no maps.
        """
        if not self.has_maps:
            raise BenchError(
                f"the features in {self.folder} have no local maps",
                expected="a map [c, h, w] of every image, for a method that reads `local()`",
                found="global vectors only",
                remedy="use a method that reads global vectors alone, such as protonet, or "
                "features with maps (docs/features.md)",
            )
        rows, m = self.rows(ids), self.manifest
        out = self._buffers.tensor((len(rows), m.locations * m.channels))
        if len(rows):
            self._will_need(rows)
            parts = np.array_split(np.arange(len(rows)), min(THREADS, len(rows)))
            with ThreadPoolExecutor(len(parts)) as threads:
                jobs = [threads.submit(self._copy, rows, int(p[0]), len(p), out) for p in parts]
                for job in jobs:
                    job.result()
        return out.view(len(rows), *m.grid, m.channels).permute(0, 3, 1, 2)

    def gather_pooled(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, d]: pooled features, the global vectors, in this order."""
        import torch

        rows = self.rows(ids)
        return torch.from_numpy(self._pooled[rows].astype(np.float32, copy=False))

    def _copy(self, rows: npt.NDArray[np.int64], start: int, count: int, out: Tensor) -> None:
        """Convert rows[start:start+count] into the same places of `out`, a chunk at a time."""
        import torch

        width = out.shape[1]
        step = max(1, CHUNK_BYTES // (2 * width))
        half = np.empty((min(step, count), width), dtype=np.float16)
        for i in range(start, start + count, step):
            n = min(step, start + count - i)
            # mode="clip" lets numpy write straight into `out`; the rows are known to be inside
            np.take(self._local, rows[i : i + n], axis=0, out=half[:n], mode="clip")
            out[i : i + n].copy_(torch.from_numpy(half[:n]))

    def _will_need(self, rows: npt.NDArray[np.int64]) -> None:
        """Ask the system for all rows at once, before the first is touched.

        A page fault in a cold map reads ahead megabytes around one row, or a page at a time;
        asking first makes a cold gather many times faster and costs next to nothing when warm.
        """
        if self._map is None or not hasattr(mmap, "MADV_WILLNEED"):
            return
        size = self._local.shape[1] * 2
        ordered = np.unique(rows)
        breaks = np.flatnonzero(np.diff(ordered) != 1) + 1
        for run in np.split(ordered, breaks):
            start = int(run[0]) * size // mmap.PAGESIZE * mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, start, (int(run[-1]) + 1) * size - start)


def _mapped(
    path: Path, dtype: str, shape: tuple[int, int]
) -> tuple[mmap.mmap | None, npt.NDArray[Any]]:
    """The first rows of a raw file as a read-only array over a memory map."""
    if 0 in shape:
        return None, np.empty(shape, dtype=dtype)
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    with open_regular(path) as stream:
        mapped = mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ)
    return mapped, np.frombuffer(mapped, dtype=dtype).reshape(shape)

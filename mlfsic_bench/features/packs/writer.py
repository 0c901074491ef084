"""Writing a feature pack: equal features give equal bytes."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.packs.manifest import (
    INDEX,
    MANIFEST,
    SPLIT,
    TYPES,
    Kept,
    Measured,
    PackedSplit,
    PackManifest,
    scale_of,
    to_bytes,
)
from mlfsic_bench.features.store.store import FeatureStore, index_lines
from mlfsic_bench.files import atomic_writer
from mlfsic_bench.splits.files import SplitFile, render

ROWS = 256  # rows at a time
ALIGNED = 64  # bytes; arrays begin at a multiple of it, so that a memory map can be read in place


def write_pack(
    path: Path,
    sources: Sequence[FeatureStore],
    ids: Sequence[str],
    *,
    split: PackedSplit,
    split_file: SplitFile | None,
    weights: str,
    kept: Kept = "exact",
    maps: bool = True,
    measured: Measured | None = None,
    made_by: str = "",
) -> PackManifest:
    """Write the features of these images to `path`, atomically; what its manifest says.

    Parameters
    ----------
    sources: a store for each network, in the order of the name `a+b`.
    ids: the images, each once, all in every store.
    split: whose images they are; `split_file` is the split itself where it does not ship complete.
    weights: what `--weights` named.
    kept, measured, made_by: as in `PackManifest`.
    maps: whether local maps are written; BenchError where a store has none.

    Equal features give equal bytes.
    """
    hashes: dict[str, str] = {}
    with atomic_writer(path) as stream, zipfile.ZipFile(stream, "w") as archive:

        def put(name: str, pieces: Iterator[bytes] | Sequence[bytes], size: int) -> None:
            hashes[name] = _write_member(archive, stream, name, pieces, size)

        lines = index_lines(ids, [sources[0].digest(i) for i in ids])
        put(INDEX, [lines], len(lines))
        if split_file is not None:
            # liblzma gives equal bytes wherever it runs; the builds of zlib do not
            packed = lzma.compress(render(split_file).encode(), preset=6)
            put(SPLIT, [packed], len(packed))
        for n, source in enumerate(sources):
            for kind in ("pooled", "local") if maps else ("pooled",):
                _put_array(put, f"{kind}-{n}", _blocks(source, ids, kind), TYPES[kept][kind])
        manifest = PackManifest(
            dataset=sources[0].manifest.dataset,
            split=split,
            images=len(ids),
            kept=kept,
            maps=maps,
            weights=weights,
            networks=[source.manifest.content for source in sources],
            measured=measured,
            made_by=made_by,
            files=hashes,
        )
        said = manifest.model_dump(mode="json")
        text = json.dumps(said, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"
        _write_member(archive, stream, MANIFEST, [text], len(text))
    return manifest


Blocks = Callable[[], Iterator[npt.NDArray[np.float32]]]


def _blocks(source: FeatureStore, ids: Sequence[str], kind: str) -> Blocks:
    """float32 [n, d], or [n, h w, c] of maps, a block of images after the other."""

    def blocks() -> Iterator[npt.NDArray[np.float32]]:
        for start in range(0, len(ids), ROWS):
            some = ids[start : start + ROWS]
            if kind == "pooled":
                yield source.gather_pooled(some).numpy()
            else:
                yield source.gather_local(some).permute(0, 2, 3, 1).flatten(1, 2).numpy()

    return blocks


def _put_array(
    put: Callable[[str, Iterator[bytes], int], None], name: str, blocks: Blocks, dtype: str
) -> None:
    """Write an array of all rows, and its scale where the type is of eight bits."""
    shapes = [block.shape for block in blocks()]
    shape = (sum(one[0] for one in shapes), *shapes[0][1:])
    scale = None
    if dtype == "|u1":
        scale = scale_of(blocks())
        put(f"{name}-scale.npy", *_npy(scale.shape, "<f4", iter([scale])))

    def rows() -> Iterator[npt.NDArray[Any]]:
        for block in blocks():
            if scale is not None:
                yield to_bytes(block, scale)
                continue
            with np.errstate(over="ignore"):
                rounded = block.astype(dtype)
            if not np.isfinite(rounded).all():
                raise BenchError(
                    "the features can't be rounded to float16",
                    expected="values within +-65504, the range of float16",
                    found=f"values up to {np.abs(block).max():g}",
                    remedy="export with --precision exact or int8",
                )
            yield rounded

    put(f"{name}.npy", *_npy(shape, dtype, rows()))


def _npy(
    shape: tuple[int, ...], dtype: str, rows: Iterator[npt.NDArray[Any]]
) -> tuple[Iterator[bytes], int]:
    """The pieces of an `.npy` file, and how many bytes they have together."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    size = len(head.getvalue()) + int(np.prod(shape)) * np.dtype(dtype).itemsize

    def pieces() -> Iterator[bytes]:
        yield head.getvalue()
        for block in rows:
            yield block.astype(dtype, copy=False).tobytes()

    return pieces(), size


def _write_member(
    archive: zipfile.ZipFile,
    stream: IO[bytes],
    name: str,
    pieces: Iterator[bytes] | Sequence[bytes],
    size: int,
) -> str:
    """Write a member without compression, aligned; SHA-256 of its content."""
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.external_attr = 0o644 << 16
    info.file_size = size
    large = size * 1.05 > zipfile.ZIP64_LIMIT  # as zipfile decides it
    begin = stream.tell() + 30 + len(name) + (20 if large else 0) + 4
    fill = -begin % ALIGNED
    info.extra = struct.pack("<HH", 0xD935, fill) + bytes(fill)
    digest = hashlib.sha256()
    with archive.open(info, "w", force_zip64=large) as member:
        for piece in pieces:
            member.write(piece)
            digest.update(piece)
    return digest.hexdigest()

"""A feature pack: one file with the features of some images, read without trust in it.

A pack is a zip archive without compression: `manifest.json`, the index of a store, and for each
network n the arrays `pooled-n.npy`, `local-n.npy` and, of 8-bit values, `pooled-n-scale.npy` and
`local-n-scale.npy`; perhaps the split. The arrays are read by
memory map, so a large pack costs no memory.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import mmap
import os
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.arrays import HEADER_LIMIT, UNREADABLE, BoundedFile, read_header
from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.packs.manifest import (
    INDEX,
    MANIFEST,
    PAGE,
    SPLIT,
    STEPS,
    TYPES,
    PackManifest,
    from_bytes,
)
from mlfsic_bench.features.store import store as stores
from mlfsic_bench.features.store.manifest import Manifest, parse_manifest
from mlfsic_bench.features.store.store import FeatureStore, parse_index
from mlfsic_bench.files import no_file, open_regular, parse_json
from mlfsic_bench.schema import load
from mlfsic_bench.splits.files import MAX_BYTES, SplitFile, parse_split

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST_LIMIT = 1 << 20  # bytes of a pack's manifest; those of this program have some 3,000
_LAST = b"PK\5\6".ljust(22)  # an archive ends with a record of this length, without a comment
ROWS = 256  # rows that are looked at together


class Pack:
    """A feature pack, its list of members and its manifest checked; hashes when asked.

    Attributes
    ----------
    path: the file.
    manifest: what it says.
    networks: the rows of each network, read as a store's.

    BenchError for a file that is not one.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            with open_regular(self.path) as stream:
                self._members = _members(stream)
                stream.seek(0)
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            self._places = {i.filename: self._place(i) for i in self._members}
            self.manifest = self._manifest()
            self.networks = self._networks()
        except FileNotFoundError as error:
            raise no_file("feature pack", self.path) from error
        except UNREADABLE as error:
            raise self.unreadable(f"{type(error).__name__}: {error}") from error

    def __len__(self) -> int:
        return self.manifest.images

    def wrong_hashes(self) -> list[str]:
        """The members whose bytes are not those that the manifest has the hash of."""
        return [name for name in self.manifest.files if not self._is_sound(name)]

    def check(self, *names: str) -> None:
        """BenchError unless these members (none named: all but local maps) have their hashes."""
        for name in names or [n for n in self.manifest.files if not n.startswith("local")]:
            if not self._is_sound(name):
                said = self.manifest.files[name]
                raise BenchError(
                    f"{self.path}: the feature pack is damaged",
                    expected=f"{name} with SHA-256 {said[:12]}, as its manifest says",
                    found=f"SHA-256 {hashlib.sha256(self._bytes(name)).hexdigest()[:12]}",
                    remedy="fetch the file again, or export it again",
                )

    def split_file(self) -> SplitFile | None:
        """The split that the pack carries, read and checked as any other; None without one."""
        if SPLIT not in self._places:
            return None
        self.check(SPLIT)
        try:
            unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 28)
            data = unpack.decompress(bytes(self._bytes(SPLIT)), max_length=MAX_BYTES)
            if not unpack.eof:
                raise ValueError(f"cut off, or more than {MAX_BYTES} bytes")
            value = parse_json(data.decode("utf-8"))
        except (lzma.LZMAError, ValueError, RecursionError) as error:
            raise self.unreadable(f"{SPLIT}: {type(error).__name__}: {error}") from error
        content = parse_split(value, f"{SPLIT} of {self.path}")
        if (content.id, content.hash) != (self.manifest.split.id, self.manifest.split.hash):
            raise self.unreadable(f"the split {content.id}, which is not the manifest's")
        return content

    def _is_sound(self, name: str) -> bool:
        return hashlib.sha256(self._bytes(name)).hexdigest() == self.manifest.files[name]

    def _bytes(self, name: str) -> memoryview:
        begin, size = self._places[name]
        return memoryview(self._map)[begin : begin + size]

    def _place(self, info: zipfile.ZipInfo) -> tuple[int, int]:
        """Where the content of a member begins, and its size."""
        lengths = struct.unpack_from("<HH", self._map, info.header_offset + 26)
        begin = info.header_offset + 30 + sum(lengths)
        if info.header_offset < 0 or begin + info.file_size > len(self._map):
            raise ValueError(f"member {info.filename!r} lies outside of the file")
        return begin, info.file_size

    def _manifest(self) -> PackManifest:
        names = set(self._places)
        if MANIFEST not in names or self._places[MANIFEST][1] > MANIFEST_LIMIT:
            raise ValueError(f"no {MANIFEST} of at most {MANIFEST_LIMIT} bytes")
        try:
            value = parse_json(bytes(self._bytes(MANIFEST)).decode("utf-8"))
        except RecursionError as error:
            raise ValueError(f"{MANIFEST} is nested too deep") from error
        where = f"{MANIFEST} of {self.path}"
        manifest = load(
            PackManifest, value, where, page=PAGE, remedy="export or fetch the pack again"
        )
        count = range(len(manifest.networks))
        kinds = ("pooled", "local") if manifest.maps else ("pooled",)
        ends = (".npy", "-scale.npy") if manifest.kept == "int8" else (".npy",)
        wanted = {INDEX, *(f"{kind}-{n}{end}" for n in count for kind in kinds for end in ends)}
        if not wanted <= set(manifest.files) <= wanted | {SPLIT}:
            raise ValueError(f"{MANIFEST} has hashes of {', '.join(manifest.files)}")
        if names - {MANIFEST} != set(manifest.files):
            odd = sorted((names - {MANIFEST}) ^ set(manifest.files))[0]
            raise ValueError(f"{odd[:60]!r} is in the archive or in {MANIFEST}, but not in both")
        return manifest

    def _networks(self) -> tuple[PackedFeatures, ...]:
        if self._places[INDEX][1] > stores.LIMIT:
            raise ValueError(f"{INDEX} has more than {stores.LIMIT} bytes")
        try:
            index = parse_index(bytes(self._bytes(INDEX)), Path(INDEX))
            manifests = [parse_manifest(one, Path(MANIFEST)) for one in self.manifest.networks]
        except BenchError as error:  # what to do with a store is not what to do with a pack
            raise ValueError(f"{error.what}: {error.found}") from error
        if (len(index.ids), index.size) != (self.manifest.images, self._places[INDEX][1]):
            raise ValueError(f"{INDEX} has {len(index.ids)} images, not {self.manifest.images}")
        found = []
        for n, manifest in enumerate(manifests):
            if manifest.dataset != self.manifest.dataset:
                raise ValueError(f"a network of the dataset {manifest.dataset!r}")
            rows, m, kept = len(index.ids), manifest, self.manifest.kept
            pooled = self._array(f"pooled-{n}.npy", (rows, m.dim), TYPES[kept]["pooled"])
            local, scales = None, {}
            if self.manifest.maps:
                shape = (rows, m.locations, m.channels)
                if 0 in shape:
                    raise ValueError(f"maps of {m.backbone!r}, which has none")
                local = self._array(f"local-{n}.npy", shape, TYPES[kept]["local"])
                local = local.reshape(rows, -1)
            if kept == "int8":
                scales["pooled"] = self._array(f"pooled-{n}-scale.npy", (2, m.dim), "<f4")
                if local is not None:
                    scales["local"] = self._array(f"local-{n}-scale.npy", (2, m.channels), "<f4")
            packed = PackedFeatures(self, n, m, index, local, pooled, scales)
            found.append(packed)
        names = [one.manifest.backbone for one in found]
        if len(set(names)) != len(names):
            raise ValueError("one network twice")
        return tuple(found)

    def _array(self, name: str, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        """The array of a member, over the memory map; ValueError unless of this shape and type."""
        begin, size = self._places[name]
        stream = io.BytesIO(self._bytes(name)[: HEADER_LIMIT + 16])
        found, kind = read_header(name, stream)
        if (found, kind.str) != (shape, dtype):
            raise ValueError(f"{name} is {kind.str} {list(found)}, not {dtype} {list(shape)}")
        count = int(np.prod(shape, dtype=np.object_))
        if stream.tell() + count * kind.itemsize != size:
            raise ValueError(f"{name} has {size} bytes, another size than its header says")
        return np.frombuffer(self._map, kind, count, begin + stream.tell()).reshape(shape)

    def unreadable(self, found: str) -> BenchError:
        """The error for a pack with this fault."""
        return BenchError(
            f"{self.path} is not a readable feature pack",
            expected="an uncompressed archive as `mlfsic-bench features export` writes it",
            found=found,
            remedy="fetch the file again, or export it again",
        )


class PackedFeatures(FeatureStore):
    """The rows of one network in a pack; looks at values and hashes before it gives the first."""

    def __init__(
        self,
        pack: Pack,
        number: int,
        manifest: Manifest,
        index: stores.Index,
        local: npt.NDArray[Any] | None,
        pooled: npt.NDArray[Any],
        scales: dict[str, npt.NDArray[np.float32]],
    ) -> None:
        self._hold(pack.path, manifest, index, local, pooled)
        self._pack, self._number, self._scales = pack, number, scales
        self._sound: set[str] = set()

    def gather_local(self, ids: Sequence[str]) -> Tensor:
        """As of a store, made from eight bits where they are rounded so."""
        if not self.has_maps:
            return super().gather_local(ids)
        self._look("local", self._local)
        if "local" not in self._scales:
            return super().gather_local(ids)
        import torch

        rows, m = self.rows(ids), self.manifest
        packed = self._local[rows].reshape(len(rows), m.locations, m.channels)
        values = torch.from_numpy(from_bytes(packed, self._scales["local"]))
        return values.view(len(rows), *m.grid, m.channels).permute(0, 3, 1, 2)

    def gather_pooled(self, ids: Sequence[str]) -> Tensor:
        """As of a store, made from eight bits where they are rounded so."""
        self._look("pooled", self._pooled)
        if "pooled" not in self._scales:
            return super().gather_pooled(ids)
        import torch

        return torch.from_numpy(from_bytes(self._pooled[self.rows(ids)], self._scales["pooled"]))

    def _look(self, kind: str, values: npt.NDArray[Any]) -> None:
        """BenchError, once, for a wrong hash and for values that are not finite."""
        if kind in self._sound:
            return
        name = f"{kind}-{self._number}.npy"
        self._pack.check(name)
        looked = values
        if kind in self._scales:
            self._pack.check(name.replace(".npy", "-scale.npy"))
            low, step = self._scales[kind]
            looked = np.stack([low, step, low + STEPS * step])
        for start in range(0, len(looked), ROWS):
            if not np.isfinite(looked[start : start + ROWS]).all():
                raise self._pack.unreadable(f"NaN or infinity in {name}")
        self._sound.add(kind)


def _members(stream: IO[bytes]) -> list[zipfile.ZipInfo]:
    """The members of an archive; ValueError for one that a pack can't have."""
    with zipfile.ZipFile(BoundedFile(stream)) as archive:
        infos = archive.infolist()
    stream.seek(-min(len(_LAST), stream.seek(0, os.SEEK_END)), os.SEEK_END)
    end = stream.read()
    if not end.startswith(_LAST[:4]) or min((i.header_offset for i in infos), default=1):
        raise ValueError("bytes before or behind the archive, or two archives")
    seen: set[str] = set()
    for info in infos:
        name = info.filename[:60]
        if info.filename in seen:
            raise ValueError(f"member {name!r} stands twice")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"member {name!r} is compressed")
        if info.flag_bits & 1:
            raise ValueError(f"member {name!r} is encrypted")
        seen.add(info.filename)
    return infos

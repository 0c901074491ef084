"""Features that another program made, brought into a store: `.npz`, `.parquet`, a folder of `.npy`.

The file is read twice, a block of rows at a time: first all of it is checked and hashed, then the
store is written. Nothing in it is unpickled.
"""

from __future__ import annotations

import hashlib
import math
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from mlfsic_bench.arrays import UNREADABLE, BoundedFile, read_header
from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.registry import backbone_names
from mlfsic_bench.features.store.manifest import LARGEST as LARGEST_SIDE
from mlfsic_bench.features.store.manifest import LONGEST, MEAN, NO_MAPS, Manifest, default_cache
from mlfsic_bench.features.store.store import UNKNOWN, FeatureStore
from mlfsic_bench.features.store.writer import HALF_MAX, StoreWriter
from mlfsic_bench.files import no_file, open_regular, read_limited
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.offline import not_installed
from mlfsic_bench.paths import exists, is_folder, look
from mlfsic_bench.progress import progress
from mlfsic_bench.schema import is_plain
from mlfsic_bench.splits.files import ImageId

TRANSFORM = "imported"
VECTOR = "imported"  # what a global vector is said to be where nobody says more
LARGEST = 1 << 36  # bytes of all arrays together, uncompressed
IDS_LIMIT = 1 << 28  # bytes of the ids
ROWS = 256  # rows at a time
TOLERANCE = 2e-3  # of an image's largest value: how far a mean may be from that of its map
EXPECTED = (
    "ids (text [n]), vectors (float [n, d]) and perhaps maps (float [n, c, h, w]), "
    "as numpy.savez(FILE, ids=..., vectors=...) writes them"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
Floats = npt.NDArray[np.float32]
Block = tuple[Floats, "Floats | None"]  # vectors [n, d] and maps [n, c, h, w]


class Table:
    """What a file holds.

    Attributes
    ----------
    ids: image ids, row by row, as they stand in the file.
    dim: d of a vector.
    map_shape: (c, h, w), or None where there are no maps.
    """

    ids: Sequence[str]
    dim: int
    map_shape: tuple[int, ...] | None = None

    def blocks(self) -> Iterator[Block]:
        """The rows in order, ROWS of them at a time."""
        raise NotImplementedError


def import_features(
    file: Path,
    *,
    name: str,
    dataset: str,
    made_by: str,
    pretraining: str,
    vector: str = VECTOR,
    out: Path | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> FeatureStore:
    """A store of the features in a file, in the cache or in `out`; the same file, the same store.

    Parameters
    ----------
    file: `.npz`, `.parquet`, or a folder with `ids.npy` or `ids.txt`, `vectors.npy`, `maps.npy`.
    name: what takes the place of the backbone's name in records and tables; no backbone's own.
    dataset: the name of the data set the image ids belong to.
    made_by, pretraining: what made the features, and on which images that was trained.
    vector: what the vectors are; `mean` only where they are the means of the maps over h and w.

    Raises BenchError for the first thing that is wrong; nothing is written then.
    """
    _check_texts(name, dataset, made_by, pretraining, vector)
    with _reading(file):
        table = _open(Path(file))
        _check_ids(table.ids, file)
        if max([table.dim, *(table.map_shape or ())]) > LARGEST_SIDE:
            shape = f"maps {list(table.map_shape)}" if table.map_shape else "no maps"
            expected = f"at most {LARGEST_SIDE} numbers in a vector, channels, rows and columns"
            raise _bad(file, expected, f"vectors of {table.dim}, {shape}")
        rows = _hashed(table, file, vector, log)
        channels, *grid = table.map_shape or (table.dim if vector == MEAN else 0, *NO_MAPS)
        manifest = Manifest(
            dataset=dataset,
            backbone=name,
            weights_hash=content_hash(table.dim, table.map_shape, rows),
            transform=TRANSFORM,
            channels=channels,
            grid=(grid[0], grid[1]),
            vector=vector,
            dim=table.dim,
            made_by=made_by,
            pretraining=pretraining,
        )
        folder = out or default_cache() / f"{dataset}-{name}-{manifest.key[:16]}"
        with StoreWriter(folder, manifest, log) as writer:
            start = 0
            for vectors, maps in table.blocks():
                ids = table.ids[start : start + len(vectors)]
                start += len(vectors)
                new = [k for k, i in enumerate(ids) if i not in writer.ids]
                if new:
                    local = _local(vectors, maps)[new]
                    digests = [UNKNOWN] * len(new)
                    writer.add([ids[k] for k in new], digests, local, vectors[new])
    return FeatureStore(folder)


def content_hash(dim: int, map_shape: Sequence[int] | None, rows: dict[str, str]) -> str:
    """SHA-256 of ids and values, whatever their order; `rows` has the digest of each image's."""
    return hash_json({"dim": dim, "maps": list(map_shape or ()), "rows": sorted(rows.items())})


def wrong_content(store: FeatureStore) -> str | None:
    """What is wrong with the content of a store of imported features; None for nothing."""
    m = store.manifest
    rows: dict[str, str] = {}
    for start in range(0, len(store.ids), ROWS):
        ids = store.ids[start : start + ROWS]
        vectors = store.gather_pooled(ids).numpy()
        local = np.zeros((len(ids), 0, 0), np.float32)
        if store.has_maps:
            local = store.gather_local(ids).permute(0, 2, 3, 1).flatten(1, 2).numpy()
        rows.update(zip(ids, _digests(vectors, local), strict=True))
    found = content_hash(m.dim, (m.channels, *m.grid) if store.has_maps else None, rows)
    return None if found == m.weights_hash else f"content hash {found[:12]}"


def _check_texts(name: str, dataset: str, made_by: str, pretraining: str, vector: str) -> None:
    if _NAME.fullmatch(name) is None or name in backbone_names():
        raise BenchError(
            f"imported features can't be called {name!r}",
            expected="a name of their own: letters, digits, '.', '_' and '-'",
            found="the name of a backbone" if name in backbone_names() else repr(name),
            remedy="name them otherwise with --name, such as my-clip-vit-b16",
        )
    texts = {"--dataset": dataset, "--made-by": made_by, "--pretraining": pretraining}
    for option, text in {**texts, "--vector": vector}.items():
        if not is_plain(text) or len(text) > LONGEST:
            raise BenchError(
                f"{option} can't be written into a manifest",
                expected=f"one line of plain text, at most {LONGEST} characters",
                found=repr(text)[:80],
                remedy=f"correct {option}",
            )


def _check_ids(ids: Sequence[str], file: Path) -> None:
    if not ids:
        raise _bad(file, "at least one row", "none")
    if len(set(ids)) != len(ids):
        double = next(name for name, count in Counter(ids).items() if count > 1)
        raise _bad(file, "each image once", f"{double!r} twice")
    check = TypeAdapter(list[ImageId]).validate_python
    try:
        check(list(ids))
        odd = next((i for i in ids if ".." in i.split("/")), None)
    except ValidationError as error:
        odd = str(error.errors()[0]["input"])
    if odd is not None:
        raise _bad(file, "the image ids of the split's file, such as 2007_000027", repr(odd)[:80])


def _hashed(table: Table, file: Path, vector: str, log: Callable[[str], None]) -> dict[str, str]:
    """Image id -> digest of its values as they will be stored; BenchError naming a bad row."""
    rows: dict[str, str] = {}
    with progress(f"checking {file.name}", len(table.ids), log) as advance:
        for vectors, maps in table.blocks():
            ids = table.ids[len(rows) : len(rows) + len(vectors)]
            local = _local(vectors, maps)
            for k, image_id in enumerate(ids):
                finite = np.isfinite(vectors[k]).all() and np.isfinite(local[k]).all()
                if not finite or (local.size and np.abs(local[k]).max() > HALF_MAX):
                    expected = (
                        f"finite values; of maps within +-{HALF_MAX:.0f}, as float16 has them"
                    )
                    found = "a value beyond it" if finite else "NaN or infinity"
                    raise _bad(file, expected, f"{found} for {image_id}")
            if vector == MEAN and maps is not None:
                _check_means(ids, vectors, maps, file)
            rows.update(zip(ids, _digests(vectors, local), strict=True))
            advance(len(ids))
    if len(rows) != len(table.ids):
        raise _bad(file, f"vectors of {len(table.ids)} images", f"{len(rows)} rows")
    return rows


def _check_means(ids: Sequence[str], vectors: Floats, maps: Floats, file: Path) -> None:
    means = maps.mean((2, 3), dtype=np.float64)
    if means.shape == vectors.shape:
        off = np.abs(means - vectors).max(1) > TOLERANCE * np.abs(maps).max((1, 2, 3))
        if not off.any():
            return
        found = f"others for {ids[int(off.argmax())]}"
    else:
        found = f"{vectors.shape[1]} numbers beside maps of {maps.shape[1]} channels"
    raise _bad(file, "vectors that are the means of the maps, as --vector mean says", found)


def _digests(vectors: Floats, local: Floats) -> list[str]:
    """Of each row, SHA-256 of what is stored: float32 vector, float16 map [h w, c]."""
    halves = local.astype("<f2")
    return [
        hashlib.sha256(v.astype("<f4").tobytes() + m.tobytes()).hexdigest()
        for v, m in zip(vectors, halves, strict=True)
    ]


def _local(vectors: Floats, maps: Floats | None) -> Floats:
    """float32 [n, h w, c] as a store has them; [n, 0, 0 or d] where there are no maps."""
    if maps is None:
        return np.zeros((len(vectors), 0, 0), np.float32)
    return np.ascontiguousarray(maps.reshape(*maps.shape[:2], -1).transpose(0, 2, 1))


# Reading files of others


def _open(file: Path) -> Table:
    if is_folder(file):
        return _Arrays.of_folder(file)
    if look(file) == "nothing":
        raise no_file("file of features", file)
    if file.suffix.lower() == ".parquet":
        return _Parquet(file)
    if file.suffix.lower() == ".npz":
        return _Arrays.of_archive(file)
    raise _bad(file, "a file that ends in .npz or .parquet, or a folder of .npy", file.suffix)


@dataclass(frozen=True)
class _Array:
    """An array in a file: `open` gives a stream that stands at its first number."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    open: Callable[[], AbstractContextManager[IO[bytes]]]

    @property
    def size(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize

    def blocks(self, rows: int = ROWS) -> Iterator[npt.NDArray[Any]]:
        """Its rows, so many at a time."""
        width = math.prod(self.shape[1:])
        with self.open() as stream:
            for start in range(0, self.shape[0], rows):
                count = min(rows, self.shape[0] - start)
                wanted = count * width * self.dtype.itemsize
                data = stream.read(wanted)
                if len(data) != wanted:
                    raise ValueError(f"{self.name} ends too early")
                yield np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])


class _Arrays(Table):
    """Ids, vectors and perhaps maps, each an array."""

    def __init__(self, found: dict[str, _Array], ids: Sequence[str] | None = None) -> None:
        missing = [n for n in ("ids", "vectors") if n not in found and not (n == "ids" and ids)]
        if missing:
            raise ValueError(f"there is no {' and no '.join(missing)}")
        vectors, self.maps = found["vectors"], found.get("maps")
        if sum(array.size for array in found.values()) > LARGEST:
            raise ValueError(f"its arrays have more than {LARGEST} bytes")
        self.ids = _texts(found["ids"]) if ids is None else ids
        for array, axes in ((vectors, 2), (self.maps, 4)):
            if array is None:
                continue
            if array.dtype.kind != "f" or len(array.shape) != axes:
                shape = "[n, d]" if axes == 2 else "[n, c, h, w]"
                raise ValueError(
                    f"{array.name} is {array.dtype} of shape {list(array.shape)}, not float {shape}"
                )
            if array.shape[0] != len(self.ids) or 0 in array.shape:
                raise ValueError(
                    f"{array.name} has the shape {list(array.shape)} beside {len(self.ids)} ids"
                )
        self.vectors, self.dim = vectors, vectors.shape[1]
        self.map_shape = self.maps.shape[1:] if self.maps else None

    @classmethod
    def of_archive(cls, file: Path) -> _Arrays:
        """Those in an `.npz`, compressed or not."""
        with open_regular(file) as stream:
            archive = zipfile.ZipFile(BoundedFile(stream))
            infos = archive.infolist()
        names = [info.filename for info in infos]
        for name in names:
            if name not in ("ids.npy", "vectors.npy", "maps.npy") or names.count(name) > 1:
                raise ValueError(f"the arrays {', '.join(names)[:200].replace('.npy', '')}")
        return cls({i.filename[:-4]: _Array(*_member(file, i)) for i in infos})

    @classmethod
    def of_folder(cls, folder: Path) -> _Arrays:
        """Those in files of a folder; its other files are not looked at."""
        found = {}
        for name in ("ids", "vectors", "maps"):
            path = folder / f"{name}.npy"
            if exists(path):
                found[name] = _Array(*_file(path))
        if not exists(folder / "ids.txt"):
            return cls(found)
        if "ids" in found:
            raise ValueError("there is an ids.npy and an ids.txt")
        data = read_limited(folder / "ids.txt", IDS_LIMIT)
        return cls(found, data.decode("utf-8").splitlines())

    def blocks(self) -> Iterator[Block]:
        """The rows in order."""
        with np.errstate(over="ignore"):  # what is beyond float32 is refused as infinity
            if self.maps is None:
                yield from ((vectors.astype("<f4"), None) for vectors in self.vectors.blocks())
                return
            for vectors, maps in zip(self.vectors.blocks(), self.maps.blocks(), strict=True):
                yield vectors.astype("<f4"), maps.astype("<f4")


Opener = Callable[[], AbstractContextManager[IO[bytes]]]


def _member(file: Path, info: zipfile.ZipInfo) -> tuple[str, tuple[int, ...], Any, Opener]:
    @contextmanager
    def opened() -> Iterator[IO[bytes]]:
        with open_regular(file) as stream:
            archive = zipfile.ZipFile(stream)
            with archive.open(info.filename) as member:
                read_header(info.filename, member)
                yield member

    with ExitStack() as stack:
        archive = zipfile.ZipFile(stack.enter_context(open_regular(file)))
        member = stack.enter_context(archive.open(info))
        shape, dtype = read_header(info.filename, member)
        if info.file_size != member.tell() + math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{info.filename} has another size than its header says")
    return info.filename, shape, dtype, opened


def _file(path: Path) -> tuple[str, tuple[int, ...], Any, Opener]:
    @contextmanager
    def opened() -> Iterator[IO[bytes]]:
        with open_regular(path) as stream:
            read_header(path.name, stream)
            yield stream

    with open_regular(path) as stream:
        shape, dtype = read_header(path.name, stream)
    return path.name, shape, dtype, opened


def _texts(ids: _Array) -> list[str]:
    if ids.dtype.kind not in "US" or len(ids.shape) != 1:
        raise ValueError(f"{ids.name} is {ids.dtype} of shape {list(ids.shape)}, not text [n]")
    if ids.size > IDS_LIMIT:
        raise ValueError(f"{ids.name} has more than {IDS_LIMIT} bytes")
    found: list[str] = []
    for block in ids.blocks(1 << 14):
        if ids.dtype.kind == "U" and (block.view("<u4") > 0x10FFFF).any():
            raise ValueError(f"{ids.name} holds text that is not Unicode")
        found += [i.decode("utf-8") if isinstance(i, bytes) else i for i in block.tolist()]
    return found


class _Parquet(Table):
    """The columns `id` (text) and `vector` (lists of numbers of one length); no maps."""

    def __init__(self, file: Path) -> None:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise not_installed("pyarrow", "parquet", str(error)) from error
        self._file = file
        self.ids = ids = list[str]()
        widths: set[int] = set()
        for batch in self._batches():
            ids += batch.column(0).to_pylist()
            if None in ids[-len(batch) :] or batch.column(1).null_count:
                raise ValueError("a row without id or vector")
            widths |= {0 if one is None else len(one) for one in batch.column(1)}
        if len(widths) != 1 or 0 in widths:
            raise ValueError(
                f"vectors of {', '.join(map(str, sorted(widths)[:5])) or 'no'} numbers"
            )
        self.dim = widths.pop()

    def blocks(self) -> Iterator[Block]:
        """The rows in order."""
        for batch in self._batches():
            flat = batch.column(1).flatten()
            if flat.null_count:
                raise ValueError("a vector with a missing number")
            with np.errstate(over="ignore"):
                yield flat.to_numpy().astype("<f4").reshape(len(batch), self.dim), None

    def _batches(self) -> Iterator[Any]:
        import pyarrow
        from pyarrow import parquet, types

        try:
            with open_regular(self._file) as stream:
                opened = parquet.ParquetFile(stream)
                names = opened.schema_arrow.names
                if sorted(names) != ["id", "vector"]:
                    raise ValueError(f"the columns are {', '.join(names)[:80]}, not id and vector")
                kinds = [opened.schema_arrow.field(name).type for name in ("id", "vector")]
                lists = types.is_list(kinds[1]) or types.is_fixed_size_list(kinds[1])
                lists = lists or types.is_large_list(kinds[1])
                if not types.is_string(kinds[0]) and not types.is_large_string(kinds[0]):
                    raise ValueError(f"id is {kinds[0]}, not text")
                if not lists or not types.is_floating(kinds[1].value_type):
                    raise ValueError(f"vector is {kinds[1]}, not a list of floating numbers")
                for batch in opened.iter_batches(ROWS, columns=["id", "vector"]):
                    yield batch.select(["id", "vector"])
        except (pyarrow.ArrowException, pyarrow.ArrowInvalid) as error:
            raise ValueError(str(error).split("\n")[0]) from error


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Whatever the parsers of others run into becomes one BenchError."""
    try:
        yield
    except FileNotFoundError as error:
        raise no_file("file of features", file) from error
    except UNREADABLE as error:
        first = str(error).split("\n")[0][:300]
        raise _bad(file, EXPECTED, f"{type(error).__name__}: {first}") from error


def _bad(file: Path, expected: str, found: str) -> BenchError:
    return BenchError(
        f"{file} can't be imported",
        expected=expected,
        found=found,
        remedy="correct the file (docs/features.md, 'Bring your own features'), then import again",
    )

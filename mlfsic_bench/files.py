"""Reading and writing files so that nothing is ever left half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import lzma
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import cannot_use, is_file, kind_of, reason
from mlfsic_bench.progress import LOG

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"  # how such a file begins
LEFT_BEHIND = 24 * 3600.0  # seconds without a write after which nobody writes a temporary file
_OURS = re.compile(r"\..*\.mlfsic-[a-z0-9_]{8}\.tmp")
_DECIMAL = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
PACKED = ".xz"  # ending of an archived file that is kept compressed
PACKED_LIMIT = 1 << 28  # bytes of its content; the largest archived scores have a million
KEPT = 1 << 26  # bytes of unpacked contents in memory: a file is hashed, then read, then compared
JSON_LIMIT = 64 << 20  # bytes of a JSON file; the largest that ships has half a million
_MANY = (".jpg", ".png", ".xml")  # of a data set, a file or two for each image: not told with -v
MOST_VALUES = 3_000_000  # in a JSON file; a split of all of COCO has about 700,000


@contextmanager
def atomic_writer(path: Path) -> Iterator[IO[bytes]]:
    """A binary stream to a temporary file beside `path`, renamed onto it when the block ends well.

    When the block raises, the temporary file is removed and `path` is as it was. A link at `path`
    is replaced, not followed. BenchError for a full disk, a folder that can't be written, and a
    folder, pipe or device at `path`. What a killed writer of `path` left behind is removed.
    """
    path = Path(path)
    start = f".{path.name[:40]}.mlfsic-"  # a short piece: the whole name may be as long as can be
    try:
        there = kind_of(path)
        if there not in ("nothing", "file"):
            raise OSError(errno.EINVAL, f"a {there} lies there")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=start, suffix=".tmp", dir=path.parent)
        remove_left_behind(path.parent, start)
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def remove_left_behind(folder: Path, start: str = ".", older_than: float = LEFT_BEHIND) -> None:
    """Remove temporary files of `atomic_writer` that a killed process left in a folder.

    Parameters
    ----------
    folder: where; nothing happens when it is not there.
    start: only names that begin so.
    older_than: only files without a write for so many seconds; 0 where the caller holds the
        folder's lock, so that nobody else can be writing.
    """
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if not (entry.name.startswith(start) and _OURS.fullmatch(entry.name)):
                continue
            with contextlib.suppress(OSError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime >= older_than:
                    Path(entry.path).unlink()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless it is there; BenchError where that can't be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise cannot_write(folder, error) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_writer(path) as stream:
        stream.write(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with `\\n` line ends to `path`, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented, key-sorted JSON to `path`, atomically."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def open_regular(path: Path) -> IO[bytes]:
    """The file, open for reading: the one place where files of others are opened.

    Where it is not there but `PATH.xz` is, as in an archive, this is the content of that. Raises
    OSError for a file that can't be opened, for a name that no file can have, for a folder, and for
    a pipe or device (those two could keep a reader waiting, or never end). Raises BenchError for a
    Git LFS pointer in the file's place.
    """
    packed = Path(f"{path}{PACKED}")
    if kind_of(path) == "nothing" and kind_of(packed) == "file":
        with _open(packed) as stream:
            return _unpacked(packed, stream)
    return _open(path)


def is_stored(path: Path) -> bool:
    """Whether a file lies there that `open_regular` opens, as it is or packed."""
    return is_file(path) or is_file(Path(f"{path}{PACKED}"))


def pack_file(source: Path, target: Path) -> None:
    """Write the content of `source` to `TARGET.xz`, compressed; `open_regular` opens `target`."""
    write_packed(target, read_regular(source))


def write_packed(path: Path, data: bytes) -> None:
    """Write `data` to `PATH.xz`, compressed; `open_regular` opens `path`."""
    packed = lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
    write_bytes(Path(f"{path}{PACKED}"), packed)


def _unpacked(path: Path, stream: IO[bytes]) -> IO[bytes]:
    """The content of a compressed file in a temporary one; OSError where it is none."""
    packed = stream.read(PACKED_LIMIT)
    data = _recent.get(packed)
    if data is None:
        try:
            unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=PACKED_LIMIT)
            data = unpack.decompress(packed, max_length=PACKED_LIMIT)
        except lzma.LZMAError as error:
            raise OSError(errno.EINVAL, f"not a readable .xz file: {error}", str(path)) from error
        if not unpack.eof:
            raise OSError(errno.EFBIG, f"cut off, or more than {PACKED_LIMIT} bytes", str(path))
        _keep(packed, data)
    content = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    content.write(data)
    content.seek(0)
    return content


_recent: dict[bytes, bytes] = {}  # packed -> unpacked, the oldest first


def _keep(packed: bytes, data: bytes) -> None:
    """Remember an unpacked content; the oldest ones go, and a very large one is not kept."""
    if len(data) > KEPT // 8:
        return
    _recent[packed] = data
    while sum(map(len, _recent.values())) > KEPT:
        _recent.pop(next(iter(_recent)))


def _open(path: Path) -> IO[bytes]:
    there = kind_of(path)
    if there not in ("nothing", "file"):
        raise OSError(errno.EINVAL, f"not a regular file but a {there}", str(path))
    stream = Path(path).open("rb")  # noqa: SIM115 - the caller closes it
    try:
        if stream.peek(len(LFS_POINTER)).startswith(LFS_POINTER):
            raise BenchError(
                f"{path} is a Git LFS pointer, not the file itself",
                expected="the file's own content",
                found="a Git LFS pointer; run git lfs pull",
                remedy="run `git lfs pull` where the file was checked out, then this command again",
            )
    except BaseException:
        stream.close()
        raise
    if Path(path).suffix not in _MANY:
        LOG.debug("read %s", path)
    return stream


def read_limited(path: Path, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes; OSError for a larger one, as `open_regular`.

    `stream.read(limit + 1)` would take memory for the whole limit first.
    """
    with open_regular(path) as stream:
        data = stream.read(min(os.fstat(stream.fileno()).st_size, limit) + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"too large, more than {limit} bytes", str(path))
    return data


def read_regular(path: Path) -> bytes:
    """The whole content of a file; OSError and BenchError as `open_regular`."""
    with open_regular(path) as stream:
        return stream.read()


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's content to `target`, atomically; BenchError where that can't be."""
    try:
        data = read_regular(source)
    except OSError as error:
        raise cannot_use(source, error) from error
    write_bytes(target, data)


def a_or_an(noun: str) -> str:
    """The noun after its indefinite article.

    >>> a_or_an("split file"), a_or_an("episode file")
    ('a split file', 'an episode file')
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def read_json(path: Path, *, kind: str, limit: int = JSON_LIMIT) -> Any:
    """The JSON value in `path`; a BenchError naming the `kind` of file when it can't be read.

    Folders, pipes and devices, files above `limit` bytes or of more than MOST_VALUES values, files
    that are not UTF-8 JSON, NaN and Infinity, duplicate keys and nesting too deep to parse are
    refused.
    """
    path = Path(path)
    remedy = f"name {a_or_an(kind)} that mlfsic-bench wrote, or fetch the file again"
    try:
        data = read_limited(path, limit)
        if sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values")  # each takes up to 200 bytes
        return parse_json(data.decode("utf-8"))
    except FileNotFoundError as error:
        raise no_file(kind, path) from error
    except (OSError, ValueError, RecursionError) as error:
        raise BenchError(
            f"{path} is not a readable {kind}",
            expected="UTF-8 JSON without duplicate keys, NaN or Infinity",
            found=f"{type(error).__name__}: {error}",
            remedy=remedy,
        ) from error


def parse_json(text: str, *, finite: bool = True) -> Any:
    """The JSON value of `text`; ValueError for duplicate keys and what isn't JSON.

    Also for NaN and Infinity, unless not `finite`. RecursionError for nesting too deep to parse.
    """
    constant = _no_constant if finite else None
    return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=constant)


def read_decimal(text: bytes) -> float | None:
    """The number that `text` writes; None when it is none. Infinite beyond the range of a float.

    `float` also reads `1_0`, `nan`, white space around a number and the digits of other scripts.
    None of these is a number in a file of vectors or of annotations.

    >>> read_decimal(b"-1.5e3"), read_decimal(b".5"), read_decimal(b"1_0"), read_decimal(b"nan")
    (-1500.0, 0.5, None, None)
    """
    return float(text) if _DECIMAL.fullmatch(text) else None


def no_file(kind: str, path: Path, remedy: str = "check the path") -> BenchError:
    """The error where a file of that kind should be and nothing lies."""
    return BenchError(
        f"there is no {kind} at {path}",
        expected="an existing file",
        found="nothing at that path",
        remedy=remedy,
    )


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        tally = Counter(key for key, _ in pairs)
        double = next(key for key in tally if tally[key] > 1)
        raise ValueError(f"the key {double!r} stands twice in one object")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def cannot_write(path: Path, error: Exception) -> BenchError:
    """The error for a place where the system refuses to write."""
    number = error.errno if isinstance(error, OSError) else errno.EINVAL
    full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    blocked = number in (errno.EEXIST, errno.ENOTDIR)
    found = "a file where a folder is needed" if blocked else reason(error)
    return BenchError(
        f"cannot write {path}",
        expected="a folder that can be written, with room for the file",
        found=f"{found} (errno {number})",
        remedy="free some space or name another place" if full else "name another place",
    )

"""Unpacking an archive without trusting it, and the lists of checksums that are kept of files.

Python's own `extractall` follows links and writes where the archive says, and its filters are not
in every release of 3.10. Here every file is written by this program: below one new folder, under a
plain relative name, as a regular file.
"""

from __future__ import annotations

import hashlib
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from mlfsic_bench.downloads.items import RemoteFile
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import cannot_write, read_regular, write_text
from mlfsic_bench.hashing import MIB
from mlfsic_bench.paths import cannot_use, is_folder
from mlfsic_bench.progress import tracked
from mlfsic_bench.schema import is_plain

MOST_FILES = 500_000  # in an archive; COCO's largest has 82,783
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, KeyError, ValueError),
    *(RuntimeError, NotImplementedError, FileExistsError, NotADirectoryError, IsADirectoryError),
)
# A file of an archive: its name, its size as the archive says, and how to open it.
_Member = tuple[str, int, Callable[[], IO[bytes] | None]]


def unpack(path: Path, file: RemoteFile, into: Path, log: Callable[[str], None]) -> dict[str, str]:
    """Write what is in the archive at `path` below the new folder `into`.

    Gives the SHA-256 of each file by its path below `into`. BenchError for an archive that is
    damaged, has a name or a kind of entry that is not safe, more than twice the bytes that it
    should have, or other numbers of files than the official one (`file.holds`).
    """
    sums: dict[str, str] = {}
    left = 2 * file.unpacked + MIB
    try:
        with _members(path) as members:
            if len(members) > MOST_FILES:
                raise ValueError(f"{len(members):,} files")
            for name, size, opened in tracked(members, f"unpacking {path.name}", log, "files"):
                if not name.startswith(file.within):
                    continue
                inner = safe_path(name.removeprefix(file.within))
                if size > left:
                    raise ValueError(f"more than {2 * file.unpacked + MIB:,} bytes")
                sums[inner], written = _write(opened, into / inner, left)
                left -= written
        for pattern, count in file.holds.items():
            if (found := count_files(into, pattern)) != count:
                raise ValueError(f"{found:,} files {pattern}, not {count:,}")
    except _BROKEN as error:
        raise BenchError(
            f"{path} can't be unpacked",
            expected="the official archive: plain files under relative names, each once",
            found=f"{type(error).__name__}: {error}",
            remedy="remove the file and download it again",
        ) from error
    except OSError as error:
        raise cannot_write(into, error) from error
    return sums


def count_files(folder: Path, pattern: str) -> int:
    """How many paths below a folder fit the pattern."""
    return sum(1 for _ in folder.glob(pattern))


@contextmanager
def _members(path: Path) -> Iterator[list[_Member]]:
    """The files of a zip or of a tar without compression; ValueError for a kind that is none."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            entries = [info for info in archive.infolist() if not info.filename.endswith("/")]
            for info in entries:
                if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                    raise ValueError(f"{info.filename} is a link or a device")
            yield [(i.filename, i.file_size, partial(archive.open, i)) for i in entries]
        return
    with tarfile.open(path, "r:") as tar:
        files = [member for member in tar.getmembers() if not member.isdir()]
        for member in files:
            # a link in an archive to a file of it is opened as that file, and none is made
            if not (member.isreg() or member.islnk() or member.issym()):
                raise ValueError(f"{member.name} is a device, a pipe or of an unknown kind")
        yield [(m.name.removeprefix("./"), m.size, partial(tar.extractfile, m)) for m in files]


def safe_path(name: str) -> str:
    """The name, when it is that of a file below any folder; ValueError otherwise."""
    parts = name.split("/")
    if not is_plain(name) or set(name) & set("\\:") or {"", ".", ".."} & set(parts):
        raise ValueError(f"the name {name!r:.200}")
    return name


def _write(opened: Callable[[], IO[bytes] | None], target: Path, limit: int) -> tuple[str, int]:
    digest, count = hashlib.sha256(), 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        source: Any = opened()
        if source is None:
            raise ValueError(f"{target.name} leads to no file")
        with source:
            while block := source.read(MIB):
                count += len(block)
                if count > limit:
                    raise ValueError("more bytes than it should have")
                digest.update(block)
                out.write(block)
    return digest.hexdigest(), count


def move_into(source: Path, target: Path) -> None:
    """Move a folder's content into another, folder by folder; files there are replaced."""
    for path in sorted(source.glob("*")):
        place = target / path.name
        if is_folder(path) and is_folder(place):
            move_into(path, place)
        else:
            path.replace(place)


def write_sums(path: Path, sums: Mapping[str, str]) -> None:
    """Write a list of checksums as `sha256sum` does, which can check it, too."""
    write_text(path, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))


def read_sums(path: Path) -> dict[str, str]:
    """Path -> SHA-256 in such a list; empty where there is none, BenchError where it is no list."""
    try:
        found = {}
        for line in read_regular(path).decode("utf-8").splitlines():
            digest, _, name = line.partition("  ")
            if not _DIGEST.fullmatch(digest):
                raise ValueError(f"the line {line!r:.200}")
            found[safe_path(name)] = digest
        return found
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise cannot_use(path, error) from error
    except ValueError as error:
        raise BenchError(
            f"{path} is not a list of checksums",
            expected="lines of a SHA-256, two blanks and a path",
            found=str(error),
            remedy="remove the file; it is made again by `mlfsic-bench data download`",
        ) from error

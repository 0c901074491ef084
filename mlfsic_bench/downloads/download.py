"""Downloading items, and comparing what is there with what should be.

What is there is seen from the files themselves, so data that were unpacked by hand count as well.
Beside them lie: `ARCHIVE.sha256`, the checksums of the files that came out of an archive, written
when all of them are in place; and `RECORD`, the checksums of files for which none was known.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlfsic_bench.downloads.items import Item, RemoteFile, in_bytes, needed_folder
from mlfsic_bench.downloads.transfer import fetch, length, part_of, wrong
from mlfsic_bench.downloads.unpack import count_files, move_into, read_sums, unpack, write_sums
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import cannot_write
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.locks import only_writer
from mlfsic_bench.paths import exists, is_file, size_of
from mlfsic_bench.progress import tracked

Log = Callable[[str], None]
RECORD = "downloads.sha256"  # beside the data
MOST_NAMED = 3  # files that differ, of one archive


def counts(item: Item, folder: Path) -> dict[str, int]:
    """Pattern of paths in the item's folder -> how many files fit it."""
    return {pattern: count_files(folder, pattern) for pattern in item.holds}


def lacking(item: Item, folder: Path) -> list[RemoteFile]:
    """The files of an item that have to be downloaded; none when everything is there."""
    unpacked = all(file.unpacked for file in item.files)
    if unpacked and all(n >= item.holds[x] for x, n in counts(item, folder).items()):
        return []
    return [file for file in item.files if not _is_there(file, folder)]


def _is_there(file: RemoteFile, folder: Path) -> bool:
    if file.unpacked:
        sums = read_sums(_list_of(file, folder))
        return bool(sums) and all(is_file(folder / path) for path in sums)
    path = folder / file.name
    return is_file(path) and (file.size is None or size_of(path) == file.size)


def check_space(wanted: Mapping[str, Item], root: Path | None, keep_archives: bool) -> None:
    """BenchError when a disk has not the space for all that is lacking, archives and content."""
    stays: dict[int, int] = defaultdict(int)
    passes: dict[int, int] = defaultdict(int)  # the largest archive, where they are removed
    place: dict[int, Path] = {}
    for name, item in wanted.items():
        folder = needed_folder(name, item, root)
        disk = next(p for p in (folder.absolute(), *folder.absolute().parents) if exists(p))
        device = disk.stat().st_dev
        place[device] = disk
        for file in lacking(item, folder):
            target = folder / file.name
            size = 0 if is_file(target) else (file.size or 0) - length(part_of(target))
            stays[device] += file.unpacked
            if file.unpacked and not keep_archives:
                passes[device] = max(passes[device], size)
            else:
                stays[device] += size
    for device, disk in place.items():
        need, free = stays[device] + passes[device], shutil.disk_usage(disk).free
        if need > free:
            raise BenchError(
                f"there is not enough space in {disk}",
                expected=f"{in_bytes(need)}, for what is downloaded and what is unpacked from it",
                found=f"{in_bytes(free)}",
                remedy="free some space, name another --data-root, or download fewer items",
            )


def download(
    name: str, item: Item, root: Path | None, mirror: str | None, keep_archives: bool, log: Log
) -> list[RemoteFile]:
    """Bring what is lacking of an item into its place; the files that were brought.

    Only one process at a time downloads into a folder; BusyError for a second one.
    """
    folder = needed_folder(name, item, root)
    with only_writer(folder, log=log):
        files = lacking(item, folder)
        try:
            for file in files:
                _bring(file, folder, mirror, keep_archives, log)
        except OSError as error:
            raise cannot_write(folder, error) from error
    return files


def _bring(
    file: RemoteFile, folder: Path, mirror: str | None, keep_archives: bool, log: Log
) -> None:
    target = folder / file.name
    known, checksum = _checksum(file, folder)
    was_there = exists(target)
    if was_there and (fault := wrong(target, file.size, checksum)):
        raise BenchError(
            f"{target} is not the official file",
            expected="the official file, or nothing at that path",
            found=fault,
            remedy="move it away, and give the same command again",
        )
    if was_there:
        log(f"{target} is there already, and is used")
    else:
        log(f"downloading {file.name}, {in_bytes(file.size)}")
        log(f"from {fetch(file, target, checksum, mirror, log)}")
    if not checksum:
        known[file.name] = hash_file(target)
        write_sums(folder / RECORD, known)
        log(
            f"note: no checksum of {file.name} is known. Its SHA-256, {known[file.name]}, is "
            f"recorded in {folder / RECORD} and compared from now on"
        )
    if file.unpacked:
        new = folder / f".unpacking-{file.name}"
        shutil.rmtree(new, ignore_errors=True)
        try:
            sums = unpack(target, file, new, log)
            move_into(new, folder)
            write_sums(_list_of(file, folder), sums)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        if not (keep_archives or was_there):
            target.unlink()


@dataclass
class Verdict:
    """What was compared: what is as it should be, what differs, and what could not be compared."""

    checked: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def verify(item: Item, folder: Path, quick: bool, log: Log) -> Verdict:
    """Compare what is there with the official counts, sizes and checksums.

    With `quick` no file is read: only counts and sizes are compared.
    """
    verdict = Verdict()

    def note(what: str, fault: str) -> None:
        (verdict.differences if fault else verdict.checked).append(
            f"{what}: {fault}" if fault else what
        )

    for pattern, expected in item.holds.items():
        paths = list(folder.glob(pattern))
        empty = sum(size_of(path) == 0 for path in paths)
        fault = "" if len(paths) == expected else f"there are {len(paths):,}"
        what = f"the number of {pattern}, {expected:,}"
        note(what, fault or (f"{empty:,} empty files" if empty else ""))
    for file in item.files:
        path, checksum = folder / file.name, _checksum(file, folder)[1]
        if is_file(path):
            what = "size" if quick or not checksum else f"size and {checksum.partition(':')[0]}"
            note(f"{what} of {file.name}", wrong(path, file.size, "" if quick else checksum))
            if not checksum:
                verdict.unchecked.append(f"{file.name}: no checksum is known or recorded")
        if not file.unpacked or quick:
            continue
        sums = read_sums(_list_of(file, folder))
        if not sums:
            verdict.unchecked.append(
                f"the content of the files of {file.name}: there is no {file.name}.sha256, which "
                "`data download` writes when it unpacks"
            )
            continue
        bad = [
            path
            for path, digest in tracked(sums.items(), f"comparing with {file.name}", log, "files")
            if not is_file(folder / path) or hash_file(folder / path) != digest
        ]
        shown = ", ".join(bad[:MOST_NAMED]) + (" and others" if len(bad) > MOST_NAMED else "")
        note(
            f"the content of {len(sums):,} files of {file.name}",
            f"{len(bad):,} of them are missing or changed: {shown}" if bad else "",
        )
    return verdict


def _list_of(file: RemoteFile, folder: Path) -> Path:
    return folder / f"{file.name}.sha256"


def _checksum(file: RemoteFile, folder: Path) -> tuple[dict[str, str], str]:
    """The recorded checksums of a folder, and that of the file: known, recorded, or empty."""
    if file.checksum:
        return {}, file.checksum
    known = read_sums(folder / RECORD)
    return known, f"sha256:{known[file.name]}" if file.name in known else ""

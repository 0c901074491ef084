"""Archives that lie: nothing is written outside the folder, and a refused one leaves nothing."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mlfsic_bench.downloads.items import RemoteFile
from mlfsic_bench.downloads.unpack import read_sums, unpack, write_sums
from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import MIB, hash_bytes
from tests.downloads.hosts import names_in, tarred, zipped

GOOD = {"top/a/one.jpg": b"one", "top/a/two.jpg": b"two", "top/b.txt": b"b"}


def unpacked(folder: Path, name: str, content: bytes, **changes: object) -> dict[str, str]:
    path = folder / name
    path.write_bytes(content)
    values: dict[str, object] = {"unpacked": 100, "within": "top/", "holds": {"a/*.jpg": 2}}
    return unpack(path, RemoteFile(name, (), **(values | changes)), folder / "new", print)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_what_is_in_an_archive_and_its_checksums(tmp_path: Path, name: str) -> None:
    make = zipped if name == "x.zip" else tarred
    sums = unpacked(tmp_path, name, make(GOOD))
    assert sums == {path[4:]: hash_bytes(content) for path, content in GOOD.items()}
    for path, content in GOOD.items():
        assert (tmp_path / "new" / path[4:]).read_bytes() == content
    write_sums(tmp_path / "list", sums)
    assert read_sums(tmp_path / "list") == sums


def tar_with(**fields: object) -> bytes:
    """A tar of one entry with these fields beside the good files."""
    stream = io.BytesIO(tarred(GOOD))
    with tarfile.open(fileobj=stream, mode="a") as archive:
        entry = tarfile.TarInfo("top/odd")
        for key, value in fields.items():
            setattr(entry, key, value)
        archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    return stream.getvalue()


def zip_with(name: str = "top/odd", mode: int = 0, content: bytes = b"") -> bytes:
    stream = io.BytesIO(zipped(GOOD))
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def damaged(content: bytes) -> bytes:
    at = content.index(b"two")
    return content[:at] + b"owt" + content[at + 3 :]


HOSTILE: dict[str, Callable[[], tuple[str, bytes]]] = {
    "zip-above": lambda: ("x.zip", zip_with("top/../../out")),
    "zip-absolute": lambda: ("x.zip", zip_with("top//etc/out")),
    "zip-backslash": lambda: ("x.zip", zip_with("top/..\\out")),
    "zip-drive": lambda: ("x.zip", zip_with("top/C:out")),
    "zip-control": lambda: ("x.zip", zip_with("top/\x1b[2J")),
    "zip-link": lambda: ("x.zip", zip_with(mode=0o120777, content=b"/etc/passwd")),
    "zip-bomb": lambda: ("x.zip", zip_with(content=bytes(3 * MIB))),
    "zip-file-is-folder": lambda: ("x.zip", zip_with("top/b.txt/c")),
    "zip-fewer": lambda: ("x.zip", zipped({"top/a/one.jpg": b"1"})),
    "zip-more": lambda: ("x.zip", zip_with("top/a/three.jpg")),
    "zip-damaged": lambda: ("x.zip", damaged(zipped(GOOD))),
    "zip-cut": lambda: ("x.zip", zipped(GOOD)[:-30]),
    "zip-none": lambda: ("x.zip", b"<html>"),
    "zip-empty": lambda: ("x.zip", zipped({})),
    "tar-above": lambda: ("x.tar", tar_with(name="top/../../out")),
    "tar-absolute": lambda: ("x.tar", tar_with(name="top//out")),
    "tar-link-out": lambda: ("x.tar", tar_with(type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "tar-link-above": lambda: ("x.tar", tar_with(type=tarfile.SYMTYPE, linkname="../../x")),
    "tar-link-circle": lambda: ("x.tar", tar_with(type=tarfile.SYMTYPE, linkname="odd")),
    "tar-hard-link": lambda: ("x.tar", tar_with(type=tarfile.LNKTYPE, linkname="/etc/passwd")),
    "tar-device": lambda: ("x.tar", tar_with(type=tarfile.CHRTYPE)),
    "tar-pipe": lambda: ("x.tar", tar_with(type=tarfile.FIFOTYPE)),
    "tar-twice": lambda: ("x.tar", tar_with(name="top/b.txt")),
    "tar-bomb": lambda: ("x.tar", tar_with(size=3 * MIB)),
    "tar-cut": lambda: ("x.tar", tarred(GOOD)[:1100]),
    "tar-none": lambda: ("x.tar", b"<html>"),
    "tar-compressed": lambda: ("x.tar", zipped(GOOD)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_an_archive_that_is_not_the_official_one(tmp_path: Path, case: str) -> None:
    inner = tmp_path / "in"
    inner.mkdir()
    name, content = HOSTILE[case]()
    with pytest.raises(BenchError, match="can't be unpacked"):
        unpacked(inner, name, content)
    assert names_in(tmp_path) == ["in"]
    assert set(names_in(inner)) <= {name, "new"}
    assert not any(path.is_symlink() for path in inner.rglob("*"))


def test_a_link_to_a_file_of_the_archive_becomes_that_file(tmp_path: Path) -> None:
    content = tar_with(type=tarfile.SYMTYPE, linkname="b.txt")
    assert unpacked(tmp_path, "x.tar", content)["odd"] == hash_bytes(b"b")
    assert not (tmp_path / "new" / "odd").is_symlink()


@pytest.mark.parametrize("text", ["x", "0" * 64, "0" * 64 + "  ../a", "0" * 64 + " *a", "\xff\xfe"])
def test_a_list_of_checksums_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "list").write_bytes(text.encode("latin-1"))
    with pytest.raises(BenchError, match="not a list of checksums"):
        read_sums(tmp_path / "list")

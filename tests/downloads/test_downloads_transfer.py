"""One file from a host that cuts, stalls, redirects, refuses or lies: whole, or one error."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from mlfsic_bench.downloads import transfer
from mlfsic_bench.downloads.items import RemoteFile
from mlfsic_bench.errors import BenchError
from tests.downloads import hosts
from tests.downloads.hosts import Fault, Host

NAME = "file.bin"
CONTENT = random.Random(0).randbytes(200_000)
OTHER = random.Random(1).randbytes(200_000)


@pytest.fixture
def file(host: Host) -> RemoteFile:
    return hosts.remote(host, NAME, CONTENT)


def fetched(
    file: RemoteFile, folder: Path, checksum: str | None = None, mirror: str | None = None
) -> bytes:
    """The file's content after `fetch`, which leaves nothing else behind."""
    said: list[str] = []
    used = file.checksum if checksum is None else checksum
    transfer.fetch(file, folder / NAME, used, mirror, said.append)
    assert hosts.names_in(folder) == [NAME]
    return (folder / NAME).read_bytes()


def fault_of(file: RemoteFile, folder: Path) -> str:
    """What an error says was found; nothing is under the file's name then."""
    with pytest.raises(BenchError, match="could not be downloaded") as caught:
        transfer.fetch(file, folder / NAME, file.checksum, None, lambda line: None)
    assert not (folder / NAME).exists()
    return caught.value.found


@pytest.mark.parametrize("known", [True, False], ids=["checksum", "no-checksum"])
def test_cut_at_random_bytes(host: Host, file: RemoteFile, tmp_path: Path, known: bool) -> None:
    chance = random.Random(7)
    host.faults[NAME] = [hosts.cut(chance.randrange(1, 30_000)) for _ in range(12)]
    assert fetched(file, tmp_path, None if known else "") == CONTENT
    asked = [headers for _, headers in host.asked]
    assert len(asked) == 13
    assert all("Range" in headers and "If-Range" in headers for headers in asked[1:])


def test_the_next_process_goes_on_where_the_last_was_killed(
    host: Host, file: RemoteFile, tmp_path: Path
) -> None:
    host.faults[NAME] = [hosts.cut(150_000), *[hosts.status(503)] * transfer.TRIES]
    assert "503" in fault_of(file, tmp_path)
    assert fetched(file, tmp_path) == CONTENT
    assert host.asked[-1][1]["Range"] == "bytes=150000-"


def test_another_host_sends_the_rest_where_the_checksum_is_known(
    host: Host, file: RemoteFile, tmp_path: Path
) -> None:
    host.faults[NAME] = [hosts.cut(150_000), hosts.status(404)]
    two = dataclasses.replace(file, hosts=(host.url + "first/", host.url))
    assert fetched(two, tmp_path) == CONTENT
    assert host.asked[-1][1]["Range"] == "bytes=150000-"
    assert "If-Range" not in host.asked[-1][1]


def test_another_host_begins_again_where_it_is_not(
    host: Host, file: RemoteFile, tmp_path: Path
) -> None:
    host.faults[NAME] = [hosts.cut(150_000), hosts.status(404)]
    two = dataclasses.replace(file, hosts=(host.url + "first/", host.url), checksum="")
    assert fetched(two, tmp_path) == CONTENT
    assert "Range" not in host.asked[-1][1]


def test_a_server_without_range_begins_again(host: Host, file: RemoteFile, tmp_path: Path) -> None:
    host.faults[NAME] = [hosts.cut(150_000), hosts.without_range]
    assert fetched(file, tmp_path) == CONTENT


def test_a_range_that_was_not_asked_for(host: Host, file: RemoteFile, tmp_path: Path) -> None:
    host.faults[NAME] = [
        hosts.cut(150_000),
        lambda handler, content: handler.answer(content, Content_Range="bytes 7-8/200000"),
    ]
    assert fetched(file, tmp_path) == CONTENT


@pytest.mark.parametrize("known", [True, False], ids=["checksum", "no-checksum"])
def test_a_file_that_changes_between_the_parts(host: Host, tmp_path: Path, known: bool) -> None:
    def change(handler: hosts.Handler, content: bytes) -> None:
        host.files[NAME] = OTHER
        handler.answer(content, stop=150_000)

    file = hosts.remote(host, NAME, OTHER)
    host.files[NAME], host.faults[NAME] = CONTENT, [change]
    assert fetched(file, tmp_path, None if known else "") == OTHER


def test_parts_of_two_versions_are_noticed(host: Host, file: RemoteFile, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(OTHER[:1000])  # of who knows which host
    assert fetched(file, tmp_path) == CONTENT
    assert [headers.get("Range") for _, headers in host.asked] == ["bytes=1000-", None]


@pytest.mark.parametrize("size", [len(CONTENT), len(CONTENT) + 5])
def test_a_part_that_is_whole_or_too_long(
    host: Host, file: RemoteFile, tmp_path: Path, size: int
) -> None:
    (tmp_path / f"{NAME}.part").write_bytes((CONTENT + OTHER)[:size])
    assert fetched(file, tmp_path) == CONTENT
    assert len(host.asked) == (0 if size == len(CONTENT) else 2)


def test_an_unknown_size_and_chunks_without_a_length(
    host: Host, file: RemoteFile, tmp_path: Path
) -> None:
    host.faults[NAME] = [lambda handler, content: handler.answer(content, Content_Length="")]
    assert fetched(dataclasses.replace(file, size=None), tmp_path) == CONTENT


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (hosts.status(403), "403 Forbidden"),
        (hosts.status(404), "404 Not Found"),
        (hosts.status(500), "500 Internal Server Error"),
        (hosts.web_page, "27 bytes instead of 200,000"),
        (lambda handler, content: handler.answer(OTHER), "the sha256 "),
        (lambda handler, content: handler.answer(content[:-1]), "199,999 bytes instead"),
        (lambda handler, content: handler.answer(content, Content_Length="300000"), "300,000"),
        (
            lambda handler, content: handler.answer(content[:-9], Content_Length="200000"),
            "the connection ended after 199,991 of 200,000 bytes",
        ),
        (hosts.redirect("/" + NAME), "infinite loop"),
        (hosts.redirect("ftp://127.0.0.1:1/x"), "ftp"),
        (hosts.redirect("file:///etc/passwd"), "file"),
        (lambda handler, content: handler.wfile.write(b"no HTTP\r\n\r\n"), "BadStatusLine"),
    ],
)
def test_what_no_retry_helps_ends_in_one_error(
    host: Host, file: RemoteFile, tmp_path: Path, fault: Fault, found: str
) -> None:
    host.faults[NAME] = [fault] * 30
    assert found in fault_of(file, tmp_path)
    assert len(host.asked) <= 13


def test_a_web_page_in_place_of_a_file_of_unknown_size(
    host: Host, file: RemoteFile, tmp_path: Path
) -> None:
    host.faults[NAME] = [hosts.web_page]
    assert "a web page" in fault_of(dataclasses.replace(file, size=None, checksum=""), tmp_path)


def test_a_dead_host_and_then_one_that_answers(
    host: Host, file: RemoteFile, tmp_path: Path
) -> None:
    dead = dataclasses.replace(file, hosts=("http://127.0.0.1:1/", host.url))
    assert fetched(dead, tmp_path) == CONTENT


def test_the_mirror_is_tried_first(host: Host, file: RemoteFile, tmp_path: Path) -> None:
    elsewhere = dataclasses.replace(file, hosts=("http://127.0.0.1:1/",))
    assert fetched(elsewhere, tmp_path, mirror=host.url.rstrip("/")) == CONTENT


def test_a_redirect_is_followed_and_resumed(host: Host, file: RemoteFile, tmp_path: Path) -> None:
    host.files["real.bin"] = CONTENT
    host.faults[NAME] = [hosts.redirect("/real.bin")] * 2
    host.faults["real.bin"] = [hosts.cut(1000)]
    assert fetched(file, tmp_path) == CONTENT
    assert host.asked[-1][1]["Range"] == "bytes=1000-"


@pytest.mark.parametrize("fault", [hosts.silent, hosts.dripping])
def test_slow_bytes(
    host: Host, file: RemoteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT", 0.1)
    monkeypatch.setattr(transfer, "SLOW_SECONDS", 0.05)
    host.faults[NAME] = [fault]
    assert fetched(file, tmp_path) == CONTENT
    assert len(host.asked) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk(host: Host, file: RemoteFile, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.part").symlink_to("/dev/full")
    with pytest.raises(BenchError, match=r"cannot write .*\.part") as caught:
        fetched(file, tmp_path)
    assert "No space left" in caught.value.found
    assert len(host.asked) == 1  # another host would not help
    assert not (tmp_path / NAME).exists()

"""One file over HTTP: hosts tried in order, resumed where it was cut, checked before it is named.

What has come so far is kept in NAME.part, and beside it which version of the file that was: the
URL and what the server calls the version (`ETag` or `Last-Modified`). A later try, of this or of
another process, asks for the rest of that version (`Range`, `If-Range`). Where the checksum is
known, another host may send the rest: whole and right is what the checksum says.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlfsic_bench.downloads.items import RemoteFile
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import cannot_write, read_regular, write_text
from mlfsic_bench.hashing import MIB, hash_file
from mlfsic_bench.paths import is_file, size_of
from mlfsic_bench.progress import progress
from mlfsic_bench.version import __version__

Log = Callable[[str], None]
TIMEOUT = 30.0  # seconds without a byte after which a connection counts as cut
SLOW_SECONDS, SLOW_BYTES = 60.0, 1 << 16  # fewer bytes than that in such a time count as none
TRIES = 4  # of one host, one after the other, that come no further
MOST_TRIES = 1000  # of one host
PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds before another try; doubled after each
PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers that may be others in a moment
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class _FaultError(Exception):
    """Why a try failed; `again` where another of the same host may not."""

    def __init__(self, why: str, *, again: bool) -> None:
        super().__init__(why)
        self.again = again


def fetch(file: RemoteFile, target: Path, checksum: str, mirror: str | None, log: Log) -> str:
    """Bring the file to `target`, whole and right; the URL that it came from.

    Parameters
    ----------
    checksum: as `RemoteFile.checksum`; compared unless empty.
    mirror: a host that is tried before the file's own ones.

    Raises BenchError where no host has the file as it should be, and where it can't be written.
    What has come by then is kept and used by the next call, unless it is wrong.
    """
    part = part_of(target)
    faults = []
    for host in ([mirror.rstrip("/") + "/"] if mirror else []) + list(file.hosts):
        url = host + file.name
        try:
            _fetch_from(url, part, file, checksum, log)
            part.replace(target)
            _version(part).unlink(missing_ok=True)
            return url
        except _FaultError as fault:
            faults.append(f"{url}: {fault}")
            log(f"note: {faults[-1]}")
        except OSError as error:
            raise cannot_write(target, error) from error
    raise BenchError(
        f"{file.name} could not be downloaded",
        expected="the whole file, with the right size and checksum, from one of its hosts",
        found="\n".join(faults),
        remedy="check the connection (a proxy is taken from https_proxy), give the same command "
        "again (it resumes), name another host with --mirror, "
        f"or put the file at {target}",
    )


def part_of(target: Path) -> Path:
    """Where what has come of a file is kept until it is whole."""
    return target.with_name(f"{target.name}.part")


def wrong(path: Path, size: int | None, checksum: str) -> str:
    """What differs between a file and its size and checksum; empty when nothing does."""
    if size is not None and size_of(path) != size:
        return f"{size_of(path):,} bytes instead of {size:,}"
    algorithm, _, digits = checksum.partition(":")
    found = hash_file(path, algorithm) if checksum else ""
    return "" if found.startswith(digits) else f"the {algorithm} {found} instead of {digits}"


def _fetch_from(url: str, part: Path, file: RemoteFile, checksum: str, log: Log) -> None:
    """Fill `part` from one host; _FaultError when it has not the whole and right file."""
    barren, best = 0, length(part)  # tries in a row that came no further; how far the best came
    for number in range(MOST_TRIES):
        try:
            resumed = length(part) > 0
            if file.size is None or length(part) != file.size:
                resumed = _transfer(url, part, file, bool(checksum), log)
            if fault := wrong(part, file.size, checksum):
                part.unlink()
                raise _FaultError(fault, again=resumed)  # parts of two versions, perhaps
            return
        except _FaultError as fault:
            barren = 0 if length(part) > best else barren + 1
            best = max(best, length(part))
            if not fault.again or barren >= TRIES or number == MOST_TRIES - 1:
                raise
            log(f"note: {file.name}: {fault}; trying again")
            time.sleep(min(PAUSE * 2 ** max(barren - 1, 0), LONGEST_PAUSE))


def _transfer(url: str, part: Path, file: RemoteFile, checked: bool, log: Log) -> bool:
    """One request, whose bytes are added to `part`; whether there were some of it before."""
    request = urllib.request.Request(url, headers={"User-Agent": f"mlfsic-bench/{__version__}"})
    have = length(part)
    of_url, _, version = _read_version(part).partition("\n")
    if have and of_url == url and version:
        request.add_header("If-Range", version)
    elif not checked:
        have = 0
    if have:
        request.add_header("Range", f"bytes={have}-")
    with _answer(request, part) as answer:
        begin, total = _extent(answer, have, part)
        if file.size is not None and total is not None and total != file.size:
            raise _FaultError(f"announces {total:,} bytes instead of {file.size:,}", again=False)
        if answer.headers.get_content_type() == "text/html":
            raise _FaultError("sends a web page, not the file", again=False)
        if have and not begin:  # never the bytes of one version under the name of another
            part.unlink()
        tag = answer.headers.get("ETag", "")
        strong = tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")
        write_text(_version(part), f"{url}\n{strong if strong.isprintable() else ''}")
        _copy(answer, part, begin, file.size if total is None else total, file.name, log)
    return begin > 0


@contextmanager
def _answer(request: urllib.request.Request, part: Path) -> Iterator[http.client.HTTPResponse]:
    """The host's answer, open; every way in which network and host can fail is a _FaultError."""
    try:
        with _opener().open(request, timeout=TIMEOUT) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # what is here is longer than the host's file
            part.unlink(missing_ok=True)
        again = error.code in PASSING or (error.code == 416 and request.has_header("Range"))
        reason = str(error.reason).strip().split("\n")[0]
        raise _FaultError(f"{error.code} {reason}", again=again) from error
    except urllib.error.URLError as error:
        raise _FaultError(f"can't be reached ({error.reason})", again=True) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _FaultError(f"{type(error).__name__}: {error}", again=True) from error


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS and nothing else, redirects and the proxies of the environment included."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _extent(answer: http.client.HTTPResponse, have: int, part: Path) -> tuple[int, int | None]:
    """(first byte that comes, size of the whole file or None) of an answer."""
    if answer.status == 200:  # the whole file, asked for or not
        return 0, answer.length
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if answer.status != 206 or found is None or int(found[1]) != have or not have:
        part.unlink(missing_ok=True)
        raise _FaultError(f"an answer {answer.status} that does not fit", again=have > 0)
    return have, None if found[2] == "*" else int(found[2])


def _copy(
    answer: http.client.HTTPResponse,
    part: Path,
    begin: int,
    total: int | None,
    name: str,
    log: Log,
) -> None:
    """Write what comes to `part`, from byte `begin` on, until all `total` bytes are there."""
    count, said = begin, begin // MIB
    since, then = time.monotonic(), begin
    with _on_disk(part):
        stream = part.open("r+b" if begin else "wb", buffering=0)
        stream.seek(begin)
    title = f"downloading {name}"
    with stream, progress(title, (total or 0) // MIB, log, "MiB", said) as advance:
        while total is None or count < total:
            block = answer.read1(MIB if total is None else min(MIB, total - count))
            if not block:
                break
            count += len(block)
            with _on_disk(part):
                while block:  # a disk that is nearly full takes a piece
                    block = block[stream.write(block) :]
            advance(count // MIB - said)
            said = count // MIB
            if (now := time.monotonic()) - since >= SLOW_SECONDS:
                if count - then < SLOW_BYTES:
                    raise TimeoutError(f"{count - then} bytes in {now - since:.0f} s")
                since, then = now, count
    if total is not None and count != total:
        raise _FaultError(f"the connection ended after {count:,} of {total:,} bytes", again=True)


@contextmanager
def _on_disk(part: Path) -> Iterator[None]:
    """The disk's errors, unlike the network's: no other host would help."""
    try:
        yield
    except OSError as error:
        raise cannot_write(part, error) from error


def _version(part: Path) -> Path:
    return part.with_name(f"{part.name}.from")


def _read_version(part: Path) -> str:
    try:
        return read_regular(_version(part)).decode("ascii")
    except (OSError, ValueError):
        return ""


def length(part: Path) -> int:
    """Bytes of a part; 0 where there is none."""
    return size_of(part) if is_file(part) else 0

"""A loopback server that plays the official hosts, and small archives in the official layout."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import re
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from mlfsic_bench.downloads.items import ITEMS, Item, RemoteFile

# What the host does to one request instead of answering it; it gets the handler and the content.
Fault = Callable[["Handler", bytes], None]


class Host(ThreadingHTTPServer):
    """Has files by their names; the first of a name's `faults` answers the next request for it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that the other side closed is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Host

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.server.asked.append((name, dict(self.headers)))
        content = self.server.files.get(name)
        faults = self.server.faults.get(name, [])
        if faults:
            faults.pop(0)(self, content or b"")
        elif content is None:
            self.send_error(404)
        else:
            self.answer(content)

    def answer(self, content: bytes, *, stop: int | None = None, **headers: str) -> None:
        """Send the content, or the rest that was asked for; at most `stop` bytes of it."""
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range", tag) == tag
        begin = int(asked[1]) if asked and same else 0
        if asked and same and begin >= len(content):
            self.send_error(416)
            return
        body = content[begin:]
        self.send_response(206 if begin else 200)
        values = {"Content-Length": str(len(body)), "ETag": tag}
        if begin:
            values["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        for key, value in (values | {k.replace("_", "-"): v for k, v in headers.items()}).items():
            if value:
                self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body[:stop])


def cut(count: int) -> Fault:
    return lambda handler, content: handler.answer(content, stop=count)


def status(code: int) -> Fault:
    return lambda handler, content: handler.send_error(code)


def redirect(place: str) -> Fault:
    def send(handler: Handler, content: bytes) -> None:
        handler.send_response(302)
        handler.send_header("Location", place)
        handler.end_headers()

    return send


def without_range(handler: Handler, content: bytes) -> None:
    del handler.headers["Range"]
    handler.answer(content)


def web_page(handler: Handler, content: bytes) -> None:
    handler.answer(b"<html>quota exceeded</html>", Content_Type="text/html")


def silent(handler: Handler, content: bytes) -> None:
    handler.answer(content, stop=10)
    time.sleep(0.5)


def dripping(handler: Handler, content: bytes) -> None:
    handler.answer(content, stop=0)
    for i in range(50):
        handler.wfile.write(content[i : i + 1])
        time.sleep(0.01)


@contextmanager
def running() -> Iterator[Host]:
    """A host that answers while the block runs."""
    host = Host()
    thread = Thread(target=host.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield host
    finally:
        host.shutdown()
        thread.join()
        host.server_close()


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip of these files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    """A tar of these files, and of their folders as entries of their own."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for folder in dict.fromkeys(str(Path(name).parent) for name in files):
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def files_in(folder: Path, *parts: str) -> dict[str, bytes]:
    """Path below `folder` -> content, of all files in these parts of it."""
    found = [path for part in parts for path in sorted((folder / part).rglob("*"))]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found if p.is_file()}


def names_in(folder: Path) -> list[str]:
    """The names in a folder, those that begin with a dot included."""
    return sorted(path.name for path in folder.iterdir())


def remote(
    host: Host, name: str, content: bytes, *, like: RemoteFile | None = None, **changes: object
) -> RemoteFile:
    """Let the host have the file; its entry in a table of items, size and checksum right."""
    host.files[name] = content
    algorithm = like.checksum.partition(":")[0] if like else "sha256"
    values: dict[str, object] = {
        "hosts": (host.url,),
        "size": len(content),
        "checksum": f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
        if algorithm
        else "",
    }
    return dataclasses.replace(like or RemoteFile(name, ()), **(values | changes))  # type: ignore[arg-type]


def official(host: Host, name: str, archives: dict[str, dict[str, bytes]]) -> Item:
    """The item of that name with other content: file -> path in it -> bytes.

    Names, layout and patterns are the official ones; sizes, checksums and counts those of the
    content.
    """
    files = []
    for file in ITEMS[name].files:
        inner = archives[file.name]
        content = zipped(inner) if file.name.endswith(".zip") else tarred(inner)
        short = [Path(path.removeprefix(file.within)) for path in inner]
        holds = {pattern: sum(p.match(pattern) for p in short) for pattern in file.holds}
        assert all(holds.values())
        size = sum(map(len, inner.values()))
        files.append(remote(host, file.name, content, like=file, unpacked=size, holds=holds))
    return dataclasses.replace(ITEMS[name], files=tuple(files))

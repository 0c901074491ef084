"""What kind of vector file this is, judged by its content, and the file open for reading."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from mlfsic_bench.decimals import read_decimal
from mlfsic_bench.embeddings.packed import GZIP, open_packed
from mlfsic_bench.errors import BenchError

MOST_NUMBERS = 100_000  # in a vector; the largest in use have some thousands
MOST_ENTRIES = 10**12
LONGEST_ENTRY = 4096  # bytes of a word in a binary file
HEADER = re.compile(rb"(\d+)[ \t](\d+)[ \t\r]*\n?\Z")  # "entries dimension"
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")

Layout = Literal["text", "text with header", "word2vec binary"]
# What the user says of a file; `auto` looks at its content.
Form = Literal["auto", "text", "binary"]

# first bytes -> what the file is, what to do
_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (b"\xba\x16O/", "a fastText model (.bin)", "name the .vec file that belongs to it"),
    (b"PK\x03\x04", "a zip archive", "unpack it and name the file inside"),
    (b"BZh", "a bzip2 archive", "unpack it and name the file inside"),
    (b"\xfd7zXZ", "an xz archive", "unpack it and name the file inside"),
    (b"\x89HDF", "an HDF5 file", "export the vectors as text"),
    (b"PAR1", "a Parquet file", "export the vectors as text"),
    (b"\x93NUMPY", "a numpy array, which has no words", "export the vectors as text with words"),
    (b"\x80", "a pickle, which is never loaded", "export the vectors in word2vec's format"),
    (GZIP, "a gzip file inside a gzip file", "unpack it once"),
)


@dataclass(frozen=True)
class Header:
    """The first line of word2vec's and fastText's formats: number of entries, and d_w."""

    entries: int
    dimension: int


@dataclass(frozen=True)
class VectorFile:
    """A vector file, open at its first entry.

    Attributes
    ----------
    path: for messages.
    stream: the unpacked bytes, after the header if there is one.
    layout: how entries are written.
    header: its numbers; None for a file without.
    packed: whether the file is gzip'd.
    size: bytes left in the stream when they are known without reading, else None.
    """

    path: Path
    stream: IO[bytes]
    layout: Layout
    header: Header | None
    packed: bool
    size: int | None


@contextmanager
def open_vectors(path: Path, form: Form = "auto") -> Iterator[VectorFile]:
    """The file at `path`, recognised; BenchError when it is not one of the layouts that are read.

    Gzip is told by its first bytes, a header by its two numbers, and with `form` "auto" what
    follows the header by the rule of `_is_text`. A UTF-8 byte order mark is skipped. The file's
    name plays no part. Errors while the block reads (a packed file that ends too early, a failing
    disk) become BenchErrors too.
    """
    with open_packed(path, "vector file", "check the path given as --words") as (stream, packed):
        yield _recognise(path, stream, packed, form)


def _recognise(path: Path, stream: IO[bytes], packed: bool, form: Form) -> VectorFile:
    first = len(codecs.BOM_UTF8) if stream.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
    stream.seek(first)
    start = stream.read(16)
    for magic, what, remedy in _FOREIGN:
        if start.startswith(magic):
            raise BenchError(
                f"{path} is not a file of vectors that can be read",
                expected="GloVe's text, word2vec's text or binary, fastText's .vec (or gzip'd)",
                found=what,
                remedy=remedy,
            )
    stream.seek(first)
    match = HEADER.match(stream.readline(64))
    if match is None and form == "binary":
        raise BenchError(
            f"{path} is not in word2vec's binary format",
            expected="a first line of two numbers: entries and dimension",
            found=f"a file that starts with {start!r}",
            remedy="leave out --words-format, or name another file",
        )
    if match is None:
        stream.seek(first)
        return VectorFile(path, stream, "text", None, packed, None)
    header = Header(_number(path, match, 1), _number(path, match, 2))
    begin = stream.tell()
    if form == "auto":
        sample = stream.read(LONGEST_ENTRY + 1 + 4 * header.dimension)
        stream.seek(begin)
        form = "text" if _is_text(sample, header) else "binary"
    left = None if packed else path.stat().st_size - begin
    layout: Layout = "text with header" if form == "text" else "word2vec binary"
    return VectorFile(path, stream, layout, header, packed, left)


def _number(path: Path, match: re.Match[bytes], group: int) -> int:
    """A number of the header within its bounds, so that nothing is allocated on its word alone."""
    limit, what = ((MOST_ENTRIES, "number of entries"), (MOST_NUMBERS, "dimension"))[group - 1]
    digits = match[group].lstrip(b"0")
    if not 1 <= len(digits) <= len(str(limit)) or int(digits) > limit:
        shown = match[0][:40].decode("ascii").strip()
        raise BenchError(
            f"{path} line 1 is not a header of vectors",
            expected=f"a {what} from 1 to {limit}",
            found=f"the line that starts {shown!r}",
            remedy="fetch the file again, or correct this line",
        )
    return int(digits)


def _is_text(sample: bytes, header: Header) -> bool:
    """Whether `sample`, what follows a header, is lines of text rather than float32 bytes.

    It is text in two cases. One: its first line is an entry and as many decimal numbers as the
    header says. Two, a damaged line of text: nowhere in the sample is a control character, and the
    bytes where the first vector would be are UTF-8. Float32 numbers have control characters and
    bytes beyond UTF-8 everywhere, so only a binary file of a few printable numbers is taken for
    text; `form` is for that one.
    """
    sample = sample.lstrip(b"\r\n")
    line = sample.partition(b"\n")[0].rstrip().replace(b"\t", b" ")
    fields = line.split(b" ")
    if len(fields) > header.dimension and all(
        read_decimal(field) is not None for field in fields[-header.dimension :]
    ):
        return True
    if _CONTROL.search(sample):
        return False
    vector = sample.partition(b" ")[2][: 4 * header.dimension]
    try:
        codecs.getincrementaldecoder("utf-8")().decode(vector)
    except UnicodeDecodeError:
        return False
    return True

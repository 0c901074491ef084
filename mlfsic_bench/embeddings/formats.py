"""Files of vectors: what kind a file is, judged by its content, and one pass over its entries.

Read are text (GloVe; word2vec and fastText with their header of two numbers) and word2vec's binary
format, gzip'd or not. Of a file's entries those that are asked for are kept, so memory is bounded
by them and one line or block of the file.
"""

from __future__ import annotations

import codecs
import gzip
import math
import re
import zlib
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Literal, cast

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular, read_decimal

MOST_NUMBERS = 100_000  # in a vector; the largest in use have some thousands
MOST_ENTRIES = 10**12
LONGEST_ENTRY = 4096  # bytes of an entry's name in a binary file
LONGEST_LINE = 1 << 20  # bytes
MOST_EMPTY = 10_000  # empty lines; a small packed file could hold thousands of millions
BLOCK = 1 << 20  # bytes of a binary file that are read at once
AGAIN = "fetch the file again"
GZIP = b"\x1f\x8b"
HEADER = re.compile(rb"(\d+)[ \t](\d+)[ \t\r]*\n?\Z")  # "entries dimension"
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")

Vector = npt.NDArray[np.float64]
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


@dataclass(frozen=True, eq=False)
class Entries:
    """What one pass over a file found.

    Attributes
    ----------
    vectors: float64 [d_w] for each wanted entry that the file has.
    dimension: d_w.
    count: number of entries in the file.
    undecodable: how many of them are not UTF-8; no label can mean those, so they are passed over.
    repeated: wanted entries that occur again; the first occurrence counts.
    layout: how the file writes its entries, in words.
    promised: number of entries in the file's header; None without a header.
    """

    vectors: dict[str, Vector]
    dimension: int
    count: int
    undecodable: int
    repeated: tuple[str, ...]
    layout: str
    promised: int | None


def read_entries(path: Path, wanted: Set[str], form: Form = "auto") -> Entries:
    """The wanted entries of the file at `path`, in one pass; of equal ones the first.

    Gzip is recognised by the file's first bytes, a header by its two numbers, and with `form`
    "auto" what follows the header by the rule of `_is_text`. A UTF-8 byte order mark is skipped.
    The file's name plays no part. Raises BenchError for a file of another kind, and for a damaged
    one, naming the line or entry.
    """
    with open_packed(path, "vector file", "check the path given as --embeddings") as (raw, packed):
        file = _recognise(path, raw, packed, form)
        kept = _Kept(wanted)
        dimension = _read_binary(file, kept) if file.binary else _read_text(file, kept)
    layout = "word2vec binary" if file.binary else "text with header" if file.header else "text"
    return Entries(
        vectors=kept.vectors,
        dimension=dimension,
        count=kept.count,
        undecodable=kept.undecodable,
        repeated=tuple(kept.repeated),
        layout=layout + (", gzip" if packed else ""),
        promised=file.header.entries if file.header else None,
    )


@contextmanager
def open_packed(path: Path, kind: str, remedy: str) -> Iterator[tuple[IO[bytes], bool]]:
    """The file's bytes, unpacked as they are read, and whether it is gzip'd by its first bytes.

    Parameters
    ----------
    path: the file.
    kind, remedy: for the error: what the file is called, and what to do when it can't be opened.

    Raises BenchError for a missing file, a folder, a pipe, and, while the block reads, for a
    packed file that is damaged or ends too early.
    """
    try:
        with open_regular(path) as raw:
            packed = raw.read(len(GZIP)) == GZIP
            raw.seek(0)
            if not packed:
                yield raw, False
                return
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield cast("IO[bytes]", unpacked), True
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        found = str(error) or type(error).__name__
        expected = "a gzip file that unpacks to its end"
        raise _refused(f"{path} is not a whole gzip file", expected, found) from error
    except OSError as error:
        found = error.strerror or str(error)
        raise _refused(f"can't read the {kind} {path}", f"a {kind}", found, remedy) from error


class _Kept:
    """The wanted vectors, as a reader meets entries, and the count of all."""

    def __init__(self, wanted: Set[str]) -> None:
        self._wanted = {entry.encode(errors="surrogatepass"): entry for entry in wanted}
        self.vectors: dict[str, Vector] = {}
        self.count = 0
        self.undecodable = 0
        self.repeated: dict[str, None] = {}

    def meet(self, entry: bytes) -> str | None:
        """Count an entry; its name when its vector is to be kept, else None."""
        self.count += 1
        name = self._wanted.get(entry)
        if name is None:
            if not entry.isascii() and not _is_utf8(entry):
                self.undecodable += 1
            return None
        if name in self.vectors:
            self.repeated[name] = None
            return None
        return name


def _is_utf8(data: bytes, *, whole: bool = True) -> bool:
    """Whether `data` is UTF-8; not `whole` when a character may be cut at its end."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, final=whole)
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True)
class _Header:
    """The first line of word2vec's and fastText's formats: number of entries, and d_w."""

    entries: int
    dimension: int


@dataclass(frozen=True)
class _File:
    """A file open at its first entry; `size`: bytes left, None where only reading would tell."""

    path: Path
    stream: IO[bytes]
    binary: bool
    header: _Header | None
    size: int | None


def _recognise(path: Path, stream: IO[bytes], packed: bool, form: Form) -> _File:
    first = len(codecs.BOM_UTF8) if stream.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
    stream.seek(first)
    start = stream.read(16)
    for magic, what, remedy in _FOREIGN:
        if start.startswith(magic):
            expected = "GloVe's text, word2vec's text or binary, fastText's .vec (or gzip'd)"
            title = f"{path} is not a file of vectors that can be read"
            raise _refused(title, expected, what, remedy)
    stream.seek(first)
    match = HEADER.match(stream.readline(64))
    if match is None and form == "binary":
        raise BenchError(
            f"{path} is not in word2vec's binary format",
            expected="a first line of two numbers: entries and dimension",
            found=f"a file that starts with {start!r}",
            remedy="leave out --embeddings-format, or name another file",
        )
    if match is None:
        stream.seek(first)
        return _File(path, stream, False, None, None)
    entries = _header_number(path, match, 1, MOST_ENTRIES, "number of entries")
    header = _Header(entries, _header_number(path, match, 2, MOST_NUMBERS, "dimension"))
    begin = stream.tell()
    if form == "auto":
        sample = stream.read(LONGEST_ENTRY + 1 + 4 * header.dimension)
        stream.seek(begin)
        form = "text" if _is_text(sample, header) else "binary"
    left = None if packed else path.stat().st_size - begin
    return _File(path, stream, form == "binary", header, left)


def _refused(what: str, expected: str, found: str, remedy: str = AGAIN) -> BenchError:
    return BenchError(what, expected=expected, found=found, remedy=remedy)


def _header_number(path: Path, match: re.Match[bytes], group: int, limit: int, what: str) -> int:
    """A number of the header within its bounds, so that nothing is allocated on its word alone."""
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


def _is_text(sample: bytes, header: _Header) -> bool:
    """Whether `sample`, what follows a header, is lines of text rather than float32 bytes.

    It is text in two cases. One: its first line is an entry and as many decimal numbers as the
    header says. Two, a damaged line of text: nowhere in the sample is a control character, and the
    bytes where the first vector would be are UTF-8. Float32 numbers have control characters and
    bytes beyond UTF-8 everywhere, so only a binary file of a few printable numbers is taken for
    text; `form` is for that one.
    """
    sample = sample.lstrip(b"\r\n")
    fields = _spaced(sample.partition(b"\n")[0].rstrip()).split(b" ")
    if len(fields) > header.dimension and all(
        read_decimal(field) is not None for field in fields[-header.dimension :]
    ):
        return True
    vector = sample.partition(b" ")[2][: 4 * header.dimension]
    return not _CONTROL.search(sample) and _is_utf8(vector, whole=False)


# Text: an entry a line, then its d_w numbers, a space or tab apart.


def _read_text(file: _File, kept: _Kept) -> int:
    """Read all lines, and give d_w.

    Every line's number of fields is checked, and the number of lines against the header where
    there is one; numbers are parsed for wanted entries only, so a file of a gigabyte is read in
    seconds.
    """
    lines = _lines(file)
    if file.header is None:
        start = list(islice(lines, 2))
        where, d_w = "line 1", _dimension(file, start)
        lines = chain(start, lines)
    else:
        where, d_w = "the header", file.header.dimension
    raw = b""
    for number, raw in lines:
        line = _spaced(raw.strip())
        first, fields = line[: line.find(b" ")], line.count(b" ")
        if fields == d_w - 1 and d_w > 1 and raw[:1].isspace():
            first, fields = b"", d_w  # the entry itself is white space
        if fields < d_w:
            raise _bad_line(file, number, f"an entry and {d_w} numbers, as {where} says", line)
        name = kept.meet(first)
        if name is not None:
            vector = _numbers(file, number, line, d_w)
            if vector is not None:
                kept.vectors[name] = vector
    if file.header is not None:
        _check_count(file.path, file.header, kept.count, whole=raw.endswith(b"\n"))
    return d_w


def _spaced(line: bytes) -> bytes:
    return line.replace(b"\t", b" ")


def _dimension(file: _File, start: list[tuple[int, bytes]]) -> int:
    """d_w of a file without a header, from its first two lines.

    The first decides. Where its entry holds spaces (`. . .` in some GloVe files) the second does,
    and the first must end in as many numbers.
    """
    if not start:
        expected = "lines of an entry and its numbers"
        raise _refused(f"{file.path} holds no vectors", expected, "an empty file")
    d_w = next((count for count in map(_count, (raw for _, raw in start)) if count), 0)
    number, raw = start[0]
    ends = _spaced(raw.strip()).split(b" ")[-d_w:]
    if not 0 < d_w <= MOST_NUMBERS or len(ends) < d_w or not all(map(_is_float, ends)):
        expected = f"an entry and its numbers, at most {MOST_NUMBERS}, one space or tab between"
        raise _bad_line(file, number, expected, raw.strip())
    return d_w


def _count(raw: bytes) -> int:
    """How many numbers follow the entry of a line; 0 where other words stand among them."""
    fields = _spaced(raw.strip()).split(b" ")
    if raw[:1].isspace() and _is_float(fields[0]):  # the entry may be white space
        return 0
    return len(fields) - 1 if all(map(_is_float, fields[1:])) else 0


def _check_count(path: Path, header: _Header, found: int, *, whole: bool) -> None:
    """BenchError unless the file has the entries of its header, or one less and a whole last line.

    Official files of fastText promise one entry more than they hold.
    """
    if found == header.entries or (found == header.entries - 1 > 0 and whole):
        return
    raise BenchError(
        f"{path} does not hold what its header says",
        expected=f"{header.entries} entries (or one less, as in fastText's files)",
        found=f"{found}" + ("" if whole else ", the last line without an end"),
        remedy="fetch the file again, or correct the number in its first line",
    )


def _lines(file: _File) -> Iterator[tuple[int, bytes]]:
    """Line numbers in the file and lines; empty lines are left out."""
    number, empty = 0 if file.header is None else 1, 0
    while raw := file.stream.readline(LONGEST_LINE):
        number += 1
        if (len(raw) == LONGEST_LINE and not raw.endswith(b"\n")) or b"\0" in raw:
            raise BenchError(
                f"{file.path} line {number}: this is not a text file",
                expected="a file of vectors: text (GloVe, fastText .vec, word2vec), or word2vec's "
                "binary format with its header",
                found="binary content",
                remedy="unpack the archive, or convert the file to the text format",
            )
        if number == 1 and not _is_utf8(raw):
            raise _bad_line(file, 1, "UTF-8 text", raw.strip())
        if not raw.isspace():
            yield number, raw
            continue
        empty += 1
        if empty > MOST_EMPTY:
            title = f"{file.path} line {number}: this is not a file of vectors"
            expected = f"an entry and its numbers on each line, at most {MOST_EMPTY} empty lines"
            raise _refused(title, expected, "more empty lines")


def _numbers(file: _File, number: int, line: bytes, d_w: int) -> Vector | None:
    """The d_w numbers of a line; None when the line's entry holds spaces, so is another entry."""
    fields = line.split(b" ")[1:]
    if any(field and not _is_float(field) for field in fields[:-d_w]):
        return None  # some GloVe files have entries such as ". . ." or "at name@domain.com"
    if b"" in fields:
        raise _bad_line(file, number, "one space or tab before each number", line, "two in a row")
    if len(fields) != d_w:
        raise _bad_line(file, number, f"{d_w} numbers, as in the lines before", line, len(fields))
    values = [read_decimal(field) for field in fields]
    for field, value in zip(fields, values, strict=True):
        if value is None or not math.isfinite(value):
            shown = repr(field.decode("utf-8", "replace"))
            raise _bad_line(file, number, "finite decimal numbers after the entry", line, shown)
    return np.array(values, dtype=np.float64)


def _is_float(field: bytes) -> bool:
    """Whether a field looks like a number, NaN among them; its value may still be refused."""
    try:
        float(field)
    except ValueError:
        return False
    return True


def _bad_line(
    file: _File, number: int, expected: str, line: bytes, found: object = None
) -> BenchError:
    shown = line[:40].decode("utf-8", "replace")
    detail = f"{found} in " if found is not None else ""
    other = "" if file.header is None else "; --embeddings-format binary if it is word2vec's binary"
    return BenchError(
        f"{file.path} line {number} is not a line of vectors",
        expected=expected,
        found=f"{detail}the line that starts {shown!r}",
        remedy=f"fetch the file again, or correct this line{other}",
    )


# word2vec's binary format: each entry is a word, a space and d_w little-endian float32 numbers. Its
# own program writes a newline after each vector, on some systems CRLF, other writers none; all are
# read, as the format of `word2vec.c` (Mikolov et al. 2013) allows no word with a space or line end.


def _read_binary(file: _File, kept: _Kept) -> int:
    """Read the entries in blocks, and give d_w; there must be exactly as many as promised."""
    header = file.header
    assert header is not None
    length = 4 * header.dimension
    least = header.entries * (length + 1)
    if file.size is not None and file.size < least:  # before anything is read
        raise BenchError(
            f"{file.path} is shorter than its header says",
            expected=f"{header.entries} entries of {header.dimension} float32 numbers, so at least "
            f"{least} bytes after the header",
            found=f"{file.size} bytes",
            remedy="fetch the file again",
        )
    buffer, at, block = b"", 0, max(BLOCK, 2 * (length + LONGEST_ENTRY))
    for number in range(1, header.entries + 1):
        if len(buffer) - at < length + LONGEST_ENTRY + 2:
            buffer, at = buffer[at:] + file.stream.read(block), 0
        while buffer.startswith((b"\n", b"\r\n"), at):
            at += 1
        space = buffer.find(b" ", at, at + LONGEST_ENTRY + 1)
        if space < 0 and len(buffer) - at > LONGEST_ENTRY:
            raise _bad_entry(file.path, header, number, f"no space within {LONGEST_ENTRY} bytes")
        end = space + 1 + length
        if space < 0 or end > len(buffer):
            found = f"the end of the file within entry {number}"
            raise _bad_entry(file.path, header, number, found)
        word = buffer[at:space]
        if b"\0" in word:
            raise _bad_entry(file.path, header, number, "zero bytes where the word should be")
        name = kept.meet(word)
        if name is not None:
            vector = np.frombuffer(buffer, "<f4", header.dimension, space + 1)
            if not np.isfinite(vector).all():  # before the cast, which warns of some NaN
                found = f"NaN or infinity in the vector of {name!r}"
                raise _bad_entry(file.path, header, number, found)
            kept.vectors[name] = vector.astype(np.float64)
        at = end
    rest = buffer[at:] + file.stream.read(BLOCK)
    if rest.strip(b"\r\n"):
        raise _bad_entry(file.path, header, header.entries + 1, "more bytes after the last entry")
    return header.dimension


def _bad_entry(path: Path, header: _Header, number: int, found: str) -> BenchError:
    return BenchError(
        f"{path} entry {number} can't be read as word2vec's binary format",
        expected=f"{header.entries} entries, as the header says: a word, a space and "
        f"{header.dimension} finite float32 numbers each",
        found=found,
        remedy="fetch the file again; a wrong number in the header reads like this, too, "
        "and so does text, which --embeddings-format text says it is",
    )

"""Reading vectors from a text file in one pass, keeping only the entries that are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from itertools import chain, islice
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from mlfsic_bench.decimals import read_decimal
from mlfsic_bench.embeddings.entries import Collector, Entries
from mlfsic_bench.embeddings.vector_file import MOST_NUMBERS, Header, VectorFile
from mlfsic_bench.errors import BenchError

LONGEST_LINE = 1 << 20
MOST_EMPTY = 10_000  # empty lines; a small packed file could hold thousands of millions


def read_text(file: VectorFile, wanted: Set[str]) -> Entries:
    """The wanted entries of a text file: one entry a line, then d_w numbers, a space or tab apart.

    The first of several equal entries counts. Every line's number of fields is checked, and the
    number of lines against the header where there is one; numbers are parsed for wanted entries
    only, so a file of a gigabyte is read in seconds. Raises BenchError with the line number.
    """
    collector = Collector(wanted)
    lines = _lines(file.path, file.stream, first=1 if file.header is None else 2)
    if file.header is None:
        start = list(islice(lines, 2))
        where, d_w, promised = "line 1", _dimension(file.path, start), None
        lines = chain(start, lines)
    else:
        where, d_w, promised = "the header", file.header.dimension, file.header.entries
    raw = b""
    for number, raw in lines:
        line = raw.strip().replace(b"\t", b" ")
        first, fields = line[: line.find(b" ")], line.count(b" ")
        if fields == d_w - 1 and d_w > 1 and raw[:1].isspace():
            first, fields = b"", d_w  # the entry itself is white space
        if fields < d_w:
            raise _bad(file, number, f"an entry and {d_w} numbers, as {where} says", line)
        name = collector.meet(first)
        if name is not None:
            vector = _numbers(file, number, line, d_w)
            if vector is not None:
                collector.vectors[name] = vector
    if file.header is not None:
        _check_count(file, file.header, collector.count, whole=raw.endswith(b"\n"))
    described = file.layout + (", gzip" if file.packed else "")
    return collector.entries(d_w, described, promised)


def _dimension(path: Path, start: list[tuple[int, bytes]]) -> int:
    """d_w of a file without a header, from its first two lines.

    The first decides. Where its entry holds spaces (`. . .` in some GloVe files) the second does,
    and the first must end in as many numbers.
    """
    if not start:
        raise BenchError(
            f"{path} holds no vectors",
            expected="lines of an entry and its numbers",
            found="an empty file",
            remedy="fetch the file again",
        )
    d_w = next((count for count in map(_count, (raw for _, raw in start)) if count), 0)
    number, raw = start[0]
    ends = raw.strip().replace(b"\t", b" ").split(b" ")[-d_w:]
    if not 0 < d_w <= MOST_NUMBERS or len(ends) < d_w or not all(map(_is_float, ends)):
        expected = f"an entry and its numbers, at most {MOST_NUMBERS}, one space or tab between"
        raise _bad_line(path, number, expected, raw.strip(), None, "")
    return d_w


def _count(raw: bytes) -> int:
    """How many numbers follow the entry of a line; 0 where other words stand among them."""
    fields = raw.strip().replace(b"\t", b" ").split(b" ")
    if raw[:1].isspace() and _is_float(fields[0]):  # the entry may be white space
        return 0
    return len(fields) - 1 if all(map(_is_float, fields[1:])) else 0


def _check_count(file: VectorFile, header: Header, found: int, *, whole: bool) -> None:
    """BenchError unless the file has the entries of its header, or one less and a whole last line.

    Official files of fastText promise one entry more than they hold.
    """
    if found == header.entries or (found == header.entries - 1 > 0 and whole):
        return
    raise BenchError(
        f"{file.path} does not hold what its header says",
        expected=f"{header.entries} entries (or one less, as in fastText's files)",
        found=f"{found}" + ("" if whole else ", the last line without an end"),
        remedy="fetch the file again, or correct the number in its first line",
    )


def _lines(path: Path, stream: IO[bytes], first: int) -> Iterator[tuple[int, bytes]]:
    """Line numbers, from `first` on, and lines; empty lines are left out."""
    number, empty = first - 1, 0
    while raw := stream.readline(LONGEST_LINE):
        number += 1
        if (len(raw) == LONGEST_LINE and not raw.endswith(b"\n")) or b"\0" in raw:
            raise BenchError(
                f"{path} line {number}: this is not a text file",
                expected="a file of vectors: text (GloVe, fastText .vec, word2vec), or word2vec's "
                "binary format with its header",
                found="binary content",
                remedy="unpack the archive, or convert the file to the text format",
            )
        if number == 1:
            try:
                raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise _bad_line(path, 1, "UTF-8 text", raw.strip(), None, "") from error
        if not raw.isspace():
            yield number, raw
            continue
        empty += 1
        if empty > MOST_EMPTY:
            raise BenchError(
                f"{path} line {number}: this is not a file of vectors",
                expected=f"an entry and its numbers on each line, at most {MOST_EMPTY} empty lines",
                found="more empty lines",
                remedy="fetch the file again",
            )


def _numbers(
    file: VectorFile, number: int, line: bytes, d_w: int
) -> npt.NDArray[np.float64] | None:
    """The d_w numbers of a line; None when the line's entry holds spaces, so is another entry."""
    fields = line.split(b" ")[1:]
    if any(field and not _is_float(field) for field in fields[:-d_w]):
        return None  # some GloVe files have entries such as ". . ." or "at name@domain.com"
    if b"" in fields:
        raise _bad(file, number, "one space or tab before each number", line, "two in a row")
    if len(fields) != d_w:
        raise _bad(file, number, f"{d_w} numbers, as in the lines before", line, len(fields))
    values = [read_decimal(field) for field in fields]
    for field, value in zip(fields, values, strict=True):
        if value is None or not math.isfinite(value):
            shown = field.decode("utf-8", "replace")
            raise _bad(file, number, "finite decimal numbers after the entry", line, f"{shown!r}")
    return np.array(values, dtype=np.float64)


def _is_float(field: bytes) -> bool:
    """Whether a field looks like a number, NaN among them; its value may still be refused."""
    try:
        float(field)
    except ValueError:
        return False
    return True


def _bad(
    file: VectorFile, number: int, expected: str, line: bytes, found: object = None
) -> BenchError:
    other = "" if file.header is None else "; --words-format binary if it is word2vec's binary"
    return _bad_line(file.path, number, expected, line, found, other)


def _bad_line(
    path: Path, number: int, expected: str, line: bytes, found: object, other: str
) -> BenchError:
    shown = line[:40].decode("utf-8", "replace")
    detail = f"{found} in " if found is not None else ""
    return BenchError(
        f"{path} line {number} is not a line of vectors",
        expected=expected,
        found=f"{detail}the line that starts {shown!r}",
        remedy=f"fetch the file again, or correct this line{other}",
    )

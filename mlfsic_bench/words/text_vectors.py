"""Reading vectors from a text file in one pass, keeping only the entries that are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.words.entries import Collector, Entries
from mlfsic_bench.words.vector_file import MOST_NUMBERS, VectorFile

LONGEST_LINE = 1 << 20
MOST_EMPTY = 10_000  # empty lines; a small packed file could hold thousands of millions


def read_text(file: VectorFile, wanted: Set[str]) -> Entries:
    """The wanted entries of a text file: one entry a line, then d_w numbers, spaces between.

    The first of several equal entries counts. Every line's number of fields is checked, and the
    number of lines against the header where there is one; numbers are parsed for wanted entries
    only, so a file of a gigabyte is read in seconds. Raises BenchError with the line number.
    """
    path, collector = file.path, Collector(wanted)
    d_w = 0 if file.header is None else file.header.dimension
    for number, raw in _lines(path, file.stream, first=1 if file.header is None else 2):
        line = raw.strip()
        if d_w == 0:  # prose and YAML hold words and spaces too
            d_w = min(line.count(b" "), MOST_NUMBERS)
            if d_w and _number(line[line.rfind(b" ") + 1 :]) is None:
                raise _bad(path, number, "an entry and its numbers", line)
        first, fields = line[: line.find(b" ")], line.count(b" ")
        if fields == d_w - 1 and d_w > 1 and raw[:1].isspace():
            first, fields = b"", d_w  # the entry itself is white space
        if fields < d_w or d_w == 0:
            raise _bad(path, number, f"an entry and {d_w or 'some'} numbers", line)
        name = collector.meet(first)
        if name is not None:
            vector = _numbers(path, number, line, d_w)
            if vector is not None:
                collector.vectors[name] = vector
    if d_w == 0:
        raise BenchError(
            f"{path} holds no vectors",
            expected="lines of an entry and its numbers",
            found="an empty file",
            remedy="fetch the file again",
        )
    if file.header is not None and collector.count != file.header.entries:
        raise BenchError(
            f"{path} does not hold what its header says",
            expected=f"{file.header.entries} entries",
            found=f"{collector.count}",
            remedy="fetch the file again, or correct the number in its first line",
        )
    return collector.entries(d_w, file.layout + (", gzip" if file.packed else ""))


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
                raise _bad(path, 1, "UTF-8 text", raw.strip()) from error
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


def _numbers(path: Path, number: int, line: bytes, d_w: int) -> npt.NDArray[np.float64] | None:
    """The d_w numbers of a line; None when the line's entry holds spaces, so is another entry."""
    fields = line.split(b" ")[1:]
    if len(fields) > d_w and any(_number(field) is None for field in fields[:-d_w]):
        return None  # some GloVe files have entries such as ". . ." or "at name@domain.com"
    if len(fields) != d_w:
        raise _bad(path, number, f"{d_w} numbers, as in the lines before", line, len(fields))
    values = [_number(field) for field in fields]
    for field, value in zip(fields, values, strict=True):
        if value is None or not math.isfinite(value):
            shown = field.decode("utf-8", "replace")
            raise _bad(path, number, "finite numbers after the entry", line, f"{shown!r}")
    return np.array(values, dtype=np.float64)


def _number(field: bytes) -> float | None:
    try:
        return float(field)
    except ValueError:
        return None


def _bad(path: Path, number: int, expected: str, line: bytes, found: object = None) -> BenchError:
    shown = line[:40].decode("utf-8", "replace")
    detail = f"{found} in " if found is not None else ""
    return BenchError(
        f"{path} line {number} is not a line of vectors",
        expected=expected,
        found=f"{detail}the line that starts {shown!r}",
        remedy="fetch the file again, or correct this line",
    )

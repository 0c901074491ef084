"""Reading vectors from a text file in one pass, keeping only the entries that are asked for."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Set
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular

LONGEST_LINE = 1 << 20
MOST_NUMBERS = 100_000  # in a vector; the largest in use have some thousands
HEADER = re.compile(rb"\d+ \d+\Z")  # word2vec's text format opens with "entries dimension"


def read_entries(path: Path, wanted: Set[str]) -> tuple[dict[str, npt.NDArray[np.float64]], int]:
    """The vectors of the wanted entries that the file has, and its dimension d_w.

    One entry a line: the entry, then d_w numbers, separated by spaces. A word2vec header line is
    allowed. The first of several equal entries counts. Every line's number of fields is checked;
    numbers are parsed for wanted entries only, so a file of a gigabyte is read in seconds.
    Raises BenchError with the line number.
    """
    keys = {entry.encode(): entry for entry in wanted}
    found: dict[str, npt.NDArray[np.float64]] = {}
    d_w = 0
    try:
        with open_regular(path) as stream:
            for number, line in _lines(path, stream):
                if number == 1 and HEADER.match(line):
                    d_w = _dimension(path, line)
                    continue
                d_w = d_w or min(line.count(b" "), MOST_NUMBERS)
                first, fields = line[: line.find(b" ")], line.count(b" ")
                if fields < d_w or d_w == 0:
                    raise _bad(path, number, f"an entry and {d_w or 'some'} numbers", line)
                if first in keys and keys[first] not in found:
                    vector = _numbers(path, number, line, d_w)
                    if vector is not None:
                        found[keys[first]] = vector
    except OSError as error:
        raise BenchError(
            f"can't read the vector file {path}",
            expected="a text file of vectors",
            found=error.strerror or str(error),
            remedy="check the path given as --words",
        ) from error
    if d_w == 0:
        raise BenchError(
            f"{path} holds no vectors",
            expected="lines of an entry and its numbers",
            found="an empty file",
            remedy="fetch the file again",
        )
    return found, d_w


def _dimension(path: Path, header: bytes) -> int:
    text = header.split()[1].lstrip(b"0")
    if not 1 <= len(text) <= len(str(MOST_NUMBERS)) or int(text) > MOST_NUMBERS:
        raise _bad(path, 1, f"a dimension from 1 to {MOST_NUMBERS}", header)
    return int(text)


def _lines(path: Path, stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Line numbers from 1 and lines without surrounding white space; empty lines are left out."""
    number = 0
    while raw := stream.readline(LONGEST_LINE):
        number += 1
        if (len(raw) == LONGEST_LINE and not raw.endswith(b"\n")) or b"\0" in raw:
            raise BenchError(
                f"{path} line {number}: this is not a text file",
                expected="a text file of vectors (GloVe, fastText .vec or word2vec text)",
                found="binary content",
                remedy="unpack the archive, or convert the binary file to the text format",
            )
        line = raw.strip()
        if number == 1:
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise _bad(path, 1, "UTF-8 text", line) from error
        if line:
            yield number, line


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

"""word2vec's binary format: each entry is a word, a space and d_w little-endian float32 numbers.

word2vec's own program writes a newline after each vector, on some systems CRLF, other writers
none; all are read, as the format of `word2vec.c` (Mikolov et al. 2013) allows no word that holds a
space or a line end.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from mlfsic_bench.embeddings.entries import Collector, Entries
from mlfsic_bench.embeddings.vector_file import LONGEST_ENTRY, Header, VectorFile
from mlfsic_bench.errors import BenchError

BLOCK = 1 << 20


def read_binary(file: VectorFile, wanted: Set[str]) -> Entries:
    """The wanted entries of a word2vec binary file, in one pass and in blocks of a megabyte.

    The file must hold exactly the entries its header promises. Raises BenchError naming the entry
    for a file that ends early or goes on, a word that can't be one, and a number that is not
    finite in a wanted vector.
    """
    header = file.header
    assert header is not None
    _check_size(file, header)
    collector = Collector(wanted)
    length = 4 * header.dimension
    buffer, at, block = b"", 0, max(BLOCK, 2 * (length + LONGEST_ENTRY))
    for number in range(1, header.entries + 1):
        if len(buffer) - at < length + LONGEST_ENTRY + 2:
            buffer, at = buffer[at:] + file.stream.read(block), 0
        at = _skip_line_ends(buffer, at)
        space = buffer.find(b" ", at, at + LONGEST_ENTRY + 1)
        if space < 0 and len(buffer) - at > LONGEST_ENTRY:
            raise _bad(file, header, number, f"no space within {LONGEST_ENTRY} bytes")
        end = space + 1 + length
        if space < 0 or end > len(buffer):
            raise _bad(file, header, number, f"the end of the file within entry {number}")
        word = buffer[at:space]
        if b"\0" in word:
            raise _bad(file, header, number, "zero bytes where the word should be")
        name = collector.meet(word)
        if name is not None:
            vector = np.frombuffer(buffer, "<f4", header.dimension, space + 1)
            if not np.isfinite(vector).all():  # before the cast, which warns of some NaN
                raise _bad(file, header, number, f"NaN or infinity in the vector of {name!r}")
            collector.vectors[name] = vector.astype(np.float64)
        at = end
    rest = buffer[at:] + file.stream.read(BLOCK)
    if rest.strip(b"\r\n"):
        raise _bad(file, header, header.entries + 1, "more bytes after the last entry")
    return collector.entries(header.dimension, _described(file), header.entries)


def _skip_line_ends(buffer: bytes, at: int) -> int:
    while buffer.startswith((b"\n", b"\r\n"), at):
        at += 1
    return at


def _described(file: VectorFile) -> str:
    return "word2vec binary" + (", gzip" if file.packed else "")


def _check_size(file: VectorFile, header: Header) -> None:
    """A header that promises more than the file can hold is an error before anything is read."""
    least = header.entries * (4 * header.dimension + 1)
    if file.size is not None and file.size < least:
        raise BenchError(
            f"{file.path} is shorter than its header says",
            expected=f"{header.entries} entries of {header.dimension} float32 numbers, so at least "
            f"{least} bytes after the header",
            found=f"{file.size} bytes",
            remedy="fetch the file again",
        )


def _bad(file: VectorFile, header: Header, number: int, found: str) -> BenchError:
    return BenchError(
        f"{file.path} entry {number} can't be read as word2vec's binary format",
        expected=f"{header.entries} entries, as the header says: a word, a space and "
        f"{header.dimension} finite float32 numbers each",
        found=found,
        remedy="fetch the file again; a wrong number in the header reads like this, too, "
        "and so does text, which --words-format text says it is",
    )

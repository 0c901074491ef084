"""One pass over a vector file of any layout that is read."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from mlfsic_bench.words.binary_vectors import read_binary
from mlfsic_bench.words.entries import Entries
from mlfsic_bench.words.text_vectors import read_text
from mlfsic_bench.words.vector_file import open_vectors


def read_entries(path: Path, wanted: Set[str]) -> Entries:
    """The wanted entries of the vector file at `path`, in one pass.

    Memory is bounded by the wanted vectors and one line or block of the file. Raises BenchError
    for a file that can't be recognised (`vector_file`) or is damaged (`text_vectors`,
    `binary_vectors`).
    """
    with open_vectors(path) as file:
        read = read_binary if file.layout == "word2vec binary" else read_text
        return read(file, wanted)

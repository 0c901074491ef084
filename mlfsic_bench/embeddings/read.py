"""One pass over a vector file of any layout that is read."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from mlfsic_bench.embeddings.binary_vectors import read_binary
from mlfsic_bench.embeddings.entries import Entries
from mlfsic_bench.embeddings.text_vectors import read_text
from mlfsic_bench.embeddings.vector_file import Form, open_vectors


def read_entries(path: Path, wanted: Set[str], form: Form = "auto") -> Entries:
    """The wanted entries of the vector file at `path`, in one pass.

    `form` is what is known of the file (`open_vectors`). Memory is bounded by the wanted vectors
    and one line or block of the file. Raises BenchError for a file that can't be recognised
    (`vector_file`) or is damaged (`text_vectors`, `binary_vectors`).
    """
    with open_vectors(path, form) as file:
        read = read_binary if file.layout == "word2vec binary" else read_text
        return read(file, wanted)

"""Label vectors from a file: word by word, or a file with whole labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlfsic_bench.embeddings.lookup import Lookup, look_up
from mlfsic_bench.embeddings.vector_file import Form
from mlfsic_bench.embeddings.vectors import LabelVectors, make_label_vectors
from mlfsic_bench.errors import BenchError

BUILTIN = "scenes"


def load_words(path: Path | str, labels: Sequence[str], form: Form = "auto") -> LabelVectors:
    """float32 vectors of `labels`, from a vector file or from the builtin `scenes`.

    The file is GloVe's text, word2vec's text or binary, fastText's `.vec` or a table of whole
    labels, gzip'd or not; `form` says which, or "auto" looks at the content (`vector_file`). A
    label takes the mean of its words' vectors, in float64 before it is rounded, or the vector of
    the whole label where the file lacks a word (`aliases.lookups` has the order, and VOC's own
    spellings). Vectors are used as they are, without normalisation.

    Raises BenchError naming every label without a vector and the words that are missing; naming
    the line or entry for a damaged file.
    """
    if str(path) == BUILTIN:
        from mlfsic_bench.data.scenes.labels import label_vectors

        return make_label_vectors(labels, np.asarray(label_vectors(labels)), BUILTIN)
    path = Path(path)
    lookup = look_up(path, labels, form)
    if lookup.missing:
        raise _missing(path, lookup, len(labels))
    vectors = np.empty((len(labels), lookup.entries.dimension), dtype=np.float64)
    for row, label in enumerate(labels):
        vectors[row] = lookup.vector(label)
    with np.errstate(over="ignore"):
        beyond = ~np.isfinite(vectors.astype(np.float32)).all(axis=1)
    if beyond.any():
        raise BenchError(
            f"{path} has numbers too large for a vector of {labels[int(beyond.argmax())]!r}",
            expected="numbers that fit float32",
            found="a number beyond 3.4e38",
            remedy="fetch the file again, or correct the number",
        )
    return make_label_vectors(labels, vectors, path.name)


def _missing(path: Path, lookup: Lookup, total: int) -> BenchError:
    shown = [str(missing) for missing in lookup.missing[:5]]
    rest = [repr(missing.label) for missing in lookup.missing[5:]]
    return BenchError(
        f"{path} has no vector for {len(lookup.missing)} of {total} labels",
        expected="each label as one entry (spaces written _), or each of its words",
        found="; ".join(shown) + (f"; and {', '.join(rest)}" if rest else ""),
        remedy="name a file that has these words, such as GloVe 6B; "
        "`mlfsic-bench words show FILE` says what a file has",
    )

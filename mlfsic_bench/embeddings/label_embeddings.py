"""LabelEmbeddings: one vector per label, from a file or of the data set `scenes`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlfsic_bench.embeddings.formats import Form
from mlfsic_bench.embeddings.lookup import Lookup, look_up
from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import canonical_json

BUILTIN = "scenes"


@dataclass(frozen=True, eq=False)
class LabelEmbeddings:
    """Label embeddings as a run uses them.

    Attributes
    ----------
    labels: L label names.
    vectors: float32 [L, d_w], finite; row i belongs to label i.
    name: where they come from, e.g. `glove.6B.300d.txt`.
    hash: SHA-256 over the labels and the bytes of the vectors.
    """

    labels: tuple[str, ...]
    vectors: npt.NDArray[np.float32]
    name: str
    hash: str

    @property
    def dimension(self) -> int:
        """d_w."""
        return int(self.vectors.shape[1])

    def select(self, labels: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32 [len(labels), d_w]: the rows of these labels, in this order."""
        row = {label: i for i, label in enumerate(self.labels)}
        return self.vectors[[row[label] for label in labels]]


def make_label_embeddings(
    labels: Sequence[str], vectors: npt.NDArray[np.floating], name: str
) -> LabelEmbeddings:
    """LabelEmbeddings with their hash: canonical JSON of labels and shape, then float32 bytes."""
    data = np.ascontiguousarray(vectors, dtype="<f4")
    digest = hashlib.sha256(canonical_json({"labels": list(labels), "shape": list(data.shape)}))
    digest.update(data.tobytes())
    return LabelEmbeddings(tuple(labels), data.astype(np.float32), name, digest.hexdigest())


def load_embeddings(
    path: Path | str, labels: Sequence[str], form: Form = "auto"
) -> LabelEmbeddings:
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
        from mlfsic_bench.data.scenes_pictures import label_embeddings

        return make_label_embeddings(labels, np.asarray(label_embeddings(labels)), BUILTIN)
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
    return make_label_embeddings(labels, vectors, path.name)


def _missing(path: Path, lookup: Lookup, total: int) -> BenchError:
    shown = [str(missing) for missing in lookup.missing[:5]]
    rest = [repr(missing.label) for missing in lookup.missing[5:]]
    return BenchError(
        f"{path} has no vector for {len(lookup.missing)} of {total} labels",
        expected="each label as one entry (spaces written _), or each of its words",
        found="; ".join(shown) + (f"; and {', '.join(rest)}" if rest else ""),
        remedy="name a file that has these words, such as GloVe 6B; "
        "`mlfsic-bench embeddings show FILE` says what a file has",
    )


def nearest_labels(vectors: npt.NDArray[np.float64], most: int) -> list[list[tuple[int, float]]]:
    """For each row of `vectors` [L, d_w] the `most` other rows of largest cosine, best first.

    Each as (row, cosine); of equal cosines the smaller row first. A vector of zeros has cosine 0
    with every other.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(norms == 0, 1, norms)
    cosines = unit @ unit.T
    return [
        [
            (int(other), float(cosines[row, other]))
            for other in np.argsort(-cosines[row], kind="stable")
            if other != row
        ][:most]
        for row in range(len(vectors))
    ]

"""LabelVectors: one vector per label, with a name and a hash."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlfsic_bench.hashing import canonical_json


@dataclass(frozen=True, eq=False)
class LabelVectors:
    """Label vectors as a run uses them.

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


def make_label_vectors(
    labels: Sequence[str], vectors: npt.NDArray[np.floating], name: str
) -> LabelVectors:
    """LabelVectors with their hash: canonical JSON of labels and shape, then float32 bytes."""
    data = np.ascontiguousarray(vectors, dtype="<f4")
    digest = hashlib.sha256(canonical_json({"labels": list(labels), "shape": list(data.shape)}))
    digest.update(data.tobytes())
    return LabelVectors(tuple(labels), data.astype(np.float32), name, digest.hexdigest())

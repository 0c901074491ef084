"""The 24 labels of `scenes`, each a shape with a pattern; and their attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.dataset import PartName
from mlfsic_bench.errors import unknown_name

SHAPE_ATTRIBUTES: tuple[str, ...] = ("disc", "triangle", "square", "star", "cross", "ring")
SHAPES: dict[str, frozenset[str]] = {shape: frozenset({shape}) for shape in SHAPE_ATTRIBUTES}
PATTERNS: tuple[str, ...] = ("plain", "striped", "dotted", "halved")
ATTRIBUTES: tuple[str, ...] = (*SHAPE_ATTRIBUTES, *PATTERNS)

# The part of each shape's label with each pattern, in the order of PATTERNS. Base has each of the
# six pairs of patterns once, so each shape with two patterns and each pattern with three shapes; a
# val or novel label is a new pair of two things seen before.
GRID: dict[str, tuple[PartName, PartName, PartName, PartName]] = {
    "disc": ("base", "base", "val", "novel"),
    "triangle": ("novel", "base", "base", "val"),
    "square": ("val", "novel", "base", "base"),
    "star": ("base", "val", "novel", "base"),
    "cross": ("base", "val", "base", "novel"),
    "ring": ("val", "base", "novel", "base"),
}


@dataclass(frozen=True)
class Look:
    """What makes a label: a shape and a pattern."""

    shape: str
    pattern: str

    @property
    def name(self) -> str:
        """The label, such as `striped disc`."""
        return f"{self.pattern} {self.shape}"


LOOKS: tuple[Look, ...] = tuple(Look(shape, pattern) for shape in SHAPES for pattern in PATTERNS)
LABELS: tuple[str, ...] = tuple(look.name for look in LOOKS)
PART_OF: tuple[PartName, ...] = tuple(part for shape in SHAPES for part in GRID[shape])


def labels_of(part: PartName) -> tuple[int, ...]:
    """The positions in `LABELS` of a part's labels: 12 for base, 6 for val, 6 for novel."""
    return tuple(label for label, own in enumerate(PART_OF) if own == part)


def label_embeddings(labels: Sequence[str]) -> npt.NDArray[np.float32]:
    """float32 [len(labels), 9]: what each label's object looks like, in attributes.

    An attribute the object has is 1, one it has not is 0; `corners` is their number over 12.
    Raises BenchError for a name that is no label of `scenes`.
    """
    rows = []
    for label in labels:
        if label not in LABELS:
            raise unknown_name("scenes label", label, LABELS)
        look = LOOKS[LABELS.index(label)]
        has = SHAPES[look.shape] | {look.pattern}
        row = {name: 1.0 if name in has else 0.0 for name in ATTRIBUTES}
        rows.append([row[name] for name in ATTRIBUTES])
    return np.asarray(rows, np.float32).reshape(len(rows), len(ATTRIBUTES))

"""The 24 labels of `scenes`: a shape, whole or pierced, with a pattern; and their attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import unknown_name
from mlfsic_bench.splits.split import PartName

# How each shape looks, in attributes several shapes share.
SHAPE_ATTRIBUTES: tuple[str, ...] = ("round", "concave", "threefold", "fourfold")
SHAPES: dict[str, frozenset[str]] = {
    "disc": frozenset({"round"}),
    "triangle": frozenset({"threefold"}),
    "square": frozenset({"fourfold"}),
    "star": frozenset({"concave", "threefold"}),
}
CORNERS: dict[str, int] = {"disc": 0, "triangle": 3, "square": 4, "star": 12}
PATTERNS: tuple[str, ...] = ("plain", "striped", "dotted")
ATTRIBUTES: tuple[str, ...] = (*SHAPE_ATTRIBUTES, "corners", *PATTERNS, "pierced")


@dataclass(frozen=True)
class Look:
    """What makes a label: a shape, a pattern, and whether there is a round hole in the middle."""

    shape: str
    pattern: str
    pierced: bool

    @property
    def name(self) -> str:
        """The label, such as `striped disc` or `pierced striped disc`."""
        return f"{'pierced ' * self.pierced}{self.pattern} {self.shape}"


LOOKS: tuple[Look, ...] = tuple(
    Look(shape, pattern, pierced)
    for shape in SHAPES
    for pattern in PATTERNS
    for pierced in (False, True)
)
LABELS: tuple[str, ...] = tuple(look.name for look in LOOKS)


def _part_of(label: int) -> PartName:
    # The pairs (shape, pattern) take turns: base has both the whole and the pierced object of one
    # pair, one object of the next, none of the third. So base shows every shape, every pattern and
    # the hole in several company, must tell whole from pierced, and a val or novel label is a new
    # company of parts all seen before. Half of the other objects are val labels, half novel.
    shape, pattern, pierced = label // 6, label // 2 % 3, label % 2
    turn = (shape + pattern) % 3
    if turn == 0 or (turn == 1 and pierced == shape % 2):
        return "base"
    if turn == 1:
        return "val" if shape < 2 else "novel"
    return "val" if pierced == shape % 2 else "novel"


PART_OF: tuple[PartName, ...] = tuple(_part_of(label) for label in range(len(LABELS)))


def labels_of(part: PartName) -> tuple[int, ...]:
    """The positions in `LABELS` of a part's labels: 12 for base, 6 for val, 6 for novel."""
    return tuple(label for label, own in enumerate(PART_OF) if own == part)


def label_vectors(labels: Sequence[str]) -> npt.NDArray[np.float32]:
    """float32 [len(labels), 9]: what each label's object looks like, in attributes.

    An attribute the object has is 1, one it has not is 0; `corners` is their number over 12.
    Raises BenchError for a name that is no label of `scenes`.
    """
    rows = []
    for label in labels:
        if label not in LABELS:
            raise unknown_name("scenes label", label, LABELS)
        look = LOOKS[LABELS.index(label)]
        has = SHAPES[look.shape] | {look.pattern} | ({"pierced"} if look.pierced else set())
        row = {name: 1.0 if name in has else 0.0 for name in ATTRIBUTES}
        row["corners"] = CORNERS[look.shape] / 12.0
        rows.append([row[name] for name in ATTRIBUTES])
    return np.asarray(rows, np.float32).reshape(len(rows), len(ATTRIBUTES))

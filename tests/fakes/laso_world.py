"""A tiny COCO of the 64/16 labels for the protocol `laso_k_shot`, in memory and on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mlfsic_bench.splits.files import SplitFile
from mlfsic_bench.splits.resolve import shipped_file
from tests.fakes.coco import Shown, write_coco

SPLIT = "coco-64-16-laso-v1"
DEFINITION: SplitFile = shipped_file(SPLIT)
NOVEL = DEFINITION.labels.novel
BASE = DEFINITION.labels.base


def contents(per_label: int = 3) -> tuple[dict[int, Shown], dict[int, Shown]]:
    """(train, val): `per_label` images of each novel label, half of them with a second one; base.

    Every base label has `per_label` images of its own in both years; train also holds an image of
    a base and a novel label. Numbers of train are not ascending, like those of the official file.
    """
    train: dict[int, Shown] = {}
    val: dict[int, Shown] = {}
    for year, first in ((train, 500_000), (val, 900_000)):
        for i, label in enumerate(NOVEL):
            for k in range(per_label):
                shown = [(label, "box")]
                if k % 2:
                    shown.append((NOVEL[(i + k) % len(NOVEL)], "box"))
                if k == 2:
                    shown.append((BASE[i], "box"))
                year[first - 7 * (per_label * i + k)] = shown
        for i, label in enumerate(BASE):
            for k in range(per_label):
                year[first - 100_000 - 7 * (per_label * i + k)] = [(label, "box")]
    return train, val


def laso_root(root: Path, per_label: int = 3) -> Path:
    """A data root with that COCO below `root`."""
    train, val = contents(per_label)
    return write_coco(root, train, val)


def without(part: Mapping[int, Shown], label: str) -> dict[int, Shown]:
    """The images, no longer annotated with `label`."""
    return {n: [pair for pair in shown if pair[0] != label] for n, shown in part.items()}

"""Labels of big annotation files, kept after the first reading: `<cache>/labels/`.

The official files of COCO are 482 MB of JSON; which label is in which image takes 8 MB.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.dataset import Annotations
from mlfsic_bench.data.listed import ENDINGS, id_problem
from mlfsic_bench.kept_arrays import Arrays, array_of, keep, value_of
from mlfsic_bench.schema import label_problem

_ARRAYS = ("ids", "ending", "order", "present", "shown")
_LONGEST_ID = 200
_ID_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./-\n"


@dataclass(frozen=True, eq=False)
class LabelTable:
    """What annotation files say of labels.

    Attributes
    ----------
    annotations: labels and images, sorted by id.
    endings, ending: the endings that file names have; uint8 [n], which of them each image's has.
    order: int64 [n]; the place of each image in the files.
    counts: what was counted in them.
    """

    annotations: Annotations
    endings: tuple[str, ...]
    ending: npt.NDArray[np.uint8]
    order: npt.NDArray[np.int64]
    counts: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def of(
        labels: tuple[str, ...],
        files: Sequence[str],
        present: npt.NDArray[np.bool_],
        shown: npt.NDArray[np.bool_],
        counts: Mapping[str, int] | None = None,
    ) -> LabelTable:
        """The table of images in the order of their files; an id is a file name without ending."""
        ids = [file[: file.rindex(".")] for file in files]
        found = [file[len(image_id) :] for file, image_id in zip(files, ids, strict=True)]
        order = sorted(range(len(ids)), key=ids.__getitem__)
        endings = tuple(sorted(set(found)))
        place = {ending: i for i, ending in enumerate(endings)}
        return LabelTable(
            Annotations(labels, tuple(ids[i] for i in order), present[order], shown[order]),
            endings,
            np.array([place[found[i]] for i in order], np.uint8),
            np.array(order, np.int64),
            dict(counts or {}),
        )

    def files(self) -> dict[str, str]:
        """Image id -> its file name."""
        endings = [self.endings[i] for i in self.ending.tolist()]
        ids = self.annotations.image_ids
        return {image_id: image_id + end for image_id, end in zip(ids, endings, strict=True)}

    def in_file_order(self) -> tuple[str, ...]:
        """The image ids in the order of the files."""
        ids = self.annotations.image_ids
        return tuple(ids[row] for row in np.argsort(self.order).tolist())


def kept_table(kind: str, files: Sequence[Path], make: Callable[[], LabelTable]) -> LabelTable:
    """The table of these files: as it was kept, else as `make` reads it (`kept_arrays.keep`).

    Parameters
    ----------
    kind: which reader `make` is, in a word.
    files: all the files that it reads.
    """
    return keep("labels", kind, files, make, _pack, _unpack, _ARRAYS)


def _pack(table: LabelTable) -> tuple[dict[str, Any], Arrays]:
    found = table.annotations
    said = {"labels": found.labels, "endings": table.endings, "counts": table.counts}
    ids = "".join(f"{image_id}\n" for image_id in found.image_ids)
    return said, {
        "ids": np.frombuffer(ids.encode(), np.uint8),
        "ending": table.ending,
        "order": table.order.astype("<u4"),
        "present": np.packbits(found.present, axis=1),
        "shown": np.packbits(found.shown, axis=1),
    }


def _unpack(said: dict[str, Any], arrays: Arrays) -> LabelTable:
    """The table; ValueError unless it is whole and sound."""
    labels = value_of(said, "labels", list, str)
    endings = value_of(said, "endings", list, str)
    counts = value_of(said, "counts", dict, int)
    if any(map(label_problem, labels)) or not len(set(labels)) == len(labels) > 0:
        raise ValueError("no labels")
    if not all(end.lower() in ENDINGS for end in endings):
        raise ValueError("no endings")
    ids = _ids(array_of(arrays, "ids", "|u1", [None]))
    n, width = len(ids), -(-len(labels) // 8)
    ending = array_of(arrays, "ending", "|u1", [n])
    order = array_of(arrays, "order", "<u4", [n]).astype(np.int64)
    bits = [array_of(arrays, name, "|u1", [n, width]) for name in ("present", "shown")]
    listed = np.zeros(n, np.bool_)
    listed[order[order < n]] = True
    if not listed.all() or ending.max(initial=0) >= len(endings):
        raise ValueError("an image without a place or ending")
    present, shown = (
        np.unpackbits(some, axis=1, count=len(labels)).view(np.bool_) for some in bits
    )
    if (present & ~shown).any():
        raise ValueError("a label that is present and not shown")
    found = Annotations(tuple(labels), ids, present, shown)
    return LabelTable(found, tuple(endings), ending, order, counts)


def _ids(data: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    """The image ids, a line each, as `id_problem` allows them, sorted and each once."""
    text = data.tobytes()
    ends = np.flatnonzero(data == ord("\n"))
    longest = np.diff(ends, prepend=-1).max(initial=0) - 1
    sound = text.endswith(b"\n") and b".." not in text and longest <= _LONGEST_ID
    if not sound or text.translate(None, _ID_BYTES):
        raise ValueError("no image ids")
    ids = tuple(text[:-1].decode("ascii").split("\n"))
    first = {*map(chr, set(data[ends[:-1] + 1].tobytes()))} | {ids[0][:1]}
    if any(map(id_problem, first)) or not all(map(operator.lt, ids, ids[1:])):
        raise ValueError("image ids that can't be, or are not in order")
    return ids

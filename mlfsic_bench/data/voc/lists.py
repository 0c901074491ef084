"""One image set of a VOC year: which labels each image has, from class lists or from XML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.voc.xml import read_objects
from mlfsic_bench.errors import BenchError, nearest
from mlfsic_bench.files import open_regular
from mlfsic_bench.paths import is_file, is_folder

ARCHIVES = "unpack the official VOC archives there"
_NAME = re.compile(r"[0-9_]{1,40}")


def read_set(
    folder: Path, image_set: str, labels: Sequence[str]
) -> tuple[list[str], npt.NDArray[np.int8]]:
    """Image names and int8 [n, L] (1 present, 0 difficult only, -1 absent) of a set.

    `folder` is a year's (VOC2007), `image_set` `trainval` or `test`. The class lists
    ImageSets/Main/<label>_<set>.txt are read when all are there (`train_trainval.txt` is the label
    `train`), else Annotations/<image>.xml for the images in <set>.txt, which say the same.
    """
    main = folder / "ImageSets" / "Main"
    missing = [label for label in labels if not is_file(main / f"{label}_{image_set}.txt")]
    if not missing:
        return _from_lists(main, image_set, labels)
    xml = folder / "Annotations"
    names_file = main / f"{image_set}.txt"
    if not is_file(names_file) or not is_folder(xml):
        lists = f"{len(missing)} of the {len(labels)} class lists in {main}, such as "
        raise BenchError(
            f"half a data set: {folder} lacks the {image_set} set",
            expected=f"{main}/<label>_{image_set}.txt for each label, "
            f"or {names_file} with {xml}/<image>.xml",
            found=f"missing: {lists}{missing[0]}_{image_set}.txt; and "
            + (f"no folder {xml}" if is_file(names_file) else f"no file {names_file}"),
            remedy=ARCHIVES,
        )
    names = [fields[0] for fields in _lines(names_file, columns=1)]
    return names, _from_xml(xml, names, labels)


def _from_lists(
    main: Path, image_set: str, labels: Sequence[str]
) -> tuple[list[str], npt.NDArray[np.int8]]:
    columns: list[list[int]] = []
    names: list[str] = []
    for label in labels:
        path = main / f"{label}_{image_set}.txt"
        lines = _lines(path, columns=2)
        found = [fields[0] for fields in lines]
        names = names or found
        if found != names:
            raise BenchError(
                f"{path} does not list the images of the other class lists",
                expected=f"the {len(names)} images of {labels[0]}_{image_set}.txt in that order",
                found=f"{len(found)} images, {len(set(found) ^ set(names))} of them in one only",
                remedy=ARCHIVES + " again",
            )
        columns.append([int(fields[1]) for fields in lines])
    return names, np.array(columns, np.int8).T


def _lines(path: Path, columns: int) -> list[list[str]]:
    try:
        with open_regular(path) as stream:
            text = stream.read().decode("ascii")
        lines = [line.split() for line in text.splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_list(path, str(error)) from error
    seen: set[str] = set()
    for fields in lines:
        sound = len(fields) == columns and _NAME.fullmatch(fields[0]) and fields[0] not in seen
        if not sound or (columns == 2 and fields[1] not in ("1", "0", "-1")):
            raise _bad_list(path, f"the line {' '.join(fields)!r:.200}")
        seen.add(fields[0])
    if not lines:
        raise _bad_list(path, "an empty file")
    return lines


def _bad_list(path: Path, found: str) -> BenchError:
    return BenchError(
        f"{path} is not an image list of VOC",
        expected="one image a line, each once, in class lists followed by 1, 0 or -1",
        found=found,
        remedy=ARCHIVES + " again",
    )


def _from_xml(folder: Path, names: list[str], labels: Sequence[str]) -> npt.NDArray[np.int8]:
    index = {label: i for i, label in enumerate(labels)}
    table = np.full((len(names), len(labels)), -1, np.int8)
    for row, name in enumerate(names):
        path = folder / f"{name}.xml"
        for label, difficult in read_objects(path):
            if label not in index:
                raise BenchError(
                    f"{path} names an object that is no label of VOC",
                    expected=", ".join(labels),
                    found=repr(label),
                    remedy=f"did you mean {nearest(label, labels)!r}?",
                )
            column = index[label]
            table[row, column] = max(table[row, column], 0 if difficult else 1)
    return table

"""The rule of a split: which images each part has, and which of the part's labels they have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.dataset import PART_NAMES, Annotations, PartName
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.splits.schema import SplitFile
from mlfsic_bench.splits.split import Part


def apply_rule(definition: SplitFile, annotations: Annotations) -> dict[PartName, Part]:
    """The three parts, columns in the order of the definition's label lists.

    An image is in part p when it has >= 1 present label of p and shows no label of the parts in
    `rule.excluded_by[p]` (docs/splits.md). Rule `open` is the wording of the paper's VOC split,
    `strict` that of its COCO split. With `rule.images_from` the image must also lie in one of the
    part's folders. BenchError when a label or a folder is not one of the dataset's, or when an
    image falls into two parts (possible only when difficult objects do not exclude).
    """
    rule = definition.rule
    present = annotations.shown if rule.difficult_is_present else annotations.present
    excluding = annotations.shown if rule.difficult_excludes else annotations.present
    columns = {
        part: _columns(definition.labels.of(part), annotations.labels) for part in PART_NAMES
    }
    shows = {part: excluding[:, columns[part]].any(axis=1) for part in PART_NAMES}
    lies_in = _folders(definition, annotations)
    parts: dict[PartName, Part] = {}
    owners = np.zeros(len(annotations.image_ids), np.int8)
    for part in PART_NAMES:
        member = present[:, columns[part]].any(axis=1)
        for other in rule.excluded_by.of(part):
            member &= ~shows[other]
        if part in lies_in:
            member &= lies_in[part]
        owners += member
        rows = np.flatnonzero(member)
        parts[part] = Part(
            labels=tuple(definition.labels.of(part)),
            image_ids=tuple(annotations.image_ids[row] for row in rows),
            targets=present[np.ix_(rows, columns[part])],
        )
    _refuse_overlap(definition, annotations, owners)
    return parts


def _folders(
    definition: SplitFile, annotations: Annotations
) -> dict[PartName, npt.NDArray[np.bool_]]:
    """Per part, bool [n]: whether each image lies in one of the part's folders."""
    wanted = definition.rule.images_from
    if wanted is None:
        return {}
    folder = np.array([image.partition("/")[0] for image in annotations.image_ids])
    known = sorted(set(folder.tolist()))
    for name in sorted({name for part in PART_NAMES for name in wanted.of(part)}):
        if name not in known:
            raise unknown_name("folder of images", name, known)
    return {part: np.isin(folder, wanted.of(part)) for part in PART_NAMES}


def _columns(labels: list[str], known: tuple[str, ...]) -> npt.NDArray[np.int64]:
    index = {label: i for i, label in enumerate(known)}
    for label in labels:
        if label not in index:
            raise unknown_name("label", label, known)
    return np.array([index[label] for label in labels], np.int64)


def _refuse_overlap(
    definition: SplitFile, annotations: Annotations, owners: npt.NDArray[np.int8]
) -> None:
    double = np.flatnonzero(owners > 1)
    if double.size:
        raise BenchError(
            f"the rule of {definition.id} puts {double.size} images into two parts",
            expected="parts without common images",
            found=f"for example {annotations.image_ids[double[0]]}",
            remedy="set rule.difficult_excludes to true in the definition",
        )

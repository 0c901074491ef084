"""Building a split: its rule applied to a dataset's annotations, and what limits the outcome."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.dataset import PART_NAMES, Annotations, Dataset, PartName
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.splits.exclusions import hash_ids
from mlfsic_bench.splits.files import Excluded, SplitFile, Subset, compose, parts_of, per_part
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


def limit(
    parts: dict[PartName, Part],
    dataset: Dataset | None,
    min_pool: int | None,
    exclude: Collection[str] = (),
) -> tuple[dict[PartName, Part], Subset]:
    """The parts with less in them, and the record of what left.

    `exclude`: images to leave out, before all else. `dataset`: keep only images it has on disk
    (None: keep all). `min_pool`: then, labels that
    fewer images have leave their part, and images without a label left leave too. Such an image
    has none of the labels that stay, so their numbers do not fall and one pass is the fixed point.
    The rule was applied before: a label that left still excludes images from the other parts.
    Columns stay; those of labels that left are all False.
    """
    if min_pool is not None and min_pool < 1:
        raise BenchError(
            "--min-pool is too small",
            expected="a whole number of images, at least 1",
            found=str(min_pool),
            remedy="1 + 4 images per label need --min-pool 5",
        )
    limited: dict[PartName, Part] = {}
    missing: dict[PartName, int] = {}
    left: dict[PartName, dict[str, int]] = {}
    excluded: dict[PartName, int] = {}
    gone: list[str] = []
    for name in PART_NAMES:
        part = parts[name]
        listed = np.array([image in exclude for image in part.image_ids], np.bool_)
        excluded[name] = int(listed.sum())
        gone += [part.image_ids[row] for row in np.flatnonzero(listed)]
        part = _take(part, ~listed)
        keep = (
            dataset.available(part.image_ids) if dataset else np.ones(len(part.image_ids), np.bool_)
        )
        missing[name] = int((~keep).sum())
        part = _take(part, keep)
        pools = part.targets.sum(axis=0)
        stay = pools >= (min_pool or 0)
        left[name] = {
            label: int(pool)
            for label, pool, stays in zip(part.labels, pools, stay, strict=True)
            if not stays
        }
        part = Part(part.labels, part.image_ids, part.targets & stay)
        limited[name] = _take(part, np.asarray(part.targets.any(axis=1)))
    subset = Subset(
        available_only=dataset is not None,
        min_pool=min_pool,
        images_missing=per_part(missing),
        labels_left=per_part(left),
        excluded=Excluded(hash=hash_ids(gone), images=per_part(excluded)) if gone else None,
    )
    return limited, subset


def _take(part: Part, keep: npt.NDArray[np.bool_]) -> Part:
    rows = np.flatnonzero(keep)
    return Part(part.labels, tuple(part.image_ids[row] for row in rows), part.targets[rows])


def build_file(
    definition: SplitFile,
    dataset: Dataset,
    *,
    available_only: bool = False,
    min_pool: int | None = None,
    exclude: Collection[str] = (),
) -> SplitFile:
    """The complete file: every image's part and targets, counts and hash.

    The same annotations give the same file, byte for byte. Where their counts are not the official
    ones of the dataset, the file says so and its id ends in `-unofficial`. `available_only`,
    `min_pool` and `exclude` limit the outcome and mark it as a subset (`limit`); a list of images
    that are in no part changes nothing. BenchError when the dataset is another one, lacks a label
    of the definition or an image of `exclude`, or leaves a part without images.
    """
    if dataset.name != definition.dataset:
        raise BenchError(
            f"the split {definition.id} is not made of this dataset",
            expected=definition.dataset,
            found=dataset.name,
            remedy=f"open the dataset {definition.dataset!r}",
        )
    annotations = dataset.annotations()
    unknown = sorted(set(exclude).difference(annotations.image_ids))
    if unknown:
        raise BenchError(
            f"{len(unknown)} of the {len(exclude)} images to exclude are not in {dataset.name}",
            expected=f"image ids such as {annotations.image_ids[0]}",
            found=", ".join(unknown[:3]),
            remedy="check which dataset the list was made for",
        )
    parts = apply_rule(definition, annotations)
    disk, differences = dataset if available_only else None, differences_from_official(dataset)
    used = {image for part in parts.values() for image in part.image_ids}.intersection(exclude)
    return _compose_limited(definition, parts, disk, min_pool, differences, used)


def differences_from_official(dataset: Dataset) -> list[str] | None:
    """Where the counts of its annotations are not the official ones; None where none are known.

    Reads the annotations, unless they are read already.
    """
    return None if dataset.anchors is None else dataset.anchors.differences(dataset.counts())


def limit_file(content: SplitFile, dataset: Dataset | None, min_pool: int | None) -> SplitFile:
    """A complete file limited to the images `dataset` has on disk and to labels with enough.

    `dataset` None keeps all images. BenchError when the file is a subset already.
    """
    if content.subset is not None:
        raise BenchError(
            f"this file of {content.id} is a subset already",
            expected="a whole split to limit",
            found=f"a subset: {content.subset.model_dump(mode='json')}",
            remedy="use the subset as it is, or limit the whole split",
        )
    differences = content.differs_from_official
    return _compose_limited(content, parts_of(content), dataset, min_pool, differences)


def _what_left(subset: Subset, part: PartName) -> str:
    left = ", ".join(f"{label} {n}" for label, n in subset.labels_left.of(part).items())
    said = f"{subset.images_missing.of(part):,} images are not on disk"
    return f"{said}; with fewer than {subset.min_pool} images left: {left}" if left else said


def _compose_limited(
    definition: SplitFile,
    parts: dict[PartName, Part],
    dataset: Dataset | None,
    min_pool: int | None,
    differences: list[str] | None,
    exclude: Collection[str] = (),
) -> SplitFile:
    subset = None
    if dataset is not None or min_pool is not None or exclude:
        parts, subset = limit(parts, dataset, min_pool, exclude)
    for name in PART_NAMES:
        if definition.labels.of(name) and not parts[name].image_ids:
            why = f"; {_what_left(subset, name)}" if subset else ""
            raise BenchError(
                f"the part {name!r} of {definition.id} has no image",
                expected="at least one image in each part that has labels",
                found=f"none{why}",
                remedy="check the data root, leave out --available-only and --exclude, or lower "
                "--min-pool"
                if subset
                else "check the data root and the definition's label lists",
            )
    return compose(definition, parts, subset, differences)

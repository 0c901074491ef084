"""Auditing a split: leaks between parts, small pools, unannotated images, bad image files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from mlfsic_bench.data.audit import ImageAudit, audit_images
from mlfsic_bench.data.dataset import PART_NAMES, Dataset
from mlfsic_bench.splits.files import SplitFile, count_images, problems

NEED = 5  # one support and four query images per label
OF_DATASET = ("foreign_labels", "broken_rule", "unannotated", "in_no_part", "duplicates")


def audit_split(
    content: SplitFile,
    dataset: Dataset | None,
    *,
    full: bool,
    log: Callable[[str], None] | None = None,
) -> tuple[dict[str, Any], ImageAudit | None]:
    """Audit a complete split file and, where there is a dataset, its images (`audit_images`).

    `full`: also decode every image on disk; `log` is told how far that is. The first result is made
    of JSON values; those of OF_DATASET are None without a dataset:

    problems: what makes the file unsound (`problems`).
    images: images per part.
    counts: images per label of each part.
    small_pools: per part, labels with fewer than `NEED` images.
    shared_images: images that are in more than one part.
    foreign_labels: per part and other part, images showing each of the other part's labels. Under
        `open` some are allowed; under `strict` there are none.
    broken_rule: per part, how many images show a label that excludes them, or are not in the
        dataset at all.
    unannotated: images of the dataset without any annotation; they are in no part.
    in_no_part: annotated images that are in no part.
    duplicates: how many groups of images with the same pixels there are, how many of them touch
        two parts, and how many two folders (years); None when nothing was decoded.
    leaks: whether images are where they must not be.
    """
    assert content.images is not None
    parts = {part: [image for image, _ in content.images.of(part)] for part in PART_NAMES}
    owners: dict[str, set[str]] = defaultdict(set)
    for part, images in parts.items():
        for image in images:
            owners[image].add(part)
    tallies = count_images(content)
    counts = {part: dict(tallies.of(part).labels) for part in PART_NAMES}
    audit: dict[str, Any] = {
        "problems": problems(content),
        "images": {part: len(images) for part, images in parts.items()},
        "counts": counts,
        "small_pools": {
            part: {label: n for label, n in counts[part].items() if n < NEED} for part in PART_NAMES
        },
        "shared_images": sorted(image for image, names in owners.items() if len(names) > 1),
        **dict.fromkeys(OF_DATASET),
    }
    files = None
    if dataset is not None:
        audit |= _against_dataset(content, parts, dataset)
        files = audit_images(dataset, tuple(owners), full=full, log=log)
        if full:
            in_parts = [set.union(*(owners[image] for image in group)) for group in files.groups]
            folders = [{image.split("/")[0] for image in group} for group in files.groups]
            audit["duplicates"] = {
                "groups": len(files.groups),
                "across_parts": sum(len(names) > 1 for names in in_parts),
                "across_folders": sum(len(names) > 1 for names in folders),
            }
    broken = any((audit["broken_rule"] or {}).values())
    audit["leaks"] = bool(audit["problems"] or audit["shared_images"] or broken)
    return audit, files


def _against_dataset(
    content: SplitFile, parts: dict[Any, list[str]], dataset: Dataset
) -> dict[str, Any]:
    annotations = dataset.annotations()
    row_of = {image: row for row, image in enumerate(annotations.image_ids)}
    column_of = {label: column for column, label in enumerate(annotations.labels)}
    rule = content.rule
    excluding = annotations.shown if rule.difficult_excludes else annotations.present
    used = np.zeros(len(row_of), np.bool_)
    foreign: dict[str, dict[str, dict[str, int]]] = {}
    broken: dict[str, int] = {}
    for part in PART_NAMES:
        rows = np.array([row_of[image] for image in parts[part] if image in row_of], np.int64)
        used[rows] = True
        foreign[part] = {}
        bad = np.zeros(len(rows), np.bool_)
        for other in PART_NAMES:
            if other == part:
                continue
            known = [label for label in content.labels.of(other) if label in column_of]
            columns = np.array([column_of[label] for label in known], np.int64)
            shown = annotations.shown[np.ix_(rows, columns)].sum(axis=0)
            foreign[part][other] = {
                label: int(n) for label, n in zip(known, shown, strict=True) if n
            }
            if other in rule.excluded_by.of(part):
                bad |= excluding[np.ix_(rows, columns)].any(axis=1)
        broken[part] = int(bad.sum()) + len(parts[part]) - len(rows)
    annotated = annotations.shown.any(axis=1)
    return {
        "foreign_labels": foreign,
        "broken_rule": broken,
        "unannotated": int((~annotated).sum()),
        "in_no_part": int((annotated & ~used).sum()),
    }

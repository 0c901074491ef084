"""Auditing a split: leaks between parts, small pools, unannotated images, duplicates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mlfsic_bench.data.dataset import PART_NAMES, Dataset
from mlfsic_bench.splits.content import count_images, problems
from mlfsic_bench.splits.duplicates import compare_contents
from mlfsic_bench.splits.schema import SplitFile

NEED = 5  # one support and four query images per label


@dataclass(frozen=True)
class Audit:
    """What an audit found; all but the first five need the dataset and are None without it.

    Attributes
    ----------
    problems: what makes the file unsound (`content.problems`).
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
    on_disk: images of the split that can be opened here.
    damaged: of those that can't, where something lies in their place: the image id, what it is.
    duplicates: groups of images with the same pixels; `across_parts` counts the groups that touch
        two parts, `across_folders` those that touch two folders (years).
    """

    problems: list[str]
    images: dict[str, int]
    counts: dict[str, dict[str, int]]
    small_pools: dict[str, dict[str, int]]
    shared_images: list[str]
    foreign_labels: dict[str, dict[str, dict[str, int]]] | None = None
    broken_rule: dict[str, int] | None = None
    unannotated: int | None = None
    in_no_part: int | None = None
    on_disk: int | None = None
    damaged: list[list[str]] | None = None
    duplicates: dict[str, Any] | None = None

    @property
    def leaks(self) -> bool:
        """Whether something is wrong, rather than merely worth knowing."""
        broken = any(self.broken_rule.values()) if self.broken_rule else False
        return bool(self.problems or self.shared_images or broken)

    def as_dict(self) -> dict[str, Any]:
        """The audit as JSON values."""
        return asdict(self) | {"leaks": self.leaks}


def audit_split(
    content: SplitFile,
    dataset: Dataset | None,
    *,
    contents: bool,
    log: Callable[[str], None] = lambda line: None,
) -> Audit:
    """Audit a complete split file, with what `dataset` says when there is one.

    `contents`: also read and decode every image on disk to find duplicates; `log` is told how far
    that is.
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
    }
    if dataset is not None:
        audit |= _against_dataset(content, parts, dataset)
        image_ids = tuple(sorted(owners))
        on_disk = dataset.available(image_ids)
        audit["on_disk"] = int(on_disk.sum())
        bad = dataset.damaged()
        audit["damaged"] = [[image, what] for image, what in bad.items() if image in owners]
        if contents:
            here = [image for image, is_here in zip(image_ids, on_disk, strict=True) if is_here]
            audit["duplicates"] = _duplicates(dataset, here, owners, log)
    return Audit(**audit)


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


def _duplicates(
    dataset: Dataset,
    image_ids: list[str],
    owners: dict[str, set[str]],
    log: Callable[[str], None],
) -> dict[str, Any]:
    report = compare_contents(dataset, image_ids, log)
    parts = [set.union(*(owners[image] for image in group)) for group in report.groups]
    folders = [{image.split("/")[0] for image in group} for group in report.groups]
    return {
        "compared": report.compared,
        "unreadable": report.unreadable,
        "groups": report.groups,
        "across_parts": sum(len(names) > 1 for names in parts),
        "across_folders": sum(len(names) > 1 for names in folders),
    }

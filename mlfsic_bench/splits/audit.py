"""Auditing a split: leaks between parts, small pools, unannotated images, duplicates."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from mlfsic_bench.data.dataset import PART_NAMES, Dataset
from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import hash_bytes
from mlfsic_bench.progress import progress
from mlfsic_bench.splits.files import SplitFile, count_images, problems

NEED = 5  # one support and four query images per label
OF_DATASET = ("foreign_labels", "broken_rule", "unannotated", "in_no_part", "on_disk", "damaged",
              "duplicates")  # fmt: skip


def audit_split(
    content: SplitFile,
    dataset: Dataset | None,
    *,
    contents: bool,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Audit a complete split file, with what `dataset` says when there is one.

    `contents`: also read and decode every image on disk to find duplicates; `log` is told how far
    that is. The result is made of JSON values; those of OF_DATASET are None without a dataset:

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
    on_disk: images of the split that can be opened here.
    damaged: of those that can't, where something lies in their place: the image id, what it is.
    duplicates: groups of images with the same pixels; `across_parts` counts the groups that touch
        two parts, `across_folders` those that touch two folders (years).
    leaks: whether something is wrong, rather than merely worth knowing.
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
    broken = any((audit["broken_rule"] or {}).values())
    return {**audit, "leaks": bool(audit["problems"] or audit["shared_images"] or broken)}


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
    image_ids: Sequence[str],
    owners: dict[str, set[str]],
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Images with the same content: by SHA-256 of their decoded RGB pixels (and size).

    Equal files decode to equal pixels, so this finds both copies of files and pictures stored
    twice in different files; re-compressed or resized copies are not found.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    unreadable: list[str] = []
    bar = progress("comparing pixels", len(image_ids), log)
    with bar as advance, ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = pool.map(lambda image: _digest(dataset, image), image_ids)
        for image, digest in zip(image_ids, digests, strict=True):
            (unreadable if digest is None else alike[digest]).append(image)
            advance(1)
    groups = sorted(sorted(group) for group in alike.values() if len(group) > 1)
    parts = [set.union(*(owners[image] for image in group)) for group in groups]
    folders = [{image.split("/")[0] for image in group} for group in groups]
    return {
        "compared": len(image_ids) - len(unreadable),
        "unreadable": unreadable,
        "groups": groups,
        "across_parts": sum(len(names) > 1 for names in parts),
        "across_folders": sum(len(names) > 1 for names in folders),
    }


def _digest(dataset: Dataset, image_id: str) -> str | None:
    try:
        image = dataset.open_image(image_id)
    except BenchError:
        return None
    return hash_bytes(repr(image.size).encode() + image.tobytes())

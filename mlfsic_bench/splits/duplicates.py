"""Images with the same content under different ids, by file bytes and by decoded pixels."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mlfsic_bench.data.dataset import Dataset
from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import hash_bytes
from mlfsic_bench.progress import progress


@dataclass(frozen=True)
class ContentReport:
    """`compared`: images read; `groups`: ids with the same content, each group sorted, two or more
    ids each; `unreadable`: ids whose image is missing or does not decode."""

    compared: int
    groups: list[list[str]]
    unreadable: list[str]


def compare_contents(
    dataset: Dataset,
    image_ids: Sequence[str],
    log: Callable[[str], None] = lambda line: None,
) -> ContentReport:
    """Group the images by SHA-256 of their decoded RGB pixels (and size).

    Equal files decode to equal pixels, so this finds both copies of files and pictures stored
    twice in different files; re-compressed or resized copies are not found. `log` is told how far
    it is, where there is no terminal for a bar.
    """
    digests = []
    bar = progress("comparing pixels", len(image_ids), log)
    with bar as advance, ThreadPoolExecutor(os.cpu_count()) as pool:
        for digest in pool.map(lambda image: _digest(dataset, image), image_ids):
            digests.append(digest)
            advance(1)
    groups: dict[str, list[str]] = defaultdict(list)
    unreadable = []
    for image, digest in zip(image_ids, digests, strict=True):
        if digest is None:
            unreadable.append(image)
        else:
            groups[digest].append(image)
    same = sorted(sorted(group) for group in groups.values() if len(group) > 1)
    return ContentReport(len(image_ids) - len(unreadable), same, unreadable)


def _digest(dataset: Dataset, image_id: str) -> str | None:
    try:
        image = dataset.open_image(image_id)
    except BenchError:
        return None
    return hash_bytes(repr(image.size).encode() + image.tobytes())

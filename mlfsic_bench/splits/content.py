"""What a schema can't say of a split file: order, disjointness, ranges, counts and the hash."""

from __future__ import annotations

from collections import Counter
from typing import Any

from mlfsic_bench.data.dataset import PART_NAMES, PartName
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.splits.schema import EXCLUDED_BY, PartCounts, PerPart, SplitFile, per_part


def content_hash(content: SplitFile) -> str:
    """SHA-256 over the canonical JSON of everything in the file but the hash itself."""
    return hash_json(content.model_dump(mode="json", exclude={"hash"}))


def count_images(content: SplitFile) -> PerPart[PartCounts]:
    """Images per part and per kept label of a complete file."""
    assert content.images is not None
    counts: dict[PartName, PartCounts] = {}
    for part in PART_NAMES:
        rows = content.images.of(part)
        tally = Counter(target for _, targets in rows for target in targets)
        index = {label: i for i, label in enumerate(content.labels.of(part))}
        labels = {label: tally[index[label]] for label in content.kept_labels(part)}
        counts[part] = PartCounts.model_construct(images=len(rows), labels=labels)
    return per_part(counts)


def problems(content: SplitFile) -> list[str]:
    """Everything that makes this no sound split file, one sentence each; empty when sound."""
    found = _definition_problems(content)
    outcome: tuple[Any, ...] = (content.images, content.counts, content.hash)
    if content.images is None:
        if content.counts is not None or content.subset is not None:
            found.append("a definition (no images) has neither counts nor a subset")
    elif None in outcome:
        found.append("a file with images must have counts and a hash")
    elif not found:
        found += _image_problems(content)
        if not found and content.counts != count_images(content):
            found.append("the counts are not those of the images in the file")
    if content.hash is not None and content.hash != content_hash(content):
        found.append(
            f"the hash is not that of the content: the file says {content.hash}, "
            f"its content gives {content_hash(content)}"
        )
    return found


def _definition_problems(content: SplitFile) -> list[str]:
    found = []
    if content.id.rpartition("-v")[2] != str(content.version):
        found.append(f"the id {content.id!r} must end in '-v{content.version}', its version")
    tally = Counter(label for part in PART_NAMES for label in content.labels.of(part))
    found += [
        f"the label {label!r} stands in the lists twice" for label in tally if tally[label] > 1
    ]
    for part in PART_NAMES:
        excluded_by = EXCLUDED_BY[content.rule.name][part]
        if sorted(content.rule.excluded_by.of(part)) != sorted(excluded_by):
            found.append(
                f"rule.excluded_by.{part} must be {excluded_by} under the rule "
                f"{content.rule.name!r}"
            )
        for label in content.subset.labels_left.of(part) if content.subset else ():
            if label not in content.labels.of(part):
                found.append(f"subset.labels_left.{part} names {label!r}, no label of the part")
    return found


def _image_problems(content: SplitFile) -> list[str]:
    assert content.images is not None
    found = []
    owner: dict[str, str] = {}
    for part in PART_NAMES:
        labels = content.labels.of(part)
        kept = set(content.kept_labels(part))
        allowed = {i for i, label in enumerate(labels) if label in kept}
        before = ""
        for image, targets in content.images.of(part):
            if image <= before:
                found.append(f"images.{part}: {image!r} after {before!r} is not in sorted order")
            before = image
            if image in owner:
                found.append(f"the image {image!r} is in {owner[image]} and in {part}")
            owner[image] = part
            if ".." in image.split("/"):
                found.append(f"images.{part}: {image!r} is not a plain image id")
            if not targets or targets != sorted(set(targets)) or not allowed.issuperset(targets):
                found.append(
                    f"images.{part}: the targets {targets} of {image!r} are not sorted distinct "
                    f"indices of the part's {len(labels)} labels, at least one"
                )
    return found

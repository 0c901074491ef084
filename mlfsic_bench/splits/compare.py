"""How one split file differs from another, and where."""

from __future__ import annotations

from collections.abc import Collection

from mlfsic_bench.data.dataset import PART_NAMES
from mlfsic_bench.splits.schema import SplitFile

EXAMPLES = 3


def definition_differences(found: SplitFile, reference: SplitFile, name: str) -> list[str]:
    """Where labels, rule, dataset or provenance of `found` are not those of `reference`.

    `name` says in the sentences what the reference is.
    """
    differences = []
    for key in ("id", "version", "dataset", "rule", "provenance"):
        ours, theirs = getattr(found, key), getattr(reference, key)
        if ours != theirs:
            differences.append(f"{key}: {_brief(ours)} in the file, {_brief(theirs)} in {name}")
    for part in PART_NAMES:
        labels, wanted = found.labels.of(part), reference.labels.of(part)
        if labels == wanted:
            continue
        added, missing = sorted(set(labels) - set(wanted)), sorted(set(wanted) - set(labels))
        what = f"added {added}, missing {missing}" if added or missing else "in another order"
        differences.append(f"labels.{part}: compared with {name}, {what}")
    return differences


def image_differences(found: SplitFile, reference: SplitFile, name: str) -> list[str]:
    """Which images each part has more or less than in `reference`, and whose targets differ."""
    assert found.images is not None
    assert reference.images is not None
    differences = []
    if found.subset != reference.subset:
        differences.append(
            f"subset: {_brief(found.subset)} in the file, {_brief(reference.subset)} in {name}"
        )
    for part in PART_NAMES:
        ours = dict(found.images.of(part))
        theirs = dict(reference.images.of(part))
        changed = [image for image in ours.keys() & theirs.keys() if ours[image] != theirs[image]]
        for what, images in (
            ("not in", ours.keys() - theirs.keys()),
            ("missing, which are in", theirs.keys() - ours.keys()),
            ("with other targets than in", changed),
        ):
            if images:
                examples = _some(images, theirs, ours)
                differences.append(f"images.{part}: {len(images)} images {what} {name}: {examples}")
    return differences


def _some(images: Collection[str], theirs: dict[str, list[int]], ours: dict[str, list[int]]) -> str:
    names = sorted(images)[:EXAMPLES]
    words = [
        f"{name} ({ours[name]}, there {theirs[name]})"
        if name in ours and name in theirs
        else str(name)
        for name in names
    ]
    return ", ".join(words) + (", ..." if len(images) > EXAMPLES else "")


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 160 else text[:157] + "..."

"""Verifying a split file: against itself, the shipped split of its id, and a data root."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mlfsic_bench.data.dataset import PART_NAMES
from mlfsic_bench.data.registry import is_synthetic, open_dataset
from mlfsic_bench.splits.build import build_file
from mlfsic_bench.splits.files import SplitFile, problems
from mlfsic_bench.splits.resolve import shipped_file, shipped_ids, split_file

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


@dataclass(frozen=True)
class Verdict:
    """What a split file was compared with, and what came out.

    Attributes
    ----------
    checked: what the file was compared with.
    unofficial: why its labels, rule or images were not compared with the official ones; empty when
        they were. Without a difference such a file agrees with itself, and that is all.
    differences: what is wrong, and where.
    """

    checked: list[str]
    unofficial: list[str]
    differences: list[str]


def verify_split(
    name_or_path: str, data_root: Path | None, exclude: Collection[str] = ()
) -> Verdict:
    """Compare a split with all that is at hand; a file that is no split file raises BenchError.

    Checked: hash, order, ranges and counts; the shipped split of the same id (its images too, when
    both have all of theirs); and, given a data root or for drawn images, the same split built again
    from it. Annotations below a data root are taken as they are: that they are complete is not
    known, so images rebuilt from them are not official ones. A split without some excluded images
    is built again without those in `exclude`, and not compared where there are none.
    """
    content = split_file(name_or_path, check=False)
    checked, differences = ["its own hash, order and counts"], problems(content)
    unofficial: list[str] = []
    drawn = is_synthetic(content.dataset)  # needs no data root
    name = "the shipped split"
    if content.id not in shipped_ids():
        unofficial.append(f"no split called {content.id} is shipped")
    else:
        shipped = shipped_file(content.id)
        differences += definition_differences(content, shipped, name)
        checked.append(f"labels and rule of {name}")
        if content.images is None:
            unofficial.append("the file is a definition without images")
        elif not shipped.images and not drawn:
            unofficial.append(f"{name} {content.id} has no images to compare with")
        elif content.subset is not None:
            unofficial.append("the file is a subset")
        elif shipped.images:
            differences += image_differences(content, shipped, name)
            checked.append(f"images of {name}")
    subset = content.subset
    lacks_list = subset is not None and subset.excluded is not None and not exclude
    if lacks_list:
        unofficial.append("it was made with an exclusion list, which --exclude would name")
    elif (data_root is not None or drawn) and content.images is not None:
        rebuilt = build_file(
            content.definition(),
            open_dataset(content.dataset, data_root),
            available_only=subset.available_only if subset else False,
            min_pool=subset.min_pool if subset else None,
            exclude=exclude,
        )
        assert rebuilt.images is not None
        where = "the scenes" if drawn else str(data_root)
        differences += image_differences(content, rebuilt, f"the split built from {where}")
        sizes = ", ".join(f"{part} {len(rebuilt.images.of(part))}" for part in PART_NAMES)
        checked.append(f"images of the split built from {where} ({sizes})")
    return Verdict(checked, unofficial, differences)

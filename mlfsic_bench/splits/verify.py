"""Verifying a split file: with itself, the shipped split, a data root, the official counts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlfsic_bench.data.dataset import PART_NAMES, Dataset
from mlfsic_bench.data.official import in_short
from mlfsic_bench.data.registry import anchors_of, dataset_of, needs_root, registered
from mlfsic_bench.splits.build import build_file, differences_from_official
from mlfsic_bench.splits.files import SplitFile, problems
from mlfsic_bench.splits.names import plain_id, shipped_ids
from mlfsic_bench.splits.resolve import shipped_file, split_file

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


Official = Literal["yes", "no", "not compared"]


@dataclass(frozen=True)
class Verdict:
    """What a split file was compared with, and what came out.

    Attributes
    ----------
    compared: what the file was compared with.
    official: `yes`: with shipped or synthetic images, or with annotations that have the official
        counts; `no`: the annotations have other counts; `not compared`: with nothing official, so
        that a file without differences agrees with what is in `compared` and no more.
    reasons: why it is not `yes`; empty when it is.
    differences: what is wrong, and where.
    """

    compared: list[str]
    official: Official
    reasons: list[str]
    differences: list[str]


def verify_split(
    name_or_path: str,
    data_root: Path | None,
    exclude: Collection[str] = (),
    dataset: str | None = None,
) -> Verdict:
    """Compare a split with all that is at hand; a file that is no split file raises BenchError.

    Compared: hash, order, ranges and counts; the shipped split of the same id (its images too, when
    both have all of theirs); given a data root or a dataset, or for synthetic images, the same
    split built again from it; and the counts of the annotations there with the official ones of the
    dataset. A definition, and a file that says that these agree, differs where they do not. A split
    without some excluded images is built again without those in `exclude`, and not compared where
    there are none.
    """
    content = split_file(name_or_path, check=False)
    compared, differences = ["its own hash, order and counts"], problems(content)
    synthetic = not needs_root(content.dataset)  # needs no data root
    shipped, name = None, "the shipped split"
    if plain_id(content.id) in shipped_ids():
        shipped = shipped_file(plain_id(content.id))
        differences += definition_differences(content.definition(), shipped, name)
        compared.append(f"labels and rule of {name}")
        if shipped.images is not None and content.images is not None and content.subset is None:
            differences += image_differences(content, shipped, name)
            compared.append(f"images of {name}")
    subset = content.subset
    lacks_list = subset is not None and subset.excluded is not None and not exclude
    where, read = "the synthetic images" if synthetic else str(dataset or data_root), None
    can_open = data_root is not None and registered(content.dataset) is not None
    if can_open or dataset is not None or synthetic:
        opened = dataset_of(content.dataset, data_root, dataset)
        if content.images is not None and not lacks_list:
            rebuilt = _rebuilt(content, opened, exclude)
            differences += image_differences(content, rebuilt, f"the split built from {where}")
            assert rebuilt.images is not None
            sizes = ", ".join(f"{part} {len(rebuilt.images.of(part))}" for part in PART_NAMES)
            compared.append(f"images of the split built from {where} ({sizes})")
        read = differences_from_official(opened)
        if read is not None and opened.anchors is not None:
            said = f"{len(read)} differ" if read else "all agree"
            compared.append(f"{opened.anchors.title}, in {where}: {said}")
        if read and _says_official(content):
            differences += [f"{line}, in {where}" for line in read]
    official, reason = _official(content, shipped, read, where)
    if lacks_list and official == "yes":
        official, reason = "not compared", ""
    reasons = (
        ["it was made with an exclusion list, which --exclude would name"] if lacks_list else []
    )
    reasons += [reason] if reason else []
    return Verdict(compared, official, reasons, differences)


def _says_official(content: SplitFile) -> bool:
    return content.images is None or content.differs_from_official == []


def _rebuilt(content: SplitFile, dataset: Dataset, exclude: Collection[str]) -> SplitFile:
    subset = content.subset
    return build_file(
        content.definition(),
        dataset,
        available_only=subset.available_only if subset else False,
        min_pool=subset.min_pool if subset else None,
        exclude=exclude,
    )


def _official(
    content: SplitFile, shipped: SplitFile | None, read: list[str] | None, where: str
) -> tuple[Official, str]:
    """Whether something official was compared, and why not.

    `read`: how the annotations in `where` differ from the official counts; None: not compared.
    """
    said, anchors = content.differs_from_official, anchors_of(content.dataset)
    if read:
        listed = "" if _says_official(content) else f"in {where}, {in_short(read)}; "
        return "no", f"{listed}{anchors.source if anchors else 'by the counts of the dataset'}"
    if said:
        return "no", f"the file says that its annotations differ: {in_short(said)}"
    if shipped is None:
        return "not compared", f"no split called {content.id} is shipped"
    if content.images is None:
        return "not compared", "the file is a definition without images"
    if not needs_root(content.dataset):
        return "yes", ""
    if anchors is not None and said is None:
        return "not compared", (
            "the file does not say that its annotations were compared with the official counts; "
            "build it again"
        )
    if anchors is not None and read is None:
        return "not compared", (
            "the file says that its annotations have the official counts; name the data root to "
            "compare them"
        )
    if anchors is None and shipped.images is None:
        return "not compared", f"the shipped split {shipped.id} has no images to compare with"
    if anchors is None and content.subset is not None:
        return "not compared", "the file is a subset"
    return "yes", ""

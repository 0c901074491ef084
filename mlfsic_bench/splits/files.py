"""Split files: their schema, what makes one sound, and reading and writing them.

A definition has labels and a rule but no images; a complete file has images, targets and counts.
docs/splits.md shows one and explains each key. One image a line: the same bytes for the same split.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

import numpy as np
from pydantic import Field

from mlfsic_bench.data.dataset import DATASET_NAME, IMAGE_ID, PART_NAMES, PartName
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import read_json, write_text
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.schema import FileSchema, Label, Sha256, ShortSchema, Text, load, shaped
from mlfsic_bench.splits.names import UNOFFICIAL, Differences, has_official, official_id, plain_id
from mlfsic_bench.splits.split import Part, Split

FORMAT = "mlfsic-split/1"
MAX_IMAGES = 2_000_000
MAX_LABELS = 10_000

# no leading slash, no backslash, no colon, no control character; `problems` refuses ".."
ImageId = Annotated[
    str, shaped(f"^{IMAGE_ID}$", "an image id: letters, digits and _ . - /, at most 200")
]
SplitId = Annotated[
    str,
    shaped(
        r"^[a-z0-9]+(-[a-z0-9]+)*-v[0-9]+(-unofficial)?$",
        "lower-case letters, digits and hyphens, a version at the end, such as my-split-v1",
        longest=100,
    ),
]
Count = Annotated[int, Field(ge=0)]
Labels = Annotated[list[Label], Field(min_length=1, max_length=MAX_LABELS)]
LabelsOrNone = Annotated[list[Label], Field(max_length=MAX_LABELS)]
Folder = Annotated[str, shaped(r"^[A-Za-z0-9_-]{1,50}$", "1 to 50 letters, digits, _ and -")]
Folders = Annotated[list[Folder], Field(min_length=1, max_length=100)]
Image = tuple[ImageId, Annotated[list[Count], Field(max_length=MAX_LABELS)]]
Images = Annotated[list[Image], Field(max_length=MAX_IMAGES)]


T = TypeVar("T")


class PerPart(FileSchema, Generic[T]):
    """One value for each of the three parts."""

    base: T
    val: T
    novel: T

    def of(self, part: PartName) -> T:
        """The value of one part."""
        return cast(T, getattr(self, part))


class LabelLists(PerPart[LabelsOrNone]):
    """The label lists; only `val` may be empty: then the part has no image either."""

    base: Labels
    novel: Labels


class Rule(ShortSchema):
    """Which images belong to a part.

    An image is in a part when it has at least one present label of the part and shows no label of
    the parts in `excluded_by`. `difficult_is_present`: whether difficult objects (VOC), crowds and
    boxes without area (COCO) make a label present. `difficult_excludes`: whether they exclude.
    `images_from`: per part, the folders (what stands before the slash in an image id) its images
    come from; without it, all of the dataset's. A file without the key is written without it.
    """

    absent = ("images_from",)
    name: Literal["open", "strict", "text"]
    excluded_by: PerPart[list[PartName]]
    difficult_is_present: bool
    difficult_excludes: bool
    images_from: PerPart[Folders] | None = None


EXCLUDED_BY: dict[str, dict[PartName, list[PartName]]] = {
    "open": {"base": ["val", "novel"], "val": ["novel"], "novel": []},
    "strict": {"base": ["val", "novel"], "val": ["base", "novel"], "novel": ["base", "val"]},
    "text": {"base": ["val", "novel"], "val": ["base", "novel"], "novel": []},
}


class Provenance(FileSchema):
    """Where the label lists, the rule and the images come from, in words."""

    labels: Text
    rule: Text
    images: Text


class Excluded(FileSchema):
    """The images of a split that an exclusion list left out.

    `hash`: SHA-256 of their sorted ids, one a line. `images`: how many there are in each part.
    """

    hash: Sha256
    images: PerPart[Count]


class Subset(ShortSchema):
    """What limited a split; part of its identity.

    `images_missing`: images of the whole part that were not on disk. `labels_left`: the labels
    that left each part because fewer than `min_pool` images had them, with that number.
    `excluded`: what an exclusion list left out, before the rest; a file without it is written
    without the key.
    """

    absent = ("excluded",)
    available_only: bool
    min_pool: Annotated[int, Field(ge=1)] | None
    images_missing: PerPart[Count]
    labels_left: PerPart[dict[Label, Count]]
    excluded: Excluded | None = None


class PartCounts(FileSchema):
    """Number of images of a part, and of images per label (labels that left are not listed)."""

    images: Count
    labels: dict[Label, Count]


class SplitFile(ShortSchema):
    """The content of a split file.

    `images` holds, per part, `[image id, [indices into the part's label list]]`, sorted by id;
    None in a definition. The indices refer to the whole label list, also in a subset.
    `differs_from_official` says how the annotations it was built from differ from the official
    counts of the dataset: empty for not at all; without the key nobody compared. `hash` is
    SHA-256 over the canonical JSON of everything else, the id without `-unofficial`; a hand-written
    definition may leave it out.
    """

    absent = ("differs_from_official",)
    format: Literal["mlfsic-split/1"]
    id: SplitId
    version: Annotated[int, Field(ge=1)]
    hash: Sha256 | None = None
    dataset: Annotated[str, shaped(f"^{DATASET_NAME}$", "the name of a data set: a-z 0-9 - _")]
    rule: Rule
    labels: LabelLists
    provenance: Provenance
    differs_from_official: Differences | None = None
    subset: Subset | None = None
    counts: PerPart[PartCounts] | None = None
    images: PerPart[Images] | None = None

    def kept_labels(self, part: PartName) -> tuple[str, ...]:
        """The part's labels in order, without those that left it by `min_pool`."""
        left = self.subset.labels_left.of(part) if self.subset else {}
        return tuple(label for label in self.labels.of(part) if label not in left)

    def definition(self) -> SplitFile:
        """The same labels and rule under the plain id, without the outcome; no hash."""
        outcome = ("hash", "differs_from_official", "subset", "counts", "images")
        return self.model_copy(update={**dict.fromkeys(outcome), "id": plain_id(self.id)})


def per_part(values: dict[PartName, T]) -> PerPart[T]:
    """The three values as a PerPart, unchecked (for values this package made)."""
    return PerPart[T].model_construct(
        None, base=values["base"], val=values["val"], novel=values["novel"]
    )


def content_hash(content: SplitFile) -> str:
    """SHA-256 over the canonical JSON of the file's content.

    Not of the hash itself, nor of what was compared with the official counts: the id counts without
    `-unofficial`, so that equal images and targets have one hash.
    """
    value = content.model_dump(mode="json", exclude={"hash", "differs_from_official"})
    return hash_json(value | {"id": plain_id(content.id)})


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
    if plain_id(content.id).rpartition("-v")[2] != str(content.version):
        found.append(f"the id {content.id!r} must end in '-v{content.version}', its version")
    if content.id.endswith(UNOFFICIAL) and content.images is None:
        found.append(f"a definition (no images) is never {UNOFFICIAL[1:]}")
    elif content.id.endswith(UNOFFICIAL) and not has_official(content.id, content.dataset):
        found.append(
            f"{UNOFFICIAL!r} belongs to splits whose definition ships and whose dataset has "
            "official counts"
        )
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


MAX_BYTES = 64 << 20  # the split of all of COCO has 8 MB


def parse_split(value: Any, where: str) -> SplitFile:
    """The JSON value as a SplitFile by schema alone; a BenchError naming the key otherwise.

    A built split of which the file does not say that it agrees with the official counts is
    `-unofficial`, also where the file leaves that out.
    """
    remedy = "make the file with `mlfsic-bench splits build`"
    content = load(SplitFile, value, where, page="docs/splits.md", remedy=remedy)
    return content if content.images is None else _with_id(content)


def _with_id(content: SplitFile) -> SplitFile:
    named = official_id(content.id, content.dataset, content.differs_from_official)
    return content if named == content.id else content.model_copy(update={"id": named})


def read_split_file(path: Path, *, check: bool = True) -> SplitFile:
    """The split file at `path`; with `check`, a BenchError unless its content is sound too.

    Sound (`problems`): sorted distinct images, disjoint parts, targets in range, counts
    and hash those of the content.
    """
    value = read_json(path, kind="split file", limit=MAX_BYTES)
    if isinstance(value, dict) and {"annotations", "categories"} <= value.keys():
        raise table_in_place(path)
    content = parse_split(value, str(path))
    found = problems(content) if check else []
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise BenchError(
            f"{path} is not a sound split file",
            expected="an unchanged file made by `mlfsic-bench splits build`",
            found=found[0] + more,
            remedy="build the split again, or fetch the file again; "
            "`mlfsic-bench splits verify` lists all that is wrong",
        )
    return content


def table_in_place(path: Path) -> BenchError:
    """The error for images with labels that are named as a split."""
    return BenchError(
        f"{path} is a table of images, not a split",
        expected="the id of a split, or a split file (.json)",
        found=path.name,
        remedy=f"make a split of it: mlfsic-bench splits new --dataset {path} --labels BASE "
        "VAL NOVEL",
    )


def read_split(path: Path) -> Split:
    """The complete split in the file at `path`, fully checked."""
    return to_split(read_split_file(path))


def write_split(content: SplitFile, path: Path) -> None:
    """Write a split file in its canonical form, atomically."""
    write_text(path, render(content))


def render(content: SplitFile) -> str:
    """The canonical text: keys in the schema's order, one image per line, no time or place."""
    head = content.model_dump(mode="json", exclude={"images"})
    text = json.dumps(head, indent=2, ensure_ascii=False, allow_nan=False)
    if content.images is None:
        return text[:-2] + ',\n  "images": null\n}\n'
    blocks = []
    for part in PART_NAMES:
        lines = (
            json.dumps(row, separators=(",", ":"), ensure_ascii=False)
            for row in content.images.of(part)
        )
        blocks.append(f'"{part}": [\n' + ",\n".join(lines) + "\n]")
    return text[:-2] + ',\n  "images": {\n' + ",\n".join(blocks) + "\n}}\n"


def compose(
    definition: SplitFile,
    parts: dict[PartName, Part],
    subset: Subset | None,
    differences: list[str] | None,
) -> SplitFile:
    """The complete file of a definition and its outcome, with counts and hash.

    The columns of each part's targets are the definition's label list, also in a subset.
    `differences` are those from the official counts; None where there are none to compare with.
    """
    images = {part: _rows(parts[part]) for part in PART_NAMES}
    outcome = {"differs_from_official": differences, "subset": subset, "images": per_part(images)}
    content = _with_id(definition.definition().model_copy(update=outcome))
    content = content.model_copy(update={"counts": count_images(content)})
    return content.model_copy(update={"hash": content_hash(content)})


def parts_of(content: SplitFile) -> dict[PartName, Part]:
    """The parts of a complete file; the columns of the targets are the whole label lists."""
    if content.images is None:
        raise BenchError(
            f"the split {content.id} is only defined: it has labels and a rule but no images",
            expected="a complete split",
            found="a definition",
            remedy=f"name the data root that holds {content.dataset} (--data-root or MLFSIC_DATA), "
            f"or build it once: `mlfsic-bench splits build {content.id} --data-root ROOT`",
        )
    parts: dict[PartName, Part] = {}
    for part in PART_NAMES:
        rows, labels = content.images.of(part), tuple(content.labels.of(part))
        targets = np.zeros((len(rows), len(labels)), np.bool_)
        flat = [(i, target) for i, (_, found) in enumerate(rows) for target in found]
        if flat:
            index = np.array(flat, np.int64)
            targets[index[:, 0], index[:, 1]] = True
        parts[part] = Part(labels, tuple(image for image, _ in rows), targets)
    return parts


def to_split(content: SplitFile) -> Split:
    """The Split of a complete file; labels that left a part are no longer among its labels."""
    parts: dict[PartName, Part] = {}
    for name, part in parts_of(content).items():
        kept = content.kept_labels(name)
        columns = [part.labels.index(label) for label in kept]
        parts[name] = Part(kept, part.image_ids, np.ascontiguousarray(part.targets[:, columns]))
    return Split(
        id=content.id,
        hash=content.hash or content_hash(content),
        dataset=content.dataset,
        rule=content.rule.name,
        parts=parts,
        subset=content.subset.model_dump(mode="json") if content.subset else None,
        differs_from_official=content.differs_from_official,
    )


def _rows(part: Part) -> list[tuple[str, list[int]]]:
    row, column = np.nonzero(part.targets)
    bounds = np.searchsorted(row, np.arange(1, len(part.image_ids)))
    groups = np.split(column, bounds) if part.image_ids else []
    return [(image, group.tolist()) for image, group in zip(part.image_ids, groups, strict=True)]

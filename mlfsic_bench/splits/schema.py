"""The schema of a split file: a definition (labels and rule) and, when built, its outcome.

A definition has no images; a complete file has images, targets and counts. docs/splits.md shows
one and explains each key.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar, cast

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from mlfsic_bench.data.dataset import PartName
from mlfsic_bench.schema import FileSchema, Label, Sha256, Text

FORMAT = "mlfsic-split/1"
MAX_IMAGES = 2_000_000
MAX_LABELS = 10_000

# no leading slash, no backslash, no colon, no control character; ".." is refused in content.py
ImageId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$")]
Count = Annotated[int, Field(ge=0)]
Labels = Annotated[list[Label], Field(min_length=1, max_length=MAX_LABELS)]
LabelsOrNone = Annotated[list[Label], Field(max_length=MAX_LABELS)]
Folder = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,50}$")]
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


class Rule(FileSchema):
    """Which images belong to a part.

    An image is in a part when it has at least one present label of the part and shows no label of
    the parts in `excluded_by`. `difficult_is_present`: whether difficult objects (VOC), crowds and
    boxes without area (COCO) make a label present. `difficult_excludes`: whether they exclude.
    `images_from`: per part, the folders (what stands before the slash in an image id) its images
    come from; without it, all of the dataset's. A file without the key is written without it.
    """

    name: Literal["open", "strict"]
    excluded_by: PerPart[list[PartName]]
    difficult_is_present: bool
    difficult_excludes: bool
    images_from: PerPart[Folders] | None = None

    @model_serializer(mode="wrap")
    def _without_absent_key(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # splits made before the key existed keep their bytes and hashes
        content: dict[str, Any] = serialise(self)
        if self.images_from is None:
            del content["images_from"]
        return content


EXCLUDED_BY: dict[str, dict[PartName, list[PartName]]] = {
    "open": {"base": ["val", "novel"], "val": ["novel"], "novel": []},
    "strict": {"base": ["val", "novel"], "val": ["base", "novel"], "novel": ["base", "val"]},
}


class Provenance(FileSchema):
    """Where the label lists, the rule and the images come from, in words."""

    labels: Text
    rule: Text
    images: Text


class Subset(FileSchema):
    """What limited a split; part of its identity.

    `images_missing`: images of the whole part that were not on disk. `labels_left`: the labels
    that left each part because fewer than `min_pool` images had them, with that number.
    """

    available_only: bool
    min_pool: Annotated[int, Field(ge=1)] | None
    images_missing: PerPart[Count]
    labels_left: PerPart[dict[Label, Count]]


class PartCounts(FileSchema):
    """Number of images of a part, and of images per label (labels that left are not listed)."""

    images: Count
    labels: dict[Label, Count]


class SplitFile(FileSchema):
    """The content of a split file.

    `images` holds, per part, `[image id, [indices into the part's label list]]`, sorted by id;
    None in a definition. The indices refer to the whole label list, also in a subset. `hash` is
    SHA-256 over the canonical JSON of everything else; a hand-written definition may leave it out.
    """

    format: Literal["mlfsic-split/1"]
    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*-v[0-9]+$", max_length=100)]
    version: Annotated[int, Field(ge=1)]
    hash: Sha256 | None = None
    dataset: Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,50}$")]
    rule: Rule
    labels: LabelLists
    provenance: Provenance
    subset: Subset | None = None
    counts: PerPart[PartCounts] | None = None
    images: PerPart[Images] | None = None

    def kept_labels(self, part: PartName) -> tuple[str, ...]:
        """The part's labels in order, without those that left it by `min_pool`."""
        left = self.subset.labels_left.of(part) if self.subset else {}
        return tuple(label for label in self.labels.of(part) if label not in left)

    def definition(self) -> SplitFile:
        """The same labels and rule without the outcome; no hash."""
        outcome = {"hash": None, "subset": None, "counts": None, "images": None}
        return self.model_copy(update=outcome)


def per_part(values: dict[PartName, T]) -> PerPart[T]:
    """The three values as a PerPart, unchecked (for values this package made)."""
    return PerPart[T].model_construct(
        None, base=values["base"], val=values["val"], novel=values["novel"]
    )

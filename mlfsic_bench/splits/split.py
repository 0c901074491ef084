"""The Split noun as the rest of the package uses it: three parts, each with labels and images."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.dataset import PartName
from mlfsic_bench.splits.names import plain_id


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a split.

    Attributes
    ----------
    labels: the part's label names, in the split's order; L of them.
    image_ids: the part's images, sorted as strings; n of them.
    targets: bool [n, L]; which of the part's labels each image has. Every row has at least one.
    """

    labels: tuple[str, ...]
    image_ids: tuple[str, ...]
    targets: npt.NDArray[np.bool_]
    _row: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_row", {name: i for i, name in enumerate(self.image_ids)})

    def __repr__(self) -> str:
        return f"<{len(self.image_ids):,} images with labels: {', '.join(self.labels)}>"

    def rows(self, image_ids: tuple[str, ...]) -> npt.NDArray[np.int64]:
        """int64 [len(image_ids)]: the row of each image in `targets`; KeyError when foreign."""
        return np.fromiter((self._row[i] for i in image_ids), np.int64, len(image_ids))

    def targets_of(self, image_ids: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """bool [len(image_ids), L]: the targets of these images of the part."""
        return self.targets[self.rows(image_ids)]


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint label lists and three disjoint image lists, with what made them.

    Attributes
    ----------
    id: versioned id, e.g. `voc-8-6-6-v1`, or `coco-52-12-16-v1-unofficial` (`splits.names`).
    hash: SHA-256 over the split's whole content (labels, rule, images, targets, subset).
    dataset: name of the dataset the images belong to.
    rule: `open` or `strict`.
    parts: `base`, `val` and `novel`.
    subset: None for the whole split; otherwise a dict that says what limited it
        (`available_only`, `min_pool`, labels that left each part). Results made on a subset say so.
    differs_from_official: how its annotations differ from the official counts of the dataset; empty
        for not at all, None where nobody compared.
    """

    id: str
    hash: str
    dataset: str
    rule: str
    parts: dict[PartName, Part]
    subset: dict[str, object] | None = None
    differs_from_official: list[str] | None = None

    @property
    def plain_id(self) -> str:
        """The id without `-unofficial`, by which its definition and its episodes are found."""
        return plain_id(self.id)

    def __repr__(self) -> str:
        parts = [f"{name} {len(p.labels)} labels, {len(p.image_ids):,} images"
                 for name, p in self.parts.items()]  # fmt: skip
        partial = "" if self.subset is None else ", limited to a subset of its images"
        return f"<Split {self.id} of {self.dataset}{partial}: {'; '.join(parts)}>"

    @property
    def base(self) -> Part:
        """The part whose labels a method is trained on."""
        return self.parts["base"]

    @property
    def val(self) -> Part:
        """The part whose labels select hyper-parameters and checkpoints."""
        return self.parts["val"]

    @property
    def novel(self) -> Part:
        """The part whose labels are tested."""
        return self.parts["novel"]

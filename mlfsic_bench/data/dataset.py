"""The Dataset noun: image ids, where each image lies, which labels it shows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

    from mlfsic_bench.data.official import Anchors

# As split files and feature stores can hold them; of an id, no part between slashes is "..".
IMAGE_ID = r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}"
DATASET_NAME = r"[a-z0-9_-]{1,50}"

# The three parts of a split, each with label names and images of its own.
PartName = Literal["base", "val", "novel"]
PART_NAMES: tuple[PartName, ...] = ("base", "val", "novel")


@dataclass(frozen=True, eq=False)
class Annotations:
    """What a dataset says of its images.

    Attributes
    ----------
    labels: the dataset's label names in its own order, L of them.
    image_ids: all image ids, sorted as strings, n of them.
    present: bool [n, L]; the label counts as a target (a non-difficult object; a non-crowd
        annotation with a positive area).
    shown: bool [n, L]; the label counts when images are excluded from a part (difficult objects,
        crowds and degenerate boxes count too). `present` implies `shown`.
    """

    labels: tuple[str, ...]
    image_ids: tuple[str, ...]
    present: npt.NDArray[np.bool_]
    shown: npt.NDArray[np.bool_]


class Dataset(ABC):
    """Image ids, where each image lies and which labels it shows; decodes only when asked.

    A dataset comes in by an entry point of the group `mlfsic_bench.datasets`, as
    `path/to/file.py:Class`, or as an object. Its class is called with one argument: the folder with
    the data, a Path, or None where `needs_root` is False.

    Attributes
    ----------
    name: the dataset's id, as split files name it: lower-case letters, digits, `-` and `_`.
    title: what tables call it; empty: its name.
    bibtex: the entry it is cited with; empty where there is none.
    needs_root: whether it reads files below a data root that the user names.
    anchors: the official counts of its annotations; None where there are none to compare with.
    """

    name: str
    title: ClassVar[str] = ""
    bibtex: ClassVar[str] = ""
    needs_root: ClassVar[bool] = True
    anchors: ClassVar[Anchors | None] = None

    @abstractmethod
    def annotations(self) -> Annotations:
        """Every image with its labels; read once and kept."""

    def counts(self) -> dict[str, int]:
        """How many there are of what `anchors` counts, under the same names, in what was read."""
        return {}

    @abstractmethod
    def available(self, image_ids: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """bool [n]: which of these images can be opened here (without decoding them).

        An image on disk is there when its file is a regular one that begins and ends as an image.
        """

    def damaged(self) -> dict[str, str]:
        """Image id -> what lies in its place, where something does and it is no image; by id.

        Such an image is not available. Synthetic images are never damaged.
        """
        return {}

    @abstractmethod
    def image_bytes(self, image_id: str) -> bytes:
        """The bytes that make the image (the file; for synthetic images a canonical rendering).

        Their SHA-256 identifies the image in a feature store. Raises BenchError when missing.
        """

    @abstractmethod
    def open_image(self, image_id: str) -> Image:
        """The image as a decoded RGB PIL image; BenchError when missing or corrupt."""

    def masks(self, image_id: str) -> dict[str, npt.NDArray[np.bool_]]:
        """Label -> bool [H, W], the pixels where its objects are seen; absent where not known.

        H x W is the size of the image as `open_image` gives it. Without an override nothing is
        known of any image.
        """
        return {}

    def label_embeddings(self, labels: Sequence[str]) -> npt.NDArray[np.float32] | None:
        """float32 [len(labels), d]: built-in label embeddings; None where there are none."""
        return None

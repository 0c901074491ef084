"""A data set of my own. `mlfsic-bench datasets check FILE.py:MyDataset` tests it.

As it stands it makes two images, so that it passes at once; replace what is marked CHANGE.
docs/datasets.md of mlfsic-bench explains the contract.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mlfsic_bench.data.dataset import Annotations, Dataset
from mlfsic_bench.data.images import decode_rgb
from mlfsic_bench.errors import BenchError

# CHANGE: read this from your files, in `__init__`.
LABELS_OF = {"made/0001": ["red"], "made/0002": ["green", "red"]}


class MyDataset(Dataset):
    """CHANGE: one line on what it is."""

    name = "my-dataset"  # CHANGE: a-z, 0-9, - and _; split files name it so
    title = "My dataset"  # CHANGE: what tables call it
    bibtex = ""  # the entry that it is cited with
    needs_root = False  # CHANGE: True when it reads files below --data-root

    def __init__(self, root: Path | None) -> None:
        self.root = root  # a folder when `needs_root` is True, else None

    def annotations(self) -> Annotations:
        """Every image with its labels."""
        ids = tuple(sorted(LABELS_OF))  # sorted, each once
        labels = tuple(sorted({label for found in LABELS_OF.values() for label in found}))
        present = np.zeros((len(ids), len(labels)), np.bool_)
        for row, image_id in enumerate(ids):
            for label in LABELS_OF[image_id]:
                present[row, labels.index(label)] = True
        # `shown` may be True where `present` is not: a label too difficult to be asked for.
        return Annotations(labels, ids, present=present, shown=present.copy())

    def available(self, image_ids: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """bool [n]: which of these images can be opened here."""
        # CHANGE: for files, whether each is there.
        return np.array([image_id in LABELS_OF for image_id in image_ids], np.bool_)

    def image_bytes(self, image_id: str) -> bytes:
        """The bytes of the image's file; BenchError when it is missing."""
        if image_id not in LABELS_OF:
            raise BenchError(
                f"{self.name} has no image {image_id!r}",
                expected="one of its image ids",
                found=repr(image_id),
                remedy="check which dataset the split was made of",
            )
        # CHANGE: return (self.root / f"{image_id}.jpg").read_bytes()
        colour = (200, 40, 40) if LABELS_OF[image_id] == ["red"] else (40, 200, 40)
        stream = io.BytesIO()
        Image.new("RGB", (64, 48), colour).save(stream, "PNG")
        return stream.getvalue()

    def open_image(self, image_id: str) -> Image.Image:
        """The image, decoded to RGB."""
        return decode_rgb(self.image_bytes(image_id), image_id)

"""The synthetic default data set `scenes`: drawn when asked for, nothing to download."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from mlfsic_bench.data.dataset import PART_NAMES, Annotations, Dataset, PartName
from mlfsic_bench.data.scenes_pictures import (
    LABELS,
    VERSION,
    label_embeddings,
    labels_in,
    lay_out,
    paint,
)
from mlfsic_bench.errors import BenchError
from mlfsic_bench.randomness import stream_seed

# Where each group's numbers start: a larger group leaves every id and every picture as it was.
FIRST: dict[PartName, int] = {"base": 0, "val": 800_000, "novel": 900_000}
ROOM: dict[PartName, int] = {"base": 800_000, "val": 100_000, "novel": 100_000}


class Scenes(Dataset):
    """Pictures of several patterned shapes on textured ground, with every pixel accounted for.

    Image `scenes/000123` is a function of its number alone (see `scenes_pictures`):
    112 x 112 pixels, RGB. Base images show base labels only; val images also show base labels,
    novel images also base and val labels, as under the split rule `open`.

    Parameters
    ----------
    base_images, val_images, novel_images: how many images of each group there are.
    """

    name = "scenes"

    def __init__(
        self, base_images: int = 3000, val_images: int = 900, novel_images: int = 1500
    ) -> None:
        self._counts: dict[PartName, int] = {
            "base": base_images,
            "val": val_images,
            "novel": novel_images,
        }
        for group, count in self._counts.items():
            if not 0 <= count <= ROOM[group]:
                raise BenchError(
                    f"scenes cannot have {count} {group} images",
                    expected=f"0 to {ROOM[group]}",
                    found=str(count),
                    remedy="ask for fewer images",
                )

    @cached_property
    def _annotations(self) -> Annotations:
        ids: list[str] = []
        rows: list[tuple[int, ...]] = []
        for group in PART_NAMES:
            for number in range(FIRST[group], FIRST[group] + self._counts[group]):
                ids.append(f"scenes/{number:06d}")
                rows.append(labels_in(number, group))
        present = np.zeros((len(ids), len(LABELS)), np.bool_)
        for i, row in enumerate(rows):
            present[i, list(row)] = True
        return Annotations(LABELS, tuple(ids), present, present)

    def annotations(self) -> Annotations:
        """Every image with its labels; `shown` equals `present`, nothing here is difficult."""
        return self._annotations

    def available(self, image_ids: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """bool [n]: True for every id of the data set, since images are drawn when asked for."""
        return np.array([self._find(image_id) is not None for image_id in image_ids], np.bool_)

    def image_bytes(self, image_id: str) -> bytes:
        """The 37,632 bytes of the picture: row by row, red, green, blue."""
        return self.pixels(image_id).tobytes()

    def open_image(self, image_id: str) -> Image.Image:
        """The picture as an RGB PIL image of 112 x 112 pixels."""
        return Image.fromarray(self.pixels(image_id))

    def pixels(self, image_id: str) -> npt.NDArray[np.uint8]:
        """uint8 [112, 112, 3]: the picture."""
        return _draw(*self._number(image_id))[0].copy()

    def masks(self, image_id: str) -> dict[str, npt.NDArray[np.bool_]]:
        """Label name -> bool [112, 112]: the pixels where its object is seen."""
        masks = _draw(*self._number(image_id))[1]
        return {LABELS[label]: mask.copy() for label, mask in masks.items()}

    def label_embeddings(self, labels: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32 [len(labels), 10]: their attributes (`scenes_pictures.label_embeddings`)."""
        return label_embeddings(labels)

    def _find(self, image_id: str) -> tuple[int, PartName] | None:
        head, _, digits = image_id.partition("/")
        if head != "scenes" or len(digits) != 6 or not digits.isascii() or not digits.isdigit():
            return None
        number = int(digits)
        for group in PART_NAMES:
            if 0 <= number - FIRST[group] < self._counts[group]:
                return number, group
        return None

    def _number(self, image_id: str) -> tuple[int, PartName]:
        found = self._find(image_id)
        if found is None:
            ranges = ", ".join(
                f"scenes/{FIRST[group]:06d} to scenes/{FIRST[group] + count - 1:06d}"
                for group, count in self._counts.items()
                if count
            )
            raise BenchError(
                f"scenes has no image {image_id!r}",
                expected=ranges,
                found=repr(image_id),
                remedy="take the ids from the data set's annotations",
            )
        return found


class Scenes20k(Scenes):
    """`scenes` with 20,000 base images; the first 3,000 and all others are its own."""

    name = "scenes-20k"

    def __init__(self) -> None:
        super().__init__(base_images=20_000)


# A feature extraction asks for an image's bytes and then for the image.
@lru_cache(maxsize=8)
def _draw(
    number: int, group: PartName
) -> tuple[npt.NDArray[np.uint8], dict[int, npt.NDArray[np.bool_]]]:
    return paint(lay_out(number, group), stream_seed("scenes", VERSION, "ground", number))

"""What a live network is given: images decoded in threads ahead of time, and kept on disk."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mlfsic_bench.features.compute import input_of, pixels_of, splits

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.features.backbones.base import Backbone
    from mlfsic_bench.features.image_cache import ImageCache

MOST_DECODERS = 8
AHEAD = 2  # batches kept on the device: that of this episode and that of the next


class LiveInputs:
    """The inputs of a network, by image id.

    Where the transform makes uint8 pixels first (`compute.splits`), these are what is kept and
    brought to the device, a quarter of the bytes; they are normalised there, to the same bits.

    Parameters
    ----------
    workers: decoding threads; None for one per core, at most MOST_DECODERS.
    cache: where decoded images are kept, or None.

    Attributes
    ----------
    splits: whether the transform makes pixels first; without them nothing can be kept.
    waited: seconds in which the network waited for images.
    """

    def __init__(
        self,
        backbone: Backbone,
        dataset: Dataset,
        device: torch.device,
        workers: int | None = None,
        cache: ImageCache | None = None,
    ) -> None:
        self.backbone, self.dataset, self.device, self.cache = backbone, dataset, device, cache
        self.splits = splits(backbone.transform)
        self.waited = 0.0
        self._decoders = ThreadPoolExecutor(workers or min(MOST_DECODERS, os.cpu_count() or 1))
        self._background = ThreadPoolExecutor(1)
        self._ahead: deque[tuple[dict[str, int], Future[Tensor]]] = deque(maxlen=AHEAD)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def __call__(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, 3, H, H] on the device, channels last in memory."""
        start = time.perf_counter()
        made = self._taken(ids)
        if made is None:
            made = self._moved(self._gathered(ids))
        self.waited += time.perf_counter() - start
        if self.splits:
            normalised: Tensor = self.backbone.transform.normalised(made)  # type: ignore[attr-defined]
            return normalised
        return made.contiguous(memory_format=torch.channels_last)

    def prefetch(self, ids: Sequence[str]) -> None:
        """Begin with these images, which are likely to be asked for next, all or some of them."""
        names = list(dict.fromkeys(ids))
        if not names or any(rows.keys() >= set(names) for rows, _ in self._ahead):
            return
        rows = {name: row for row, name in enumerate(names)}
        self._ahead.append((rows, self._background.submit(self._in_background, names)))

    def pixels(self, image_id: str) -> npt.NDArray[np.uint8]:
        """uint8 [H, H, 3] of an image, decoded now."""
        return pixels_of(self.backbone, self.dataset.open_image(image_id))

    def _taken(self, ids: Sequence[str]) -> Tensor | None:
        """Of a batch that was begun ahead of time, where one has all of these images."""
        for rows, future in self._ahead:
            if not all(name in rows for name in ids):
                continue
            try:
                batch = future.result()
            except Exception:  # made again now, where the error has its place
                return None
            if self._stream is not None:
                batch.record_stream(torch.cuda.current_stream(self.device))
            if list(rows) == list(ids):
                return batch
            return batch[torch.tensor([rows[name] for name in ids], device=self.device)]
        return None

    def _in_background(self, ids: Sequence[str]) -> Tensor:
        batch = self._gathered(ids)
        if self._stream is None:
            return batch
        with torch.cuda.stream(self._stream):
            moved = self._moved(batch)
        self._stream.synchronize()
        return moved

    def _moved(self, batch: Tensor) -> Tensor:
        return batch.to(self.device, non_blocking=batch.is_pinned())

    def _gathered(self, ids: Sequence[str]) -> Tensor:
        """uint8 [n, H, H, 3], or float32 [n, 3, H, H], on the CPU; pinned for a GPU."""
        side, count = self.backbone.input_size, len(ids)
        shape = (count, side, side, 3) if self.splits else (count, 3, side, side)
        batch = torch.empty(
            shape,
            dtype=torch.uint8 if self.splits else torch.float32,
            pin_memory=self.device.type == "cuda",
        )
        fill = self._fill_pixels if self.splits else self._fill_input
        list(self._decoders.map(fill, ids, batch))
        return batch

    def _fill_pixels(self, image_id: str, row: Tensor) -> None:
        into = row.numpy()
        if self.cache is not None and self.cache.read(image_id, into):
            return
        into[...] = self.pixels(image_id)
        if self.cache is not None:
            self.cache.write(image_id, into)

    def _fill_input(self, image_id: str, row: Tensor) -> None:
        row.copy_(input_of(self.backbone, self.dataset.open_image(image_id)))

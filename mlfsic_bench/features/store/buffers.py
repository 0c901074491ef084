"""Reused memory for gathered features, handed out only while nobody else holds it."""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 4


class BufferPool:
    """Float32 tensors on memory that returns to the pool when the last view of it is gone.

    A fresh result of 100 MB costs more in page faults than the copy into it, so memory is reused;
    but a tensor handed out stays the caller's for as long as it, a view of it or a graph that
    saved it is alive: the tensor's storage holds the numpy view made here, and only the end of
    that view gives the memory back.
    """

    def __init__(self) -> None:
        # Only single, atomic operations of the deque are used, never a lock: memory comes back
        # wherever the last reference dies, which may be inside `_take` itself.
        self._free: deque[npt.NDArray[np.float32]] = deque(maxlen=KEPT)

    def tensor(self, shape: tuple[int, ...]) -> Tensor:
        """float32 tensor of this shape with undefined content."""
        import torch

        size = math.prod(shape)
        owner = self._take(size)
        lease = owner[:size]
        weakref.finalize(lease, self._free.append, owner).atexit = False
        return torch.from_numpy(lease).view(shape)

    def _take(self, size: int) -> npt.NDArray[np.float32]:
        for _ in range(KEPT):
            try:
                owner = self._free.popleft()
            except IndexError:
                break
            # one that is far too large would hold memory for nothing
            if size <= owner.size <= max(4 * size, 1 << 16):
                return owner
            self._free.append(owner)
        return np.empty(size, dtype=np.float32)

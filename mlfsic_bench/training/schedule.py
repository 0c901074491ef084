"""The learning rate at each step: linear warm-up, then a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class WarmupCosine:
    """Linear from `start` to `base` over `warmup` steps, then a cosine to `final` at `steps`.

    Counted in optimiser steps, as the authors' later code does. With `final` equal to `base`, the
    default of the paper's model, the rate stays at `base` after the warm-up.
    """

    base: float
    steps: int
    warmup: int = 0
    start: float = 1e-6
    final: float | None = None

    def __call__(self, step: int) -> float:
        """The learning rate of step 0, 1, ..., steps - 1.

        >>> rate = WarmupCosine(base=1.0, steps=6, warmup=2, start=0.0, final=0.0)
        >>> [round(rate(step), 3) for step in range(6)]
        [0.0, 0.5, 1.0, 0.854, 0.5, 0.146]
        """
        if step < self.warmup:
            return self.start + (self.base - self.start) * step / self.warmup
        final = self.base if self.final is None else self.final
        progress = (step - self.warmup) / max(self.steps - self.warmup, 1)
        return final + 0.5 * (self.base - final) * (1 + math.cos(math.pi * progress))

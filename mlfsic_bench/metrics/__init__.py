"""Metrics on arrays: vectorised over all episodes, exact with ties, against scikit-learn.

>>> import mlfsic_bench as mb
>>> scores = [[[2.0, -1.0], [-0.5, 3.0], [1.0, -2.0], [-3.0, 0.5]]]  # [episodes, queries, labels]
>>> targets = [[[1, 0], [0, 1], [0, 0], [1, 0]]]
>>> mb.metrics.episode_metrics(scores, targets, names=["macro_ap"])["macro_ap"].tolist()
[0.875]
>>> mean, half = mb.metrics.t_interval([0.5, 0.6, 0.7])  # 95 %, over episodes
>>> round(mean, 3), round(half, 3)
(0.6, 0.248)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlfsic_bench.metrics.intervals import paired, t_interval
    from mlfsic_bench.metrics.registry import (
        METRICS,
        chance_levels,
        episode_metrics,
        undefined_counts,
    )

__all__ = [
    "METRICS",
    "chance_levels",
    "episode_metrics",
    "paired",
    "t_interval",
    "undefined_counts",
]

_IN_INTERVALS = ("paired", "t_interval")

if not TYPE_CHECKING:  # imported when they are used: `--help` needs no arrays

    def __getattr__(name: str) -> object:
        """The function of that name, imported now."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = "intervals" if name in _IN_INTERVALS else "registry"
        return getattr(import_module(f"{__name__}.{module}"), name)

    def __dir__() -> list[str]:
        """The functions on arrays, and the modules that hold them."""
        return sorted({*globals(), *__all__})

"""Chance: the AP to expect of a random ranking of these queries."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mlfsic_bench.metrics.average_precision import expected_random_ap


def chance_levels(targets: npt.ArrayLike) -> tuple[float, float]:
    """(micro-AP, macro-AP) to expect of a random ranking, as fractions, mean over episodes.

    `targets` is [E, Q, L] of 0 and 1. Labels and episodes without positives are left out; NaN when
    nothing is left.

    >>> micro, macro = chance_levels(np.eye(2)[None])
    >>> round(micro, 3), round(macro, 3)
    (0.681, 0.75)
    """
    ap = lru_cache(maxsize=None)(expected_random_ap)
    y = np.asarray(targets).astype(np.int64)
    _, queries, labels = y.shape
    micro = [ap(int(m), queries * labels) for m in y.sum(axis=(1, 2)) if m]
    per_label = [[ap(int(m), queries) for m in row if m] for row in y.sum(axis=1)]
    macro = [float(np.mean(row)) for row in per_label if row]
    return _mean(micro), _mean(macro)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")

"""What `mlfsic-bench reproduce --archive` left, read apart from the code that made it.

The checks are in archived_tables.py, archived_runs.py and archived_files.py. Each takes a path and
raises AssertionError. Figures are computed from runs/*/episodes.csv with numpy and scipy, and those
from raw scores, where these lie beside, with our metrics and, for some episodes, with scikit-learn.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from mlfsic_bench.metrics.registry import METRICS


def record_of(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "record.json").read_text("utf-8"))
    return value


def episodes_of(run: Path) -> dict[str, np.ndarray]:
    """Each metric in every episode, fractions."""
    with (run / "episodes.csv").open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream)
    always = {name for name, metric in METRICS.items() if metric.column == "always"}
    assert head[0] == "episode", run
    assert always <= set(head[1:]) <= set(METRICS), run
    assert [row[0] for row in rows] == [str(i) for i in range(len(rows))], run
    assert len(rows) == record_of(run)["episodes"]["count"], run
    values = np.array([[float(cell) for cell in row[1:]] for row in rows])
    return dict(zip(head[1:], values.T, strict=True))


def interval(values: np.ndarray) -> tuple[float | None, float | None]:
    """(mean, half width) in per cent over the values that are defined."""
    x = 100 * values[~np.isnan(values)]
    if len(x) < 2:
        return (float(x[0]) if len(x) else None), None
    return float(x.mean()), float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5)


def same(found: float | None, expected: float | None, where: str) -> None:
    if found is None or expected is None:
        assert found is expected, f"{where}: {found}, expected {expected}"
    else:
        assert abs(found - expected) <= 1e-9, f"{where}: {found!r}, expected {expected!r}"

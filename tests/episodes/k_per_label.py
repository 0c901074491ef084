"""A protocol with any K and Q, as a later version may add one: what a new protocol takes."""

from __future__ import annotations

from dataclasses import dataclass

from mlfsic_bench.episodes.one_per_label import PerLabel


@dataclass(frozen=True)
class KPerLabel(PerLabel):
    name = "k_per_label"
    takes = ("shots", "queries")
    counts = {"val": 3, "novel": 4}  # noqa: RUF012
    shots: int
    queries: int

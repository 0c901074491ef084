"""The figures of an entry: values in per cent with their intervals, and what chance gives."""

from __future__ import annotations

from pydantic import Field, model_validator

from mlfsic_bench.report.entry_fields import Bound, EntrySchema, PerCent, Text
from mlfsic_bench.report.entry_kinds import IntervalKind


class Interval(EntrySchema):
    """Bounds of a 95 % interval in per cent; a Student-t bound may lie outside 0 to 100."""

    low: Bound
    high: Bound

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


Intervals = dict[IntervalKind, Interval]


class Figure(EntrySchema):
    """A figure in per cent and its 95 % intervals by kind, none for most reported ones."""

    value: PerCent
    intervals: Intervals = Field(default_factory=dict)


class LabelFigure(EntrySchema):
    """The AP of one novel label, mean over the episodes that have it."""

    label: Text
    ap: PerCent
    intervals: Intervals = Field(default_factory=dict)


class Chance(EntrySchema):
    """Expected AP of a random ranking, per cent; low and high differ where targets are unknown."""

    low: PerCent
    high: PerCent

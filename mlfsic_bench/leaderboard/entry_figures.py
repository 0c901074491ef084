"""The figures of an entry: values in per cent with their intervals, and what chance gives."""

from __future__ import annotations

from pydantic import Field, model_validator

from mlfsic_bench.leaderboard.kinds import IntervalKind
from mlfsic_bench.results.fields import Bound, PerCent
from mlfsic_bench.schema import FileSchema, Label


class Interval(FileSchema):
    """Bounds of a 95 % interval in per cent; a Student-t bound may lie outside 0 to 100."""

    low: Bound
    high: Bound

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


Intervals = dict[IntervalKind, Interval]


def _check_inside(value: float, intervals: Intervals) -> None:
    """ValueError for a value that lies outside one of its intervals."""
    for kind, interval in intervals.items():
        if not interval.low <= value <= interval.high:
            raise ValueError(
                f"{value} lies outside its interval over {kind.value}, "
                f"{interval.low} to {interval.high}"
            )


class Figure(FileSchema):
    """A figure in per cent and its 95 % intervals by kind, none for most reported ones."""

    value: PerCent
    intervals: Intervals = Field(default_factory=dict)

    @model_validator(mode="after")
    def _inside(self) -> Figure:
        _check_inside(self.value, self.intervals)
        return self


class LabelFigure(FileSchema):
    """The AP of one novel label, mean over the episodes that have it."""

    label: Label
    ap: PerCent
    intervals: Intervals = Field(default_factory=dict)

    @model_validator(mode="after")
    def _inside(self) -> LabelFigure:
        _check_inside(self.ap, self.intervals)
        return self


class Chance(FileSchema):
    """Expected AP of a random ranking, per cent; low and high differ where targets are unknown."""

    low: PerCent
    high: PerCent

    @model_validator(mode="after")
    def _ordered(self) -> Chance:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self

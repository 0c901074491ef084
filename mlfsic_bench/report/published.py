"""Numbers from the literature, as data with their source."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mlfsic_bench.errors import BenchError
from mlfsic_bench.report.entry_fields import MetricName

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

PerCent = Annotated[float, Field(ge=0, le=100)]


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Schema):
    """The work the numbers stand in."""

    authors: str
    title: str
    venue: str
    year: int


class Query(_Schema):
    """What is scored at once: `labels` novel labels, with `per_label` query images for each."""

    labels: Annotated[int, Field(ge=1)]
    per_label: Annotated[int, Field(ge=1)]


class PublishedRow(_Schema):
    """One row: its name as printed, its backbone, its numbers in per cent."""

    name: str
    backbone: str
    values: Annotated[dict[MetricName, PerCent], Field(min_length=1)]


class Published(_Schema):
    """One table of numbers.

    Attributes
    ----------
    table, section, caption: where it stands; `table` is None for numbers in the running text.
    splits: ids of our splits with the same labels; empty when no run of ours is its counterpart.
    query: size of an episode's query, on which chance depends; None for other protocols.
    """

    schema_version: Literal[1]
    kind: Literal["mlfsic-bench published numbers"]
    source: Source
    table: int | None
    section: str
    caption: str
    dataset: str
    splits: list[str]
    protocol: str
    query: Query | None
    unit: Literal["per cent"]
    rows: Annotated[list[PublishedRow], Field(min_length=1)]


def published_names() -> list[str]:
    """The names of the shipped tables, sorted, e.g. `yan-2022-table1`."""
    names = (file.name for file in _folder().iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def read_published(name: str) -> Published:
    """The shipped table of this name; BenchError when it does not fit the schema."""
    text = (_folder() / f"{name}.json").read_text(encoding="utf-8")
    try:
        return TypeAdapter(Published).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise BenchError(
            f"results/published/{name}.json does not fit the schema",
            expected="the keys of mlfsic_bench.report.published.Published",
            found=f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}",
            remedy="correct the file, or install the package again",
        ) from error


def published_for(split_id: str) -> Published | None:
    """The table whose labels and protocol this split shares, or None."""
    tables = (read_published(name) for name in published_names())
    return next((table for table in tables if split_id in table.splits), None)


def _folder() -> Traversable:
    return files("mlfsic_results") / "published"

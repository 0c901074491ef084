"""Numbers from the literature, as data with their source."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mlfsic_bench.episodes.protocol import find_protocol
from mlfsic_bench.files import parse_json
from mlfsic_bench.results.fields import MetricName
from mlfsic_bench.schema import FileSchema, Line, Name, Text, Version, Word, load
from mlfsic_bench.splits.names import plain_id

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from mlfsic_bench.evaluation.record import Record

PerCent = Annotated[float, Field(ge=0, le=100)]
# A backbone as printed -> its name here.
BACKBONES = {
    "ResNet-50": "resnet50",
    "ResNet-101": "resnet101",
    "ViT-Base": "vit_b_16",
    "ResNet-50 + ViT-Base": "resnet50+vit_b_16",
}


class Source(FileSchema):
    """The work the numbers stand in."""

    authors: Line
    title: Line
    venue: Line
    year: int


class Query(FileSchema):
    """What is scored at once: `labels` novel labels, with `per_label` query images for each."""

    labels: Annotated[int, Field(ge=1)]
    per_label: Annotated[int, Field(ge=1)]


class PublishedRow(FileSchema):
    """One row: its name, its backbone as printed, its numbers in per cent.

    The paper calls its own model `Ours`; here it has the authors' names. `method` is what the
    method is called here, where that is known.
    """

    name: Name
    method: Name | None = None
    backbone: Name
    values: Annotated[dict[MetricName, PerCent], Field(min_length=1)]


class Published(FileSchema):
    """One table of numbers.

    Attributes
    ----------
    table, section, caption: where it stands; `table` is None for numbers in the running text.
    splits: ids of splits with the same labels; empty when no run here is its counterpart.
    query: size of an episode's query, on which chance depends; None for other protocols.
    """

    schema_version: Version
    kind: Literal["mlfsic-bench published numbers"]
    source: Source
    table: int | None
    section: Line
    caption: Text
    dataset: Name
    splits: list[Word]
    protocol: Line
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
    where = f"results/published/{name}.json"
    page = "docs/results-format.md"
    return load(Published, parse_json(text), where, page=page, remedy="install the package again")


def published_for(split_id: str) -> Published | None:
    """The table whose labels and protocol this split shares, or None."""
    tables = (read_published(name) for name in published_names())
    return next((table for table in tables if plain_id(split_id) in table.splits), None)


def is_counterpart(record: Record, table: Published, row: str) -> bool:
    """Whether a run has the data set, protocol and backbone of a published row.

    The data set is that of a split with the same labels, all images and, where there are official
    annotations to compare with, these; a backbone without weights
    is not the published one.
    """
    printed = next((one.backbone for one in table.rows if one.name == row), None)
    same_data = [
        one for one in map(read_published, published_names()) if one.dataset == table.dataset
    ]
    split, episodes, features = record.split, record.episodes, record.features
    return (
        any(split.id in one.splits for one in same_data)
        and not split.subset
        and table.query is not None
        and episodes.drawn_by == find_protocol(shots=1, queries=table.query.per_label)
        and episodes.count == episodes.total
        and features is not None
        and features.weights != "none"
        and features.backbone == BACKBONES.get(str(printed))
    )


def _folder() -> Traversable:
    return files("mlfsic_results") / "published"

"""The best rows of a tuned table by label, by number of labels in the image and by object size.

The rows are the reference and the one with the highest macro-AP of each kind of method; they are
shown next to each other and nothing is chosen by what is found here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from mlfsic_bench.analysis.attention.pointing import SIZES
from mlfsic_bench.analysis.breakdowns import MOST, by_cardinality, by_label
from mlfsic_bench.experiments.plan import PlannedRow
from mlfsic_bench.experiments.render import json_lines
from mlfsic_bench.experiments.table import ReproducedTable, RunName, per_cent
from mlfsic_bench.metrics.average_precision import label_ap
from mlfsic_bench.metrics.intervals import episode_images, t_interval
from mlfsic_bench.results.result import Result, Targets, stored_targets
from mlfsic_bench.results.table import Table, table, to_markdown
from mlfsic_bench.text import for_markdown

if TYPE_CHECKING:
    from mlfsic_bench.data.dataset import Dataset

KIND = "mlfsic-bench breakdown of a table"
TITLES = {
    "label": "AP of each label",
    "labels in the image": "micro-AP by the number of novel labels that a query image shows",
    "object size": "AP by the size of the label's objects in the image",
}
LOOKED_AT = 50  # images after which a dataset without outlines is known as such


@dataclass(frozen=True)
class Column:
    """A row of the table, shown as a column: why it is shown, and its runs."""

    name: str
    why: str
    runs: tuple[RunName, ...]


@dataclass(frozen=True)
class Line:
    """One group: how it is formed (a key of TITLES), its name, its query images or its positives.

    `values`: in per cent, mean over training seeds, in the order of the columns.
    """

    by: str
    name: str
    count: int
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class TableBreakdown:
    """What is written beside a table; `caption` are sentences."""

    title: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    caption: tuple[str, ...]


def kind_of(row: PlannedRow) -> str:
    """What a method has at hand, in words.

    One that sees all query images at once, one with a text side, one with label embeddings, one
    that learns from the base part, or one that knows the support images only.
    """
    method = row.method
    if method.transductive:
        return "transductive"
    if method.needs_text_side:
        return "with a text side"
    if method.needs_embeddings or (method.uses_embeddings and row.spec.embeddings is not None):
        return "with label embeddings"
    return "trained on the base part" if method.trains else "on the support images alone"


def break_down_table(
    made: ReproducedTable,
    results: Sequence[Sequence[Result]],
    planned: Sequence[PlannedRow],
    dataset: Dataset | None,
) -> TableBreakdown | None:
    """The breakdown of a table's best rows; None where nothing was measured."""
    scores: dict[int, float] = {
        i: row.cells[made.columns[0]].measured or 0.0 for i, row in enumerate(made.rows) if row.runs
    }
    if not scores:
        return None
    why: dict[int, str] = {}
    for i, row in enumerate(made.rows):
        if i in scores and row.name == made.reference:
            why[i] = "the reference"
    for kind in dict.fromkeys(kind_of(planned[i]) for i in scores):
        of_kind = [i for i in scores if kind_of(planned[i]) == kind]
        why.setdefault(max(of_kind, key=lambda i: scores[i]), f"best {kind}")
    columns = tuple(Column(made.rows[i].name, told, made.rows[i].runs) for i, told in why.items())
    shown = [results[i] for i in why]
    first = shown[0][0].stored
    assert first is not None  # it is a run's folder
    targets = [stored_targets(own[0].stored) for own in shown if own[0].stored is not None]
    lines = lines_of(shown, targets)
    sizes = _sizes(targets[_longest(targets)], shown[0][0].meta.labels, dataset)
    if sizes is not None:
        lines += _by_size(shown, targets, sizes)
    return TableBreakdown(made.title, columns, tuple(lines), tuple(_caption(columns, sizes)))


def lines_of(shown: Sequence[Sequence[Result]], targets: Sequence[Targets]) -> list[Line]:
    """By label and by number of labels; `shown` has the results of each column, one for a seed."""
    found = []
    for by, metric, counted, group_by in (
        ("label", "ap", "positives", by_label),
        ("labels in the image", "micro_ap", "queries", by_cardinality),
    ):
        columns = []
        for own, of in zip(shown, targets, strict=True):
            images = episode_images(of.query, of.support, of.drawn_for)
            groups = [group_by(result.scores, of, images) for result in own]
            columns.append([{group.name: group for group in seed} for seed in groups])
        # a row may be on the first episodes only, in which not every group need occur
        for name, group in columns[_longest(targets)][0].items():
            same = [[seed.get(name) for seed in seeds] for seeds in columns]
            means = [[one.values[metric].mean if one else None for one in seeds] for seeds in same]
            found.append(Line(by, name, group.counts[counted], tuple(map(_mean, means))))
    return found


def _longest(targets: Sequence[Targets]) -> int:
    """The number of the first column with the most episodes."""
    lengths = [len(of.targets) for of in targets]
    return lengths.index(max(lengths))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return per_cent(float(np.mean(known))) if len(known) == len(values) else None


def _sizes(
    targets: Targets, labels: Sequence[str], dataset: Dataset | None
) -> npt.NDArray[np.int64] | None:
    """int64 [E, Q, L]: the number of the size of a present label, -1 where not known; or None."""
    if dataset is None:
        return None
    known: dict[str, Mapping[str, npt.NDArray[np.bool_]]] = {}
    for image in dict.fromkeys(targets.query.ravel().tolist()):
        known[image] = dataset.masks(image)
        if len(known) == LOOKED_AT and not any(known.values()):
            return None
    ends = [end for _, end in SIZES]
    area = {
        image: [
            int(np.searchsorted(ends, masks[label].mean(), side="right")) if label in masks else -1
            for label in labels
        ]
        for image, masks in known.items()
    }
    sizes = np.array([[area[image] for image in row] for row in targets.query.tolist()], np.int64)
    return np.where(targets.targets, sizes, -1)


def _by_size(
    shown: Sequence[Sequence[Result]], targets: Sequence[Targets], sizes: npt.NDArray[np.int64]
) -> list[Line]:
    """The AP of labels with only the positives of one size, the others left out of the ranking."""
    lines = []
    for k, (name, _) in enumerate(SIZES):
        values = []
        for own, of in zip(shown, targets, strict=True):
            size = sizes[: len(of.targets)]
            wanted = of.targets & (size == k)
            each = []
            for result in own:
                s = result.scores.scores
                # Last in the ranking, where no precision at a positive sees them.
                s = np.where(of.targets & ~wanted, s.min() - 1, s)
                ap = label_ap(s, wanted)
                tested = ~np.isnan(ap)
                total = np.where(tested, ap, 0.0).sum(axis=1)
                count = tested.sum(axis=1)
                mean = np.divide(total, count, out=np.full(len(ap), np.nan), where=count > 0)
                each.append(t_interval(mean)[0])
            values.append(per_cent(float(np.mean(each))))
        if (sizes == k).any():
            lines.append(Line("object size", name, int((sizes == k).sum()), tuple(values)))
    return lines


def _caption(columns: Sequence[Column], sizes: object) -> list[str]:
    told = [
        f"Columns: {'; '.join(f'{c.name} ({c.why})' for c in columns)}. In per cent, mean over "
        "training seeds; count: positives of a label or size, query images of a number of labels.",
        f"{MOST} labels stand for {MOST} or more.",
    ]
    if sizes is None:
        return [
            *told,
            "Not by object size: the available annotations do not say where objects are.",
        ]
    return [
        *told,
        "Object size: the share of the image that the label's objects cover; AP over the positives "
        "of that size and all negatives.",
    ]


def render_breakdown(made: TableBreakdown) -> str:
    """As Markdown: a table for each way to form groups."""
    tables: list[Table] = []
    for by, title in TITLES.items():
        own = [line for line in made.lines if line.by == by]
        rows = [
            (line.name, str(line.count), *("-" if v is None else f"{v:.2f}" for v in line.values))
            for line in own
        ]
        if rows:
            heads = (by, "count", *(column.name for column in made.columns))
            tables.append(table(heads, rows, title=title))
    return f"# {for_markdown(made.title)}: breakdown\n\n" + to_markdown(tables, made.caption)


def breakdown_json(made: TableBreakdown) -> str:
    """As JSON, a line for each group."""
    return json_lines({"schema_version": 1, "kind": KIND, **asdict(made)}, "lines")


def read_breakdown(path: Path) -> TableBreakdown | None:
    """The breakdown in a JSON file that `breakdown_json` wrote; None for another kind of file."""
    value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return TypeAdapter(TableBreakdown).validate_python(value) if value.get("kind") == KIND else None

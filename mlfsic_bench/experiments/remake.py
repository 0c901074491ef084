"""An archived table computed again from what is stored of its runs (`archive`).

It needs no data set. Where neither scores nor their order are kept, the values of episodes are, and
intervals over images and ranks are those in the table's JSON. A threshold chosen on val needs the
scores themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.counts import read_counts
from mlfsic_bench.evaluation.record import Record, parse_record
from mlfsic_bench.experiments.archive import RUNS, archived_folder, has_order, kept_runs
from mlfsic_bench.experiments.caption import profile_line
from mlfsic_bench.experiments.decisions import COUNTS, under_rules
from mlfsic_bench.experiments.render import read_table
from mlfsic_bench.experiments.table import (
    Cell,
    ReproducedTable,
    TableRow,
    Values,
    can_differ,
    cells_of,
    published_values,
    values_of,
)
from mlfsic_bench.files import is_stored
from mlfsic_bench.metrics.decisions import Rule
from mlfsic_bench.results.published import read_published
from mlfsic_bench.results.result import Result, Targets, open_result
from mlfsic_bench.results.targets import targets_of


@dataclass(frozen=True)
class Remade:
    """A table made again.

    Attributes
    ----------
    table: with every number that could be computed, and the stored one where it could not.
    computed: how many numbers were computed.
    kept, ruled: how many intervals over images and ranks, and how many values under decision rules,
        were taken from the table's JSON.
    records: of the runs of each row.
    """

    table: ReproducedTable
    computed: int
    kept: int
    ruled: int
    records: tuple[tuple[Record | None, ...], ...]

    @property
    def said(self) -> str:
        """How much was computed again."""
        text = f"{self.computed} numbers computed again"
        if self.kept:
            and_ranks = " and ranks" if self.table.ranked else ""
            text += f", {self.kept} intervals over images{and_ranks} as stored (no scores)"
        if self.ruled:
            text += f", {self.ruled} values under decision rules as stored"
        return text


def remake(path: Path, profile: str | None = None) -> Remade:
    """The table whose JSON is `path`, computed again.

    BenchError where there is none, or it was made on another profile than the one that is named.
    """
    table = read_table(path) if is_stored(path) else None
    if table is None:
        raise BenchError(
            f"{path} is no archived table",
            expected="NAME.json of a table, as `mlfsic-bench reproduce --archive DIR` keeps it",
            found="another file" if is_stored(path) else "no such file",
            remedy="name the folder of the archive, such as results/measured/coco-subset",
        )
    made_on = table.caption[0].partition(". ")[0] if table.caption else "an unknown profile"
    if profile is not None and not made_on.startswith(profile_line(profile)):
        raise BenchError(
            f"{path} was not made on {profile}",
            expected=f"a table of the profile {profile}",
            found=made_on,
            remedy="name the profile with --dataset, or another folder",
        )
    made_of = [_values(path, row, table.columns) for row in table.rows]
    names = [row.name for row in table.rows]
    literature = read_published(table.published) if table.published else None
    cells = cells_of(
        [values for values, _ in made_of],
        table.columns,
        [published_values(literature, row.published_row) for row in table.rows],
        [
            can_differ(literature, row.published_row, records)
            for row, (_, records) in zip(table.rows, made_of, strict=True)
        ],
        names.index(table.reference) if table.reference else None,
        table.ranked,
    )
    kept, ruled, computed, rows = 0, 0, 0, []
    for row, own in zip(table.rows, cells, strict=True):
        filled = {}
        for column, cell in own.items():
            filled[column], missing = _with_kept_intervals(cell, row.cells[column])
            kept += missing
            computed += sum(value is not None for value in vars(cell).values())
        again = _under_rules(path, row)
        computed += sum(map(len, again.values()))
        made = replace(row, cells=filled)
        if row.decisions is not None:
            stored = row.decisions.values
            ruled += sum(len(each) for rule, each in stored.items() if rule not in again)
            made = replace(made, decisions=replace(row.decisions, values={**stored, **again}))
        rows.append(made)
    records = tuple(tuple(records) for _, records in made_of)
    return Remade(replace(table, rows=tuple(rows)), computed, kept, ruled, records)


def _with_kept_intervals(cell: Cell, stored: Cell) -> tuple[Cell, int]:
    """The cell with what is stored of the images and could not be computed; how much that is.

    What the stored cell lacks is left out: scores may have been archived later, for another table.
    """
    names = ("image_half_width", "paired_image_half_width", "rank")
    kept = {
        name: getattr(stored, name)
        for name in names
        if None in (getattr(cell, name), getattr(stored, name))
    }
    return replace(cell, **kept), sum(value is not None for value in kept.values())


def _under_rules(path: Path, row: TableRow) -> dict[Rule, Mapping[str, float | None]]:
    """The row's values under those decision rules that can be computed again."""
    ruled, results = row.decisions, _results(path, row)
    if ruled is None or not results:
        return {}
    counts = read_counts(path.parent / COUNTS / ruled.counts) if ruled.counts else None
    whole = not any(result.scores.only_order for result in results)
    threshold = ruled.threshold if whole else None  # a threshold is a score
    return under_rules(results, shared_targets(results[0].path), threshold, counts)


def _results(path: Path, row: TableRow) -> list[Result]:
    """The row's runs that are archived with scores or their order; none where one is missing.

    A folder may hold a later run of the same plan, for another table: it has another key.
    """
    folders = [archived_folder(path, run.folder) for run in row.runs]
    if not all(map(has_order, folders)):
        return []
    results = [open_result(folder) for folder in folders]
    same = [str(result.meta.run) for result in results] == [run.key for run in row.runs]
    return results if same else []


def _values(
    path: Path, row: TableRow, columns: tuple[str, ...]
) -> tuple[Values | None, list[Record | None]]:
    """What the row's runs measured, from scores or else from kept values, and their records."""
    if not row.runs:
        return None, []
    results = _results(path, row)
    if results:
        records = [result.record for result in results]
        values = values_of(results, columns, shared_targets(results[0].path))
    else:
        kept = kept_runs(path, RUNS)
        runs = [kept[run.folder] for run in row.runs]
        records = [parse_record(run.record, f"{path}") for run in runs]
        values = Values(np.stack([np.stack([r.values[c] for c in columns], axis=1) for r in runs]))
    named = [(record.key, record.method.seed) for record in records if record]
    return (values if named == [(run.key, run.seed) for run in row.runs] else None), records


@cache
def shared_targets(folder: Path) -> Targets:
    """The targets of a run: one object for all on the same episodes, whose images have numbers."""
    found = targets_of([open_result(folder)])
    for known in _KNOWN:
        if known.support == found.support and np.array_equal(known.query, found.query):
            return known
    _KNOWN.append(found)
    return found


_KNOWN: list[Targets] = []

"""A reproduced table: measured values beside the published ones, and the files that show it.

Every number is computed from the values of single episodes, and, for intervals over images, from
what each query image does to them. `build_table` takes these from runs that are done;
`archive.check` takes them from `results/` and must come to the same text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.experiments.plan import PlannedRow
from mlfsic_bench.experiments.run import Done, trial_value
from mlfsic_bench.experiments.schema import Experiment
from mlfsic_bench.metrics.intervals import EpisodeImages, episode_images, image_interval
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.results.conditions import conditions_of
from mlfsic_bench.results.published import Published, is_counterpart
from mlfsic_bench.results.result import Result, Targets, open_result
from mlfsic_bench.results.table import Column, Table, to_markdown, to_text
from mlfsic_bench.results.targets import targets_of, targets_on
from mlfsic_bench.splits.names import MARK
from mlfsic_bench.text import csv_text, for_json, for_markdown

if TYPE_CHECKING:
    from mlfsic_bench.evaluation.inputs import ResourceCache
    from mlfsic_bench.evaluation.plan import RunPlan
    from mlfsic_bench.evaluation.record import Record

Float64 = npt.NDArray[np.float64]
KIND = "mlfsic-bench reproduced table"
# Decimals of an episode's value (a fraction) and of a number of a table (in per cent). Far more
# than a table shows, and few enough that the order of sums on another processor changes none.
VALUE_DECIMALS, CELL_DECIMALS = 10, 6
KINDS = ("measured", "seeds", "published", "difference", "paired")
# Sentences without which the numbers of a table would be taken for something else.
MARKS = ("SUBSET", MARK, "SMALL POOL", "Not on all episodes")


@dataclass(frozen=True)
class Cell:
    """One metric of one row, in per cent; None where there is none.

    Attributes
    ----------
    measured: mean over training seeds of the mean over episodes.
    half_width: of the 95 % Student-t interval over episodes, of the mean over seeds in each.
    image_half_width: of its 95 % interval over images; None where the images are not known.
    low, high: lowest and highest mean over episodes of a training seed.
    published, difference: the paper's value, and the measured one minus it where data set, protocol
        and backbone are the same (`results.published.is_counterpart`).
    paired, paired_half_width: measured minus the reference row's, paired over episodes.
    paired_image_half_width: of the 95 % interval over images of that difference.
    """

    measured: float | None = None
    half_width: float | None = None
    image_half_width: float | None = None
    low: float | None = None
    high: float | None = None
    published: float | None = None
    difference: float | None = None
    paired: float | None = None
    paired_half_width: float | None = None
    paired_image_half_width: float | None = None


@dataclass(frozen=True)
class RunName:
    """A run that a row rests on: its folder's name, its key, its training seed."""

    folder: str
    key: str
    seed: int


@dataclass(frozen=True)
class TrialRow:
    """A point of a row's grid: its settings, its run on val, the AP there in per cent.

    The values are None of a trial that failed.
    """

    settings: Mapping[str, str]
    folder: str
    macro_ap: float | None
    micro_ap: float | None
    chosen: bool


@dataclass(frozen=True)
class TableRow:
    """A row of the table.

    Attributes
    ----------
    name: as printed. method: what the method is called here.
    state: why nothing was measured; empty where something was.
    notes: what sets the row apart. published_row: its row in the published table, or None.
    runs: one for each seed. cells: metric -> cell, in the order of the columns.
    trials: of a tuned row, what was tried on val before there were runs.
    """

    name: str
    method: str
    state: str
    notes: tuple[str, ...]
    published_row: str | None
    runs: tuple[RunName, ...]
    cells: Mapping[str, Cell]
    trials: tuple[TrialRow, ...] = ()

    @property
    def title(self) -> str:
        """The name with the notes."""
        return f"{self.name} [{', '.join(self.notes)}]" if self.notes else self.name


@dataclass(frozen=True)
class ReproducedTable:
    """A table ready to be written.

    Attributes
    ----------
    published: id of the published table, or None. reference: name of the row that others are
        paired with, or None. caption: sentences.
    """

    title: str
    published: str | None
    reference: str | None
    caption: tuple[str, ...]
    rows: tuple[TableRow, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The metrics."""
        return tuple(self.rows[0].cells)


@dataclass(frozen=True, eq=False)
class Values:
    """What the runs of one row measured.

    Attributes
    ----------
    values: float64 [seeds, E, columns], fractions.
    influence: float64 [E, Q, columns], what each query does to them, mean over seeds; None where
        the scores are not at hand.
    targets: of these E episodes.
    """

    values: Float64
    influence: Float64 | None = None
    targets: Targets | None = None


def values_of(results: Sequence[Result], columns: Sequence[str], targets: Targets) -> Values:
    """What a row's results measured, one for each training seed, on the episodes of `targets`."""
    values, influences = [], []
    for result in results:
        found = result.values(columns, targets)
        values.append(np.stack([found[name] for name in columns], axis=1))
        found = result.influence(columns, targets)
        influences.append(np.stack([found[name] for name in columns], axis=2))
    # An influence is a difference of values: that of a mean over seeds is the mean.
    influence = np.asarray(np.mean(influences, axis=0), np.float64)
    return Values(np.stack(values).round(VALUE_DECIMALS), influence, targets)


class _Images:
    """The images of episodes, numbered once for each set of them."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], EpisodeImages] = {}

    def half_width(self, values: Float64, queries: Float64, targets: Targets) -> float:
        """Of the 95 % interval over images of the mean of values [E], queries [E, Q]."""
        key = (id(targets), count := len(values))
        if key not in self._found:
            own = targets.first(count)
            self._found[key] = episode_images(own.query, own.support, own.drawn_for)
        return image_interval(values, queries, self._found[key]).half_width


def cells_of(
    rows: Sequence[Values | None],
    columns: Sequence[str],
    published: Sequence[Mapping[str, float]],
    comparable: Sequence[bool],
    reference: int | None,
) -> list[dict[str, Cell]]:
    """The cells of every row.

    `published` has a row's published values, `comparable` whether a difference to them is made;
    `reference` is the number of the row that others are paired with.
    """
    images = _Images()
    paired_with = None if reference is None else rows[reference]
    return [
        {
            name: _cell(
                images, row, None if i == reference else paired_with, k, paper.get(name), same
            )
            for k, name in enumerate(columns)
        }
        for i, (row, paper, same) in enumerate(zip(rows, published, comparable, strict=True))
    ]


def _cell(
    images: _Images,
    own: Values | None,
    other: Values | None,
    k: int,
    paper: float | None,
    comparable: bool,
) -> Cell:
    from mlfsic_bench.metrics.intervals import t_interval

    if own is None:
        return Cell(published=paper)
    seeds = [t_interval(one)[0] for one in own.values[:, :, k]]
    each = own.values[:, :, k].mean(axis=0)
    measured = _per_cent(float(np.mean(seeds)))
    cell = Cell(
        measured=measured,
        half_width=_per_cent(t_interval(each)[1]),
        low=_per_cent(min(seeds)),
        high=_per_cent(max(seeds)),
        published=paper,
    )
    if comparable and paper is not None and measured is not None:
        cell = replace(cell, difference=round(measured - paper, CELL_DECIMALS))
    if own.influence is not None and own.targets is not None:
        width = images.half_width(each, own.influence[:, :, k], own.targets)
        cell = replace(cell, image_half_width=_per_cent(width))
    if other is None:
        return cell
    both = min(own.values.shape[1], other.values.shape[1])  # a row may be on the first only
    gap = each[:both] - other.values[:, :both, k].mean(axis=0)
    mean, half = t_interval(gap)
    cell = replace(cell, paired=_per_cent(mean), paired_half_width=_per_cent(half))
    if own.influence is not None and other.influence is not None and own.targets is not None:
        queries = (own.influence[:both] - other.influence[:both])[:, :, k]
        width = images.half_width(gap, queries, own.targets)
        cell = replace(cell, paired_image_half_width=_per_cent(width))
    return cell


def _per_cent(value: float) -> float | None:
    return None if np.isnan(value) else round(100.0 * float(value), CELL_DECIMALS)


def build_table(
    experiment: Experiment, planned: Sequence[PlannedRow], done: Done
) -> tuple[ReproducedTable, list[list[Result]]]:
    """(the table of the runs that are done, without its caption; the results of each row).

    Raises BenchError when runs are not on the same split and episodes.
    """
    literature = experiment.literature
    columns = tuple(experiment.columns)
    read = [_results(row, done) for row in planned]
    _check_same([result for results, _ in read for result in results])
    known: dict[str, Targets] = {}
    values: list[Values | None] = []
    for row, (results, _) in zip(planned, read, strict=True):
        if not results:
            values.append(None)
            continue
        episodes = str(results[0].meta.episodes)
        if episodes not in known:
            known[episodes] = _targets(row.runs[0].plan, results, done.opened)
        values.append(values_of(results, columns, known[episodes]))
    names = [row.spec.name for row in planned]
    reference = names.index(experiment.reference) if experiment.reference else None
    papers = [published_values(literature, row.spec.published) for row in planned]
    comparable = [
        can_differ(literature, row.spec.published, [r.record for r in results])
        for row, (results, _) in zip(planned, read, strict=True)
    ]
    rows = tuple(
        TableRow(
            row.spec.name,
            row.method.name,
            state,
            _notes(row, results),
            row.spec.published,
            tuple(RunName(r.path.name, str(r.meta.run), r.seed) for r in results),
            cells,
            _trials(row, done),
        )
        for row, (results, state), cells in zip(
            planned, read, cells_of(values, columns, papers, comparable, reference), strict=True
        )
    )
    table = ReproducedTable(experiment.title, experiment.published, experiment.reference, (), rows)
    return table, [results for results, _ in read]


def _targets(plan: RunPlan, results: Sequence[Result], opened: ResourceCache) -> Targets:
    """From the split that the runs were opened with, if that is still the one they were made on."""
    split, meta = opened.split(plan), results[0].meta
    return targets_on(split, meta) if split.hash == meta.split.hash else targets_of(results)


def published_values(table: Published | None, name: str | None) -> dict[str, float]:
    """Metric -> value, in per cent, of that row of the published table; empty for none."""
    rows = [row for row in (table.rows if table else ()) if row.name == name]
    return {str(key): value for key, value in rows[0].values.items()} if rows else {}


def can_differ(table: Published | None, name: str | None, records: Sequence[Record | None]) -> bool:
    """Whether a difference between these runs and the published row of that name is made."""
    if table is None or name is None:
        return False
    return all(record is not None and is_counterpart(record, table, name) for record in records)


def _results(row: PlannedRow, done: Done) -> tuple[list[Result], str]:
    """(the row's results, "") or ([], why there are none)."""
    if row.not_run:
        return [], f"not run: {row.not_run}"
    of_row = row.runs or tuple(one.run for one in row.trials)
    why = [done.failed[run.folder] for run in of_row if run.folder in done.failed]
    if why:
        return [], f"failed: {why[0]}"
    if not row.runs or any(run.folder not in done.finished for run in row.runs):
        return [], "not run: left out by --only"
    return [open_result(run.folder) for run in row.runs], ""


def _trials(row: PlannedRow, done: Done) -> tuple[TrialRow, ...]:
    found = []
    for i, trial in enumerate(row.trials):
        folder, known = trial.run.folder, trial_value(trial, done) is not None
        values = read_record(folder).metrics if known else {}
        macro, micro = (
            _per_cent(values[name].mean or 0.0) if name in values else None
            for name in ("macro_ap", "micro_ap")
        )
        found.append(TrialRow(trial.settings, folder.name, macro, micro, i == row.chosen))
    return tuple(found)


def _notes(row: PlannedRow, runs: Sequence[Result]) -> tuple[str, ...]:
    notes = [] if row.spec.published else ["not in the paper"]
    if runs:
        episodes, record = runs[0].meta.episodes, runs[0].record
        if episodes.count < episodes.total:
            notes.append(f"first {episodes.count} of {episodes.total} episodes")
        if record and record.base_images:
            notes.append(f"trained on {record.base_images.text}")
        trained = bool(record and record.features and record.features.mode == "end-to-end")
        network = row.runs[0].plan.network
        if row.spec.published and network != row.spec.backbone:
            notes.append(f"{network} for {row.spec.backbone}")
        if trained:
            notes.append("backbone trained")
        elif row.spec.published and row.method.trains:
            notes.append("backbone frozen")
    notes += ["transductive"] if row.method.transductive else []
    return tuple(notes)


def _check_same(runs: Sequence[Result]) -> None:
    """BenchError unless all are on one split, and runs of one K on the same episodes."""
    seen: dict[object, str] = {}
    for run in runs:
        conditions, protocol = conditions_of(run), run.meta.episodes.drawn_by
        for kind, of in (("content of the split", None), ("set of episodes", protocol)):
            expected = seen.setdefault((kind, of), conditions[kind])
            if conditions[kind] != expected:
                raise BenchError(
                    f"{run.path} was not run on the {kind} of the table's other runs",
                    expected=expected,
                    found=conditions[kind],
                    remedy="use another --out: the data have changed since that run was made",
                )


def head(column: str) -> str:
    """`micro_ap` -> `micro AP`."""
    metric = METRICS[column]
    return f"{metric.average} {metric.short}".strip()


def render_terminal(table: ReproducedTable, width: int | None = None) -> str:
    """The table for a terminal of `width` places; a line for each kind of value of a row."""
    return to_text([_shown(table)], width=width)


def render_markdown(table: ReproducedTable) -> str:
    """A GitHub-flavoured Markdown table, its caption below it."""
    shown = [replace(_shown(table), title=""), *_tried(table)]
    return f"# {for_markdown(table.title)}\n\n" + to_markdown(shown)


def _shown(table: ReproducedTable) -> Table:
    columns = [Column("Row", is_text=True), Column("", is_text=True)]
    columns += [Column(METRICS[name].short, METRICS[name].average) for name in table.columns]
    rows: list[tuple[str, ...] | None] = []
    for row in table.rows:
        rows += [None] if rows else []
        for i, (kind, cells) in enumerate(row_lines(row)):
            rows.append(("" if i else row.title, kind, *cells))
    return Table(tuple(columns), tuple(rows), table.title, (*table.caption, *_states(table)))


def _tried(table: ReproducedTable) -> list[Table]:
    """What was tried on val, of the rows that had a choice; nothing where none had."""
    rows: list[tuple[str, ...] | None] = []
    for row in table.rows:
        if len(row.trials) < 2:
            continue
        rows += [None] if rows else []
        for i, trial in enumerate(row.trials):
            told = ", ".join(f"{name}={value}" for name, value in trial.settings.items())
            values = [
                "failed" if one is None else f"{one:.2f}"
                for one in (trial.macro_ap, trial.micro_ap)
            ]
            rows.append(("" if i else row.name, told, *values, "chosen" if trial.chosen else ""))
    if not rows:
        return []
    columns = (
        Column("Row", is_text=True),
        Column("Trial", is_text=True),
        Column("macro AP"),
        Column("micro AP"),
        Column("", is_text=True),
    )
    told = (
        "On the val episodes, training seed 0. The highest macro-AP was chosen, then novel was run."
    )
    return [Table(columns, tuple(rows), "Trials on val", (told,))]


def render_csv(table: ReproducedTable) -> str:
    """A line for each row and metric; in the last column what marks the table as partial."""
    fields = list(Cell.__dataclass_fields__)
    lines: list[list[object]] = [
        ["row", "method", "notes", "state", "metric", "seeds", *fields, "marks"]
    ]
    marks = " ".join(line for line in table.caption if line.startswith(MARKS))
    for row in table.rows:
        for column, cell in row.cells.items():
            texts = [row.name, row.method, "; ".join(row.notes), row.state, column]
            lines.append([*texts, len(row.runs), *asdict(cell).values(), marks])
    return csv_text(lines)


def render_json(table: ReproducedTable) -> str:
    """Everything, with folder and key of each run; a line for each row.

    `half_width` and `paired_half_width` are over episodes, those with `image` over images.
    """
    value = asdict(table)
    for row in value["rows"]:  # tables without trials stay as they were
        if not row["trials"]:
            del row["trials"]
    return json_lines({"schema_version": 1, "kind": KIND, **value}, "rows")


def json_lines(value: dict[str, Any], key: str) -> str:
    """`value` as JSON, with a line for each element of the list at `key`."""
    rest = {name: one for name, one in value.items() if name != key}
    top = for_json(rest).removesuffix("\n}")
    lines = (json.dumps(one, allow_nan=False).replace("\x7f", "\\u007f") for one in value[key])
    return f'{top},\n  "{key}": [\n    ' + ",\n    ".join(lines) + "\n  ]\n}\n"


RENDERERS = {".md": render_markdown, ".csv": render_csv, ".json": render_json}


def read_table(path: Path) -> ReproducedTable | None:
    """The table in a JSON file that `render_json` wrote; None for another kind of file."""
    value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if value.get("kind") != KIND:
        return None
    return TypeAdapter(ReproducedTable).validate_python(value)


def row_lines(row: TableRow) -> list[tuple[str, list[str]]]:
    """(kind, a text for each column) for every line that has something to say."""
    state = row.state.partition(":")[0]
    names = {"measured": state or "measured", "seeds": f"{len(row.runs)} seeds"}
    lines = []
    for kind in KINDS:
        cells = [cell_text(row, column, kind) for column in row.cells]
        if any(cells) or kind == "measured":
            texts = ["-" if not text or text == state else text for text in cells]
            lines.append((names.get(kind, kind), texts))
    return lines


def cell_text(row: TableRow, column: str, kind: str) -> str:
    """What stands in a cell for one of KINDS, ± over images; empty where there is nothing."""
    cell = row.cells[column]
    if kind == "seeds":
        several = len(row.runs) > 1 and cell.low is not None
        return f"{cell.low:.2f}–{cell.high:.2f}" if several else ""
    number: float | None = getattr(cell, kind)
    if number is None:
        return row.state.partition(":")[0] if kind == "measured" else ""
    text = f"{number:+.2f}" if kind in ("difference", "paired") else f"{number:.2f}"
    if kind not in ("measured", "paired"):
        return text
    half = cell.paired_image_half_width if kind == "paired" else cell.image_half_width
    return text if half is None else f"{text} ± {half:.2f}"


def _states(table: ReproducedTable) -> list[str]:
    """Why rows have no measured values, and how many seeds the others have."""
    lines = [f"{row.name}: {row.state}." for row in table.rows if row.state]
    counts: dict[int, list[str]] = {}
    for row in table.rows:
        if row.runs:
            counts.setdefault(len(row.runs), []).append(row.name)
    told = [f"{n} for {', '.join(names)}" for n, names in sorted(counts.items())]
    return lines + ([f"Training seeds: {'; '.join(told)}."] if told else [])

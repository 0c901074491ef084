"""A reproduced table: what was measured, beside the published values (`render` writes it).

Every number is computed from the values of single episodes, and, for intervals over images, from
what each query image does to them. `build_table` takes these from runs that are done;
`archive.check` takes them from `results/` and must come to the same text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.experiments.plan import PlannedRow
from mlfsic_bench.experiments.run import trial_record
from mlfsic_bench.experiments.schema import Experiment
from mlfsic_bench.launchers.runs import Done
from mlfsic_bench.metrics.decisions import Rule
from mlfsic_bench.metrics.intervals import (
    EpisodeImages,
    differences,
    episode_images,
    image_interval,
    p_of_interval,
    t_interval,
    tied_ranks,
)
from mlfsic_bench.results.conditions import conditions_of
from mlfsic_bench.results.published import Published, is_counterpart
from mlfsic_bench.results.result import Result, Targets, open_result
from mlfsic_bench.results.targets import targets_of, targets_on

if TYPE_CHECKING:
    from mlfsic_bench.evaluation.plan import RunPlan
    from mlfsic_bench.evaluation.record import Record
    from mlfsic_bench.evaluation.resources import ResourceCache

Float64 = npt.NDArray[np.float64]
# Decimals of an episode's value (a fraction) and of a number of a table (in per cent). Far more
# than a table shows, and few enough that the order of sums on another processor changes none.
VALUE_DECIMALS, CELL_DECIMALS = 10, 6


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
    rank: 1 + the number of rows significantly above it (`ranks_of`); None but in a tuned table.
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
    rank: int | None = None


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
class RuledRow:
    """A row under decision rules.

    Attributes
    ----------
    threshold: of the rule `val`, chosen on the chosen trial's scores; None where there is none.
    counts: the file with the label counts of the rule `count`, or None.
    values: rule -> metric -> per cent.
    """

    threshold: float | None
    counts: str | None
    values: Mapping[Rule, Mapping[str, float | None]]


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
    decisions: of a row of a tuned table, its values under decision rules.
    """

    name: str
    method: str
    state: str
    notes: tuple[str, ...]
    published_row: str | None
    runs: tuple[RunName, ...]
    cells: Mapping[str, Cell]
    trials: tuple[TrialRow, ...] = ()
    decisions: RuledRow | None = None

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

    @property
    def ranked(self) -> bool:
        """Whether its rows have ranks, as those of a tuned table."""
        return any(row.trials or any(c.rank for c in row.cells.values()) for row in self.rows)


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
        """Of the 95 % interval over images of the mean of values [E], influence [E, Q]."""
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
    ranked: bool = False,
) -> list[dict[str, Cell]]:
    """The cells of every row.

    `published` has a row's published values, `comparable` whether a difference to them is made;
    `reference` is the number of the row that others are paired with. `ranked` adds ranks where
    what the queries do is known of all rows that have values.
    """
    images = _Images()
    paired_with = None if reference is None else rows[reference]
    cells = [
        {
            name: _cell(
                images, row, None if i == reference else paired_with, k, paper.get(name), same
            )
            for k, name in enumerate(columns)
        }
        for i, (row, paper, same) in enumerate(zip(rows, published, comparable, strict=True))
    ]
    if ranked:
        for k, name in enumerate(columns):
            for i, rank in _ranks(images, rows, k).items():
                cells[i][name] = replace(cells[i][name], rank=rank)
    return cells


def _ranks(images: _Images, rows: Sequence[Values | None], k: int) -> dict[int, int]:
    """Row number -> its rank by the mean of metric k; nothing where an influence is not known.

    Every two rows are compared by the interval over images of their paired difference, over the
    episodes that both have (`intervals.tied_ranks`).
    """
    known = {i: row for i, row in enumerate(rows) if row is not None}
    if any(row.influence is None or row.targets is None for row in known.values()):
        return {}
    each = [row.values[:, :, k].mean(axis=0) for row in known.values()]
    queries = [row.influence[:, :, k] for row in known.values() if row.influence is not None]
    targets = [row.targets for row in known.values() if row.targets is not None]
    pairs = {}
    for a, b in combinations(range(len(each)), 2):
        both = min(len(each[a]), len(each[b]))
        gap = differences(each[a][:both], each[b][:both])
        width = images.half_width(gap, queries[a][:both] - queries[b][:both], targets[a])
        mean = t_interval(gap)[0]
        pairs[a, b] = mean, p_of_interval(mean, width)
    return dict(zip(known, tied_ranks(len(each), pairs), strict=True))


def _cell(
    images: _Images,
    own: Values | None,
    other: Values | None,
    k: int,
    paper: float | None,
    comparable: bool,
) -> Cell:
    if own is None:
        return Cell(published=paper)
    seeds = [t_interval(one)[0] for one in own.values[:, :, k]]
    each = own.values[:, :, k].mean(axis=0)
    measured = per_cent(float(np.mean(seeds)))
    cell = Cell(
        measured=measured,
        half_width=per_cent(t_interval(each)[1]),
        low=per_cent(min(seeds)),
        high=per_cent(max(seeds)),
        published=paper,
    )
    if comparable and paper is not None and measured is not None:
        cell = replace(cell, difference=round(measured - paper, CELL_DECIMALS))
    if own.influence is not None and own.targets is not None:
        width = images.half_width(each, own.influence[:, :, k], own.targets)
        cell = replace(cell, image_half_width=per_cent(width))
    if other is None:
        return cell
    both = min(own.values.shape[1], other.values.shape[1])  # a row may be on the first only
    gap = each[:both] - other.values[:, :both, k].mean(axis=0)
    mean, half = t_interval(gap)
    cell = replace(cell, paired=per_cent(mean), paired_half_width=per_cent(half))
    if own.influence is not None and other.influence is not None and own.targets is not None:
        queries = (own.influence[:both] - other.influence[:both])[:, :, k]
        width = images.half_width(gap, queries, own.targets)
        cell = replace(cell, paired_image_half_width=per_cent(width))
    return cell


def per_cent(value: float) -> float | None:
    """A fraction as a number of a table; None for NaN."""
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
            _notes(row, results, literature),
            row.spec.published,
            tuple(RunName(r.path.name, str(r.meta.run), r.seed) for r in results),
            cells,
            _trials(row, done),
        )
        for row, (results, state), cells in zip(
            planned,
            read,
            cells_of(values, columns, papers, comparable, reference, experiment.tuned),
            strict=True,
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
    places = [done.place(run.folder) for run in row.runs]
    if not places or None in places:
        return [], "not run: left out by --only"
    return [open_result(place) for place in places if place], ""


def _trials(row: PlannedRow, done: Done) -> tuple[TrialRow, ...]:
    found = []
    for i, trial in enumerate(row.trials):
        record = trial_record(trial, done)
        means = [record.metrics[name].mean if record else None for name in ("macro_ap", "micro_ap")]
        macro, micro = (None if mean is None else per_cent(mean) for mean in means)
        name = trial.run.folder.name
        found.append(TrialRow(trial.settings, name, macro, micro, i == row.chosen))
    return tuple(found)


def _notes(
    row: PlannedRow, runs: Sequence[Result], literature: Published | None
) -> tuple[str, ...]:
    notes = ["not in the paper"] if literature and not row.spec.published else []
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

"""A reproduced table: ours, from stored scores, beside the published figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlfsic_bench.errors import BenchError
from mlfsic_bench.experiments.engine import Done
from mlfsic_bench.experiments.literature import published_of
from mlfsic_bench.experiments.over_images import Float64, Influence, TableImages
from mlfsic_bench.experiments.plan import PlannedRow
from mlfsic_bench.experiments.schema import Experiment
from mlfsic_bench.results.published import Published
from mlfsic_bench.results.runs import FinishedRun, read_run


@dataclass(frozen=True)
class Cell:
    """One metric of one row, in per cent; None where there is none.

    Attributes
    ----------
    ours: mean over training seeds of the mean over episodes.
    half_width: of the 95 % Student-t interval over episodes, of the mean over seeds in each.
    image_half_width: of its 95 % interval over images; None where the images are not known.
    low, high: lowest and highest mean over episodes of a training seed.
    published, difference: the paper's figure, and ours minus it.
    paired, paired_half_width: ours minus the reference row's, paired over episodes.
    paired_image_half_width: of the 95 % interval over images of that difference.
    """

    ours: float | None = None
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
class ResultRow:
    """A row of the table.

    Attributes
    ----------
    planned: the row as planned. state: why there are no figures of ours; empty where there are.
    notes: what sets the row apart. runs: its runs, one for each seed. cells: one for each column.
    """

    planned: PlannedRow
    state: str
    notes: tuple[str, ...]
    runs: tuple[FinishedRun, ...]
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """As printed."""
        return self.planned.spec.name


@dataclass(frozen=True)
class Result:
    """A table ready to be rendered, without its caption.

    Attributes
    ----------
    experiment, rows: the table. published: the figures beside it.
    no_images: why there are no intervals over images; empty where there are.
    """

    experiment: Experiment
    published: Published | None
    rows: tuple[ResultRow, ...]
    no_images: str = ""

    def runs(self) -> list[FinishedRun]:
        """All runs of the table."""
        return [run for row in self.rows for run in row.runs]


@dataclass(frozen=True, eq=False)
class _Series:
    """A row's values, float64 [seeds, E, columns], fractions, and what its images do to them."""

    values: Float64
    influence: Influence | None


def build_result(experiment: Experiment, planned: Sequence[PlannedRow], done: Done) -> Result:
    """The table of the runs that are done.

    Raises BenchError when runs are not on the same split and episodes.
    """
    literature = published_of(experiment)
    columns = tuple(experiment.columns)
    read = [_runs(row, done) for row in planned]
    _check_same([run for runs, _ in read for run in runs])
    images = TableImages(done.opened)
    found, no_images = _influences(images, planned, [runs for runs, _ in read], columns)
    series = [
        _Series(_per_episode(runs, columns), found[i]) if runs else None
        for i, (runs, _) in enumerate(read)
    ]
    names = [row.spec.name for row in planned]
    reference = names.index(experiment.reference) if experiment.reference else None
    rows = []
    for i, row in enumerate(planned):
        runs, state = read[i]
        cells = []
        for k, column in enumerate(columns):
            paper = _published(literature, row.spec.published, column)
            other = None if reference in (None, i) else series[reference or 0]
            cells.append(_cell(images, series[i], other, k, paper))
        rows.append(ResultRow(row, state, _notes(row, runs), tuple(runs), tuple(cells)))
    return Result(experiment, literature, tuple(rows), no_images)


def _influences(
    images: TableImages,
    planned: Sequence[PlannedRow],
    read: Sequence[Sequence[FinishedRun]],
    columns: tuple[str, ...],
) -> tuple[list[Influence | None], str]:
    """(each row's, "") or (None for all rows, why): a table has one kind of interval."""
    found: list[Influence | None] = []
    for row, runs in zip(planned, read, strict=True):
        try:
            found.append(images.influence(row.runs[0].plan, runs, columns) if runs else None)
        except BenchError as error:
            return [None for _ in planned], error.what
    return found, ""


def _runs(row: PlannedRow, done: Done) -> tuple[list[FinishedRun], str]:
    """(the row's runs, "") or ([], why there are none)."""
    if row.not_run:
        return [], f"not run: {row.not_run}"
    why = [done.failed[run.folder] for run in row.runs if run.folder in done.failed]
    if why:
        return [], f"failed: {why[0]}"
    if any(run.folder not in done.finished for run in row.runs):
        return [], "not run: left out by --only"
    return [read_run(run.folder) for run in row.runs], ""


def _per_episode(runs: Sequence[FinishedRun], columns: tuple[str, ...]) -> Float64:
    """float64 [seeds, E, columns], fractions."""
    values = [run.values(columns) for run in runs]
    return np.stack([np.stack([value[c] for c in columns], axis=1) for value in values])


def _cell(
    images: TableImages,
    own: _Series | None,
    other: _Series | None,
    k: int,
    paper: float | None,
) -> Cell:
    from mlfsic_bench.metrics.intervals import t_interval

    if own is None:
        return Cell(published=paper)
    seeds = [t_interval(one)[0] for one in own.values[:, :, k]]
    per_episode = own.values[:, :, k].mean(axis=0)
    _, half = t_interval(per_episode)
    ours = _per_cent(float(np.mean(seeds)))
    over_images = None
    if own.influence is not None:
        queries, truth = own.influence.queries[:, :, k], own.influence.truth
        over_images = _per_cent(images.half_width(per_episode, queries, truth))
    paired, paired_half, paired_images = None, None, None
    if other is not None:
        # A row may be on the first episodes only.
        both = min(own.values.shape[1], other.values.shape[1])
        gap = per_episode[:both] - other.values[:, :both, k].mean(axis=0)
        paired, paired_half = map(_per_cent, t_interval(gap))
        if own.influence is not None and other.influence is not None:
            queries = (own.influence.queries[:both] - other.influence.queries[:both])[:, :, k]
            paired_images = _per_cent(images.half_width(gap, queries, own.influence.truth))
    return Cell(
        ours=ours,
        half_width=_per_cent(half),
        image_half_width=over_images,
        low=_per_cent(min(seeds)),
        high=_per_cent(max(seeds)),
        published=paper,
        difference=None if paper is None or ours is None else ours - paper,
        paired=paired,
        paired_half_width=paired_half,
        paired_image_half_width=paired_images,
    )


def _per_cent(value: float) -> float | None:
    return None if np.isnan(value) else 100.0 * float(value)


def _published(table: Published | None, name: str | None, column: str) -> float | None:
    for row in table.rows if table else ():
        if row.name == name:
            return {str(key): value for key, value in row.values.items()}.get(column)
    return None


def _notes(row: PlannedRow, runs: Sequence[FinishedRun]) -> tuple[str, ...]:
    notes = [] if row.spec.published else ["not in the paper"]
    if runs:
        episodes = runs[0].record.episodes
        if episodes.count < episodes.total:
            notes.append(f"first {episodes.count} of {episodes.total} episodes")
        if runs[0].record.features and runs[0].record.features.mode == "end-to-end":
            notes.append("backbone trained")
    return tuple(notes)


def _check_same(runs: Sequence[FinishedRun]) -> None:
    """BenchError unless all are on one split, and runs of one K on the same episodes."""
    seen: dict[object, FinishedRun] = {}
    for run in runs:
        record = run.record
        for kind, key, value in (
            ("split", "split", record.split.hash),
            ("episodes", record.episodes.drawn_by, record.episodes.hash),
        ):
            first = seen.setdefault(key, run).record
            expected = first.split.hash if kind == "split" else first.episodes.hash
            if value != expected:
                raise BenchError(
                    f"{run.folder} was not run on the {kind} of the table's other runs",
                    expected=f"{kind} {expected[:12]}",
                    found=value[:12],
                    remedy="use another --out: the data have changed since that run was made",
                )

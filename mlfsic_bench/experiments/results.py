"""A reproduced table: ours, from stored scores, beside the published figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlfsic_bench.errors import BenchError
from mlfsic_bench.experiments.engine import Done
from mlfsic_bench.experiments.literature import published_of
from mlfsic_bench.experiments.plan import PlannedRow
from mlfsic_bench.experiments.schema import Experiment
from mlfsic_bench.report.published import Published
from mlfsic_bench.report.runs import FinishedRun, read_run


@dataclass(frozen=True)
class Cell:
    """One metric of one row, in per cent; None where there is none.

    Attributes
    ----------
    ours: mean over training seeds of the mean over episodes.
    half_width: of the 95 % Student-t interval over episodes, of the mean over seeds in each.
    low, high: lowest and highest mean over episodes of a training seed.
    published, difference: the paper's figure, and ours minus it.
    paired, paired_half_width: ours minus the reference row's, paired over episodes.
    """

    ours: float | None = None
    half_width: float | None = None
    low: float | None = None
    high: float | None = None
    published: float | None = None
    difference: float | None = None
    paired: float | None = None
    paired_half_width: float | None = None


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
    """A table ready to be rendered, without its caption."""

    experiment: Experiment
    published: Published | None
    rows: tuple[ResultRow, ...]

    def runs(self) -> list[FinishedRun]:
        """All runs of the table."""
        return [run for row in self.rows for run in row.runs]


def build_result(experiment: Experiment, planned: Sequence[PlannedRow], done: Done) -> Result:
    """The table of the runs that are done.

    Raises BenchError when runs are not on the same split and episodes.
    """
    literature = published_of(experiment)
    columns = tuple(experiment.columns)
    read = [_runs(row, done) for row in planned]
    _check_same([run for runs, _ in read for run in runs])
    series = [_per_episode(runs, columns) for runs, _ in read]
    names = [row.spec.name for row in planned]
    reference = names.index(experiment.reference) if experiment.reference else None
    rows = []
    for i, row in enumerate(planned):
        runs, state = read[i]
        cells = []
        for k, column in enumerate(columns):
            paper = _published(literature, row.spec.published, column)
            other = None if reference in (None, i) else series[reference or 0]
            cells.append(_cell(series[i], other, k, paper))
        rows.append(ResultRow(row, state, _notes(row, runs), tuple(runs), tuple(cells)))
    return Result(experiment, literature, tuple(rows))


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


def _per_episode(
    runs: Sequence[FinishedRun], columns: tuple[str, ...]
) -> npt.NDArray[np.float64] | None:
    """float64 [seeds, E, columns], fractions; None without runs."""
    if not runs:
        return None
    values = [run.values(columns) for run in runs]
    return np.stack([np.stack([value[c] for c in columns], axis=1) for value in values])


def _cell(
    own: npt.NDArray[np.float64] | None,
    other: npt.NDArray[np.float64] | None,
    k: int,
    paper: float | None,
) -> Cell:
    from mlfsic_bench.metrics.intervals import t_interval

    if own is None:
        return Cell(published=paper)
    seeds = [t_interval(one)[0] for one in own[:, :, k]]
    per_episode = own[:, :, k].mean(axis=0)
    _, half = t_interval(per_episode)
    ours = _per_cent(float(np.mean(seeds)))
    paired, paired_half = None, None
    if other is not None:
        both = min(own.shape[1], other.shape[1])  # a row may be on the first episodes only
        gap = per_episode[:both] - other[:, :both, k].mean(axis=0)
        paired, paired_half = map(_per_cent, t_interval(gap))
    return Cell(
        ours=ours,
        half_width=_per_cent(half),
        low=_per_cent(min(seeds)),
        high=_per_cent(max(seeds)),
        published=paper,
        difference=None if paper is None or ours is None else ours - paper,
        paired=paired,
        paired_half_width=paired_half,
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
            ("episodes", ("episodes", record.episodes.shots), record.episodes.hash),
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

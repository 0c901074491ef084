"""The paper's table: a row for each run, a column for each metric, means over episodes.

Every figure is computed from stored scores and answers. F1 is the harmonic mean of each episode's
precision and recall; means are over episodes (docs/methodology.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlfsic_bench.errors import BenchError
from mlfsic_bench.metrics.registry import columns
from mlfsic_bench.results.marks import (
    SUBSET,
    changed,
    count_labels,
    failed_audits,
    off_defaults,
)
from mlfsic_bench.results.published import Published, PublishedRow, published_for
from mlfsic_bench.results.runs import FinishedRun, read_run
from mlfsic_bench.results.table_names import marks_of, names_of


@dataclass(frozen=True)
class Cell:
    """A mean in per cent and the half width of its 95 % interval; None where there is none."""

    mean: float | None
    half_width: float | None


@dataclass(frozen=True)
class Row:
    """One row: name, notes that stand beside it, cells in the order of the columns, its origin."""

    name: str
    notes: tuple[str, ...]
    cells: tuple[Cell, ...]
    published: bool


@dataclass(frozen=True)
class Table:
    """A table ready to be rendered; `caption` holds sentences, `columns` names of metrics."""

    caption: tuple[str, ...]
    rows: tuple[Row, ...]
    columns: tuple[str, ...]


def build_table(
    folders: Sequence[Path], *, published: bool = False, intervals: bool = True
) -> Table:
    """The table of the runs in `folders`, in that order.

    Raises BenchError for runs on different splits or episodes, for a run named twice, and when
    `published` rows are asked for a split the literature has no table for.
    """
    runs = [read_run(folder) for folder in folders]
    _check_same(runs)
    literature = _literature(runs[0]) if published else None
    names, shown = names_of(runs), columns()
    rows = [
        _row(run, name, intervals, mark, shown)
        for run, name, mark in zip(runs, names, marks_of(runs), strict=True)
    ]
    if literature:
        rows += [_published_row(row, shown) for row in literature.rows]
    return Table(tuple(_caption(runs, names, literature, intervals)), tuple(rows), shown)


def chance_level(run: FinishedRun) -> tuple[float, float]:
    """(micro-AP, macro-AP) expected of a random ranking of these queries, as fractions."""
    from mlfsic_bench.metrics.chance import chance_levels

    return chance_levels(run.answers.targets)


def labels_of(run: FinishedRun, noun: str = "labels") -> str:
    """How many novel labels the run had, and which, where some have left the part."""
    record = run.record
    return count_labels(
        record.split.id,
        run.scores.meta.labels,
        subset=record.split.subset,
        of_record=record.subset,
        noun=noun,
    )


def _check_same(runs: Sequence[FinishedRun]) -> None:
    if not runs:
        raise BenchError(
            "a table needs a run",
            expected="at least one folder that mlfsic-bench run wrote",
            found="none",
            remedy="name the runs' folders",
        )
    first, seen = runs[0], set[str]()
    for run in runs:
        for kind, a, b in (
            ("split", first.record.split, run.record.split),
            ("episodes", first.record.episodes, run.record.episodes),
        ):
            if a.hash != b.hash:
                raise BenchError(
                    f"{run.folder} was not run on the {kind} of {first.folder}",
                    expected=f"{kind} {a.hash[:12]} ({first.record.split.id})",
                    found=f"{kind} {b.hash[:12]} ({run.record.split.id})",
                    remedy="make a table for each; numbers from different ones can't be compared",
                )
        if run.record.key in seen:
            raise BenchError(
                f"{run.folder} is the same run as one named before",
                expected="each run once",
                found=f"key {run.record.key[:12]} twice",
                remedy="name it once",
            )
        seen.add(run.record.key)
    counts = {run.record.episodes.count for run in runs}
    if len(counts) > 1:
        raise BenchError(
            "the runs differ in the number of episodes",
            expected="the same episodes in every run",
            found=f"runs on the first {', '.join(str(n) for n in sorted(counts))} episodes",
            remedy="run the same number of episodes, or make a table for each",
        )


def _row(
    run: FinishedRun, name: str, intervals: bool, marks: list[str], shown: tuple[str, ...]
) -> Row:
    from mlfsic_bench.metrics.intervals import t_interval

    cells = []
    for values in run.values(shown).values():
        mean, half = t_interval(values)
        cells.append(Cell(_per_cent(mean), _per_cent(half) if intervals else None))
    episodes = run.record.episodes
    notes = ["subset"] if run.record.split.subset else []
    if episodes.count < episodes.total:
        over = "runs" if episodes.shots else "episodes"
        notes.append(f"first {episodes.count} of {episodes.total} {over}")
    return Row(name, tuple(notes + marks), tuple(cells), False)


def _published_row(row: PublishedRow, shown: tuple[str, ...]) -> Row:
    cells = tuple(Cell(row.values.get(column), None) for column in shown)
    return Row(row.name, ("published", row.backbone), cells, True)


def _per_cent(value: float) -> float | None:
    return None if np.isnan(value) else 100.0 * float(value)


def _literature(run: FinishedRun) -> Published:
    split_id = run.record.split.id
    table = published_for(split_id)
    if table is None:
        raise BenchError(
            f"there are no published numbers for split {split_id!r}",
            expected="a split with the labels of the paper's COCO or VOC experiments",
            found=split_id,
            remedy="leave --published out",
        )
    return table


def _caption(
    runs: Sequence[FinishedRun],
    names: Sequence[str],
    literature: Published | None,
    intervals: bool,
) -> list[str]:
    record = runs[0].record
    episodes = record.episodes
    backbones = sorted({r.record.features.backbone for r in runs if r.record.features})
    words = sorted({r.record.words.name for r in runs if r.record.words})
    micro, macro = chance_level(runs[0])
    over = "runs" if episodes.shots else "episodes"
    what = f"{over} with K = {episodes.shots}" if episodes.shots else over
    if episodes.shots:
        what += f", each tested on the same {runs[0].answers.targets.shape[1]:,} images"
    labels = labels_of(runs[0])
    lines = [
        f"Split {record.split.id} ({record.split.hash[:12]}), novel part: {labels}; "
        f"protocol {episodes.protocol}; "
        f"{episodes.count} {what} ({episodes.hash[:12]}).",
        f"Backbone: {', '.join(backbones) or 'none'}; words: {', '.join(words) or 'none'}.",
        f"Means over {over} in per cent; F1 from each {over[:-1]}'s own P and R.",
    ]
    cards = [run.record.method for run in runs]
    lines += off_defaults((card.name, changed(card)) for card in cards)
    if intervals:
        lines.append(f"± is the half width of a 95 % Student-t interval over {over}.")
    lines.append(
        f"Chance (random ranking): micro-AP {100 * micro:.2f}, macro-AP {100 * macro:.2f}."
    )
    if record.split.subset:
        lines.append(SUBSET)
    lines += failed_audits(zip(names, (run.record for run in runs), strict=True))
    cuts = {r.record.base_images.of for r in runs if r.record.base_images}
    if cuts:
        lines.append(
            "LEARNING CURVE: rows with base_images=N were trained on the first N of "
            f"{max(cuts):,} base images only; not comparable to full runs."
        )
    if episodes.count < episodes.total:
        lines.append(f"Only the first {episodes.count} of {episodes.total} {over} were run.")
    if literature:
        source = literature.source
        lines.append(
            f"Rows marked `published` are copied from {source.venue} {source.year}, Table "
            f"{literature.table} ({source.authors.split(',')[0]} et al.), on {literature.dataset}: "
            "other episodes, and other images or backbone unless said otherwise; not comparable "
            "as they stand."
        )
    return lines

"""The table for a paper: a row for each method, a column for each metric, a table per split.

Results are grouped by their conditions (split, share of its images, episodes, labels), training
seeds are averaged into one row, and values are means over episodes in per cent, recomputed from
scores. The best of a column is marked, and what lies within the interval of its difference to the
best is marked as a tie. Hashes stand in the caption's last line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from mlfsic_bench.analysis.estimates import Float64
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.metrics.intervals import image_interval, paired, t_interval
from mlfsic_bench.metrics.registry import METRICS, chance_levels, check_names
from mlfsic_bench.metrics.registry import columns as table_columns
from mlfsic_bench.results.captions import conditions_title, doubts, limits_of, small_pools
from mlfsic_bench.results.conditions import (
    ResultGroup,
    Seeds,
    by_conditions,
    group_results,
    without_hashes,
)
from mlfsic_bench.results.published import Published, published_for
from mlfsic_bench.results.references import bibtex_of, keys_of, printed_name
from mlfsic_bench.results.result import Result, result_or_status
from mlfsic_bench.results.table import Cell, Column, Table, to_html, to_latex, to_markdown, to_text
from mlfsic_bench.results.targets import SplitPlace, note_on
from mlfsic_bench.text import csv_text, for_json, for_terminal

Interval = Literal["images", "episodes", "seeds", "none"]
INTERVALS: dict[str, str] = {
    "images": "± is the half width of a 95 % interval over images (docs/metrics.md).",
    "episodes": "± is the half width of a 95 % Student-t interval over episodes: these images, "
    "other episodes.",
    "seeds": "± is the half width of a 95 % Student-t interval over training seeds; rows of one "
    "seed have none.",
    "none": "",
}


@dataclass(frozen=True)
class Value:
    """A mean in per cent and the half width of its interval; None where there is none."""

    mean: float | None
    half_width: float | None = None
    best: bool = False
    tie: bool = False


@dataclass(frozen=True)
class Row:
    """A method's values in the order of the columns, or those of a published row.

    `notes` say what differs among rows, `cite` are keys of BibTeX entries.
    """

    name: str
    values: tuple[Value, ...]
    notes: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    cite: tuple[str, ...] = ()
    published: bool = False


@dataclass(frozen=True)
class PaperTable:
    """The rows of one split and protocol; `columns` are names of metrics, `episodes` a number."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    caption: tuple[str, ...]
    episodes: int = 0


def paper_tables(
    paths: Sequence[Path],
    place: SplitPlace | None = None,
    *,
    columns: Sequence[str] | None = None,
    seeds: Seeds = "mean",
    interval: Interval = "images",
    order: str = "given",
    published: bool = False,
) -> tuple[list[PaperTable], list[str]]:
    """`tables_of` the results in these places, and a line for each run that is left out.

    `paths` are folders of runs, or scores files. Runs that have not ended are left out; BenchError
    when nothing is left.
    """
    results, left_out = open_finished(paths)
    tables = tables_of(
        results,
        place,
        columns=columns,
        seeds=seeds,
        interval=interval,
        order=order,
        published=published,
    )
    return tables, left_out


def tables_of(
    results: Sequence[Result],
    place: SplitPlace | None = None,
    *,
    columns: Sequence[str] | None = None,
    seeds: Seeds = "mean",
    interval: Interval = "images",
    order: str = "given",
    published: bool = False,
) -> list[PaperTable]:
    """A table for each set of conditions among these results.

    Parameters
    ----------
    place: where split and episodes are found, if not by what the results say.
    columns: names of metrics; None for those that tables have by default.
    seeds: `mean` for one row a method, `each` for one row a training seed.
    order: `given`, `name`, or a metric, best first.
    published: add the rows of the published table of the same labels.

    Raises BenchError for what is unsound or named twice, and for published rows of a split that the
    literature has none for.
    """
    if interval not in get_args(Interval):
        raise unknown_name("interval", interval, get_args(Interval))
    shown = check_names(columns) if columns else table_columns()
    if order not in ("given", "name"):
        check_names([order])
    tables = []
    for group in by_conditions(results):
        made = group_results(group, place, seeds=seeds)
        literature = _literature(made) if published else None
        tables.append(_table(made, shown, interval, order, literature))
    return tables


def open_finished(paths: Sequence[Path]) -> tuple[list[Result], list[str]]:
    """The results in these places, and a line for each run that has not ended well.

    Raises BenchError when none is left.
    """
    found = {path: result_or_status(path) for path in paths}
    left_out = [
        f"{path} is left out: its run is not finished (status {one})."
        for path, one in found.items()
        if isinstance(one, str)
    ]
    results = [one for one in map(found.__getitem__, paths) if isinstance(one, Result)]
    if not results:
        raise BenchError(
            "there is no finished run to make a table of",
            expected="folders that mlfsic-bench run wrote, or scores files",
            found="; ".join(left_out) or "none",
            remedy="run the same commands again to finish the runs",
        )
    return results, left_out


def _table(
    group: ResultGroup,
    shown: tuple[str, ...],
    interval: Interval,
    order: str,
    literature: Published | None,
) -> PaperTable:
    measured = [one.measured(shown, group.targets) for one in group.methods]
    values, influence = [found for found, _ in measured], [found for _, found in measured]
    names, notes = _names(group), _notes(group)
    by_column = {
        m: _column(
            group,
            [each[m] for each in values],
            [each[m] for each in influence],
            [r.seeds for r in group.methods],
            interval,
            m,
        )
        for m in shown
    }
    rows = [
        Row(
            name=names[i],
            values=tuple(by_column[m][i] for m in shown),
            notes=notes[i],
            seeds=one.seeds,
            cite=tuple(keys_of(bibtex_of(one.first))),
        )
        for i, one in enumerate(group.methods)
    ]
    places = list(range(len(rows)))
    if order == "name":
        places.sort(key=lambda i: rows[i].name.lower())
    elif order in METRICS:
        by = [one.measured([order], group.targets)[0][order] for one in group.methods]
        places.sort(key=lambda i: -_or_least(float(np.nanmean(by[i]))))
    rows = [rows[i] for i in places]
    for row in literature.rows if literature else ():
        cells = tuple(Value(row.values.get(m)) for m in shown)
        rows.append(Row(row.name, cells, ("published", row.backbone), published=True))
    caption = _caption(group, interval, literature)
    title = conditions_title(group.first, group.targets)
    return PaperTable(title, shown, tuple(rows), caption, group.meta.episodes.count)


def _column(
    group: ResultGroup,
    values: list[Float64],
    influence: list[Float64],
    seeds: list[tuple[int, ...]],
    interval: Interval,
    metric: str,
) -> list[Value]:
    """The values of one metric: means, half widths, the best and what ties with it."""
    means = [float(np.nanmean(v)) if np.isfinite(v).any() else np.nan for v in values]
    found = []
    for i, mean in enumerate(means):
        half = np.nan
        if interval == "images":
            half = image_interval(values[i], influence[i], group.images).half_width
        elif interval == "episodes":
            half = t_interval(values[i])[1]
        elif interval == "seeds" and len(seeds[i]) > 1:
            each = [
                float(np.nanmean(result.values([metric], group.targets)[metric]))
                for result in group.methods[i].results
            ]
            half = t_interval(np.array(each))[1]
        found.append(Value(_per_cent(mean), _per_cent(half)))
    top = int(np.nanargmax(means)) if np.isfinite(means).any() and len(means) > 1 else -1
    for i, value in enumerate(found):
        if top >= 0 and value.mean is not None:
            tie = i != top and _ties(group, values, influence, top, i, interval)
            found[i] = Value(value.mean, value.half_width, best=i == top, tie=tie)
    return found


def _ties(
    group: ResultGroup,
    values: list[Float64],
    influence: list[Float64],
    top: int,
    i: int,
    interval: Interval,
) -> bool:
    """Whether the paired interval of the difference to the best covers 0."""
    gap = values[top] - values[i]
    if interval == "episodes":
        half = paired(values[top], values[i]).half_width
    else:
        half = image_interval(gap, influence[top] - influence[i], group.images).half_width
    return bool(np.nanmean(gap) <= half)


def _names(group: ResultGroup) -> list[str]:
    """Names as papers print them; where one occurs twice, with what differs."""
    names = []
    for one in group.methods:
        plain = one.first.method.name
        names.append(printed_name(one.first) + one.name.removeprefix(plain))
    # Two methods may be printed alike: then their own names tell them apart.
    return [
        name if names.count(name) == 1 else f"{name} [{one.first.method.name}]"
        for name, one in zip(names, group.methods, strict=True)
    ]


def _notes(group: ResultGroup) -> list[tuple[str, ...]]:
    """For each method, what its features and embeddings are, where the methods differ."""
    order = ("backbone", "weights", "features", "precision", "embeddings", "embeddings hash")
    made = [one.first.made_with for one in group.methods]
    differing = [k for k in order if len({m[k] for m in made if k in m}) > 1]
    differing = without_hashes(differing, made)
    return [tuple(m[k] for k in differing if k in m) for m in made]


def _literature(group: ResultGroup) -> Published:
    split_id = group.meta.split.id
    found = published_for(split_id)
    if found is None:
        raise BenchError(
            f"there are no published numbers for split {split_id!r}",
            expected="a split with the labels of the paper's COCO or VOC experiments",
            found=split_id,
            remedy="leave --published out",
        )
    return found


def _caption(
    group: ResultGroup, interval: Interval, literature: Published | None
) -> tuple[str, ...]:
    split, episodes = group.meta.split, group.meta.episodes
    records = [result.record for result in group.results if result.record is not None]
    backbones = sorted({r.features.title for r in records if r.features})
    words = sorted({r.words.name for r in records if r.words and r.method.uses_words})
    micro, macro = chance_levels(group.targets.targets)
    lines = ["Means over episodes in per cent; F1 from each episode's own P and R."]
    if any(len(one.seeds) > 1 for one in group.methods):
        said = {len(one.seeds) for one in group.methods if one.method.trains}
        seeds = ", ".join(str(n) for n in sorted(said))
        lines.append(f"Methods that train: means over {seeds or 'several'} training seeds.")
    lines += [INTERVALS[interval]] if INTERVALS[interval] else []
    lines.append(
        f"Chance (random ranking): micro-AP {100 * micro:.2f}, macro-AP {100 * macro:.2f}."
    )
    if backbones:
        lines.append(f"Backbone: {', '.join(backbones)}.")
    if words:
        lines.append(f"Label embeddings: {', '.join(words)}.")
    lines += group.off_defaults
    lines += limits_of(split)
    cuts = {one.base_images.of for one in group.methods if one.base_images}
    if cuts:
        lines.append(
            "LEARNING CURVE: rows with base_images=N were trained on the first N of "
            f"{max(cuts):,} base images only; not comparable to full runs."
        )
    if any(one.base_images and one.base_images.labels for one in group.methods):
        lines.append(
            "LEARNING CURVE: rows with base_labels=N were trained on the N base labels with the "
            "most images only."
        )
    versions: dict[str, set[str]] = {}
    for result in group.results:
        versions.setdefault(result.method.name, set()).add(result.version or "not stated")
    lines += [
        f"Rows of {name} were made by {len(found)} versions of the method."
        for name, found in versions.items()
        if len(found) > 1
    ]
    runs = [(one.name, r.record) for one in group.methods for r in one.results if r.record]
    lines += doubts(runs)
    lines += note_on(group.targets)
    lines += small_pools(group.targets, group.meta.labels)
    if episodes.count < episodes.total:
        lines.append(f"Only the first {episodes.count} of {episodes.total} episodes were run.")
    if literature:
        source = literature.source
        lines.append(
            f"Rows marked `published` are copied from {source.venue} {source.year}, Table "
            f"{literature.table} ({source.authors.split(',')[0]} et al.), on {literature.dataset}: "
            "other episodes, and other images or backbone unless said otherwise; not comparable "
            "as they stand."
        )
    lines.append(
        f"Split {split.id} ({split.hash[:12]}), protocol {episodes.drawn_by.title}, episodes "
        f"{episodes.hash[:12]}."
    )
    return tuple(lines)


def _per_cent(value: float) -> float | None:
    return None if np.isnan(value) else 100.0 * float(value)


def _or_least(value: float) -> float:
    return -np.inf if np.isnan(value) else value


TIE = "its difference to the best has an interval that covers 0"
MARKS = {
    "text": f"*: the best of its column; ~: {TIE}.",
    "markdown": f"Bold: the best of its column; ~: {TIE}.",
    "html": f"Bold: the best of its column; ~: {TIE}.",
    "latex": f"Bold: the best of its column; underlined: {TIE}.",
}


def _shown(one: PaperTable, form: str) -> Table:
    """The table as text: a mean and its half width in one cell."""
    marked = any(value.best for row in one.rows for value in row.values)
    metrics = [METRICS[name] for name in one.columns]
    columns = tuple(Column(metric.short, over=metric.average.capitalize()) for metric in metrics)
    rows: list[tuple[str | Cell, ...]] = []
    for row in one.rows:
        notes = [note for note in row.notes if f"={note}" not in row.name]
        name = row.name + (f" ({', '.join(notes)})" if notes else "")
        rows.append((name, *(Cell(_text(value), value.best, value.tie) for value in row.values)))
    caption = (*([MARKS[form]] if marked else []), *one.caption)
    return Table((Column("Method", is_text=True), *columns), tuple(rows), one.title, caption)


def _text(value: Value) -> str:
    if value.mean is None:
        return "-"
    half = "" if value.half_width is None else f" ± {value.half_width:.2f}"
    return f"{value.mean:.2f}{half}"


def as_text(tables: Sequence[PaperTable], left_out: Sequence[str] = ()) -> str:
    """The tables for this terminal."""
    return to_text([_shown(one, "text") for one in tables], left_out)


def as_markdown(tables: Sequence[PaperTable], left_out: Sequence[str] = ()) -> str:
    """The tables in Markdown."""
    return to_markdown([_shown(one, "markdown") for one in tables], left_out)


def as_html(tables: Sequence[PaperTable], left_out: Sequence[str] = ()) -> str:
    """The tables as HTML for a notebook."""
    return to_html([_shown(one, "html") for one in tables], left_out)


def as_latex(tables: Sequence[PaperTable], left_out: Sequence[str] = ()) -> str:
    r"""A LaTeX table for each; `\cite` the works of its methods with what `cite` prints."""
    parts = []
    for one in tables:
        keys = list(dict.fromkeys(key for row in one.rows for key in row.cite))
        note = rf"Methods: \cite{{{','.join(keys)}}}." if keys else ""
        parts.append(to_latex(_shown(one, "latex"), note=note))
    comments = [f"% {for_terminal(line)}" for line in left_out]
    return "\n".join(["% \\usepackage{booktabs}", *comments, *parts])


def as_csv(tables: Sequence[PaperTable], left_out: Sequence[str] = ()) -> str:
    """A line for each row: mean and half width (in per cent, unrounded) of each metric."""
    columns = list(dict.fromkeys(m for one in tables for m in one.columns))
    numbers = [f"{m}{end}" for m in columns for end in ("", "_half_width")]
    lines: list[list[object]] = [["table", "method", "origin", "seeds", "notes", *numbers,
                                  "caption"]]  # fmt: skip
    for one in tables:
        for row in one.rows:
            of = dict(zip(one.columns, row.values, strict=True))
            cells = [x for m in columns for x in
                     ((of[m].mean, of[m].half_width) if m in of else (None, None))]  # fmt: skip
            seeds = "+".join(str(seed) for seed in row.seeds)
            origin = "published" if row.published else "measured"
            said = [one.title, row.name, origin, seeds, "; ".join(row.notes)]
            lines.append([*said, *cells, " ".join(one.caption)])
    return csv_text(lines)


def as_json(tables: Sequence[PaperTable], left_out: Sequence[str] = ()) -> str:
    """The tables with their values unrounded, in per cent."""
    content = [
        {
            "title": one.title,
            "rows": [
                {
                    "method": row.name,
                    "origin": "published" if row.published else "measured",
                    "seeds": list(row.seeds),
                    "notes": list(row.notes),
                    "values": {
                        m: {"mean": v.mean, "half_width": v.half_width, "best": v.best,
                            "tie": v.tie}
                        for m, v in zip(one.columns, row.values, strict=True)
                    },
                }
                for row in one.rows
            ],
            "caption": list(one.caption),
        }
        for one in tables
    ]  # fmt: skip
    return for_json({"tables": content, "left_out": list(left_out)}) + "\n"


WRITERS: dict[str, Callable[[Sequence[PaperTable], Sequence[str]], str]] = {
    "text": as_text,
    "markdown": as_markdown,
    "latex": as_latex,
    "csv": as_csv,
    "json": as_json,
    "html": as_html,
}

"""A reproduced table for the terminal, in Markdown, CSV and JSON."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict

from mlfsic_bench.experiments.results import Cell, Result, ResultRow
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.results.table import folded, grid
from mlfsic_bench.text import LONGEST_NAME, csv_text, for_json, for_markdown, for_terminal


def head(column: str) -> str:
    """`micro_ap` -> `micro AP`."""
    metric = METRICS[column]
    return f"{metric.average} {metric.short}".strip()


def render_terminal(result: Result, caption: Sequence[str], width: int | None = None) -> str:
    """The table for a terminal; a line for ours, its seeds, published, difference and paired."""
    columns = result.experiment.columns
    heads = ["Row", "", *(head(column).replace(" ", "\n") for column in columns)]
    rows: list[list[str] | None] = []
    for row in result.rows:
        name = for_terminal(_name(row), LONGEST_NAME)
        for kind, cells in _lines(row, result):
            # The second number stands below the first, so that eight columns fit.
            texts = [cell.replace(" ± ", "\n±").replace("–", "\n–") for cell in cells]
            rows.append([name, for_terminal(kind, LONGEST_NAME), *texts])
            name = ""
        rows.append(None)
    below = [for_terminal(line) for line in (*caption, *_states(result))]
    title = for_terminal(result.experiment.title)
    width = width or shutil.get_terminal_size().columns
    lines = grid(heads, rows[:-1], left=(0, 1), width=width)
    lines += [line for text in below for line in folded(text, width)]
    return "\n".join([title, *lines]) + "\n"


def render_markdown(result: Result, caption: Sequence[str]) -> str:
    """A GitHub-flavoured Markdown table, its caption below it."""
    columns = result.experiment.columns
    lines = [
        f"# {for_markdown(result.experiment.title)}",
        "",
        "| Row | | " + " | ".join(head(column) for column in columns) + " |",
        "|:--|:--|" + "--:|" * len(columns),
    ]
    for row in result.rows:
        for i, (kind, cells) in enumerate(_lines(row, result)):
            name = for_markdown(_name(row)) if i == 0 else ""
            lines.append(f"| {name} | {for_markdown(kind)} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- {for_markdown(line)}" for line in (*caption, *_states(result)))]
    return "\n".join(lines) + "\n"


def render_csv(result: Result, caption: Sequence[str]) -> str:
    """A line for each row and metric, unrounded; the caption repeated in the last column."""
    fields = list(Cell.__dataclass_fields__)
    lines: list[list[object]] = [["row", "notes", "state", "metric", "seeds", *fields, "caption"]]
    about = " ".join(caption)
    for row in result.rows:
        for column, cell in zip(result.experiment.columns, row.cells, strict=True):
            texts = [row.name, "; ".join(row.notes), row.state, column]
            lines.append([*texts, len(row.runs), *asdict(cell).values(), about])
    return csv_text(lines)


def render_json(result: Result, caption: Sequence[str]) -> str:
    """Everything, with folder and key of each run.

    `half_width` and `paired_half_width` are over episodes, those with `image` over images;
    `interval` names those that the Markdown shows.
    """
    rows = [
        {
            "name": row.name,
            "state": row.state,
            "notes": list(row.notes),
            "published_row": row.planned.spec.published,
            "runs": [
                {"folder": run.folder.name, "key": run.record.key, "seed": run.record.method.seed}
                for run in row.runs
            ],
            "cells": {
                column: asdict(cell)
                for column, cell in zip(result.experiment.columns, row.cells, strict=True)
            },
        }
        for row in result.rows
    ]
    value = {
        "schema_version": 1,
        "kind": "mlfsic-bench reproduced table",
        "title": result.experiment.title,
        "published": result.experiment.published,
        "reference": result.experiment.reference,
        "interval": "episodes" if result.no_images else "images",
        "caption": list(caption),
        "rows": rows,
    }
    return for_json(value) + "\n"


def _name(row: ResultRow) -> str:
    return f"{row.name} [{', '.join(row.notes)}]" if row.notes else row.name


def _lines(row: ResultRow, result: Result) -> list[tuple[str, list[str]]]:
    """(kind, a text for each column) for every line that has something to say.

    Half widths are those over images, and over episodes where a table has none over images.
    """
    cells = row.cells
    half, paired = "image_half_width", "paired_image_half_width"
    if result.no_images:
        half, paired = "half_width", "paired_half_width"
    if row.state:
        lines = [(row.state.partition(":")[0], ["-" for _ in cells])]
    else:
        lines = [("ours", [_pm(cell.ours, getattr(cell, half)) for cell in cells])]
        if len(row.runs) > 1:
            spread = [
                "-" if c.low is None or c.high is None else f"{c.low:.2f}–{c.high:.2f}"
                for c in cells
            ]
            lines.append((f"{len(row.runs)} seeds", spread))
    if any(cell.published is not None for cell in cells):
        lines.append(("published", [_plain(cell.published) for cell in cells]))
        if not row.state:
            lines.append(("difference", [_signed(cell.difference) for cell in cells]))
    if any(cell.paired is not None for cell in cells):
        texts = [_pm(c.paired, getattr(c, paired), sign=True) for c in cells]
        lines.append(("paired", texts))
    return lines


def _states(result: Result) -> list[str]:
    """Why rows have no figures of ours, and how many seeds the others have."""
    lines = [f"{row.name}: {row.state}." for row in result.rows if row.state]
    counts: dict[int, list[str]] = {}
    for row in result.rows:
        if row.runs:
            counts.setdefault(len(row.runs), []).append(row.name)
    told = [f"{n} for {', '.join(names)}" for n, names in sorted(counts.items())]
    return lines + ([f"Training seeds: {'; '.join(told)}."] if told else [])


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _pm(value: float | None, half: float | None, *, sign: bool = False) -> str:
    text = _signed(value) if sign else _plain(value)
    return text if half is None or value is None else f"{text} ± {half:.2f}"

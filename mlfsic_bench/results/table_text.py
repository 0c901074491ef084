"""A Table for the terminal, in Markdown, LaTeX and CSV; names are data, so all is escaped."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from mlfsic_bench.metrics.metric import Metric
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.results.columns import grid
from mlfsic_bench.results.table import Cell, Row, Table
from mlfsic_bench.text import (
    LONGEST_NAME,
    csv_text,
    for_latex,
    for_markdown,
    for_terminal,
    latex_row,
)


def render_terminal(table: Table, width: int | None = None) -> str:
    """The table for a terminal of `width` columns (None: this terminal's)."""
    heads = ["Method", *(metric.head.replace(" ", "\n") for metric in _metrics(table))]
    # The interval stands below its mean: nine columns must fit in 80 characters.
    rows = [
        [for_terminal(_name(row), LONGEST_NAME),
         *(_plain(cell).replace(" ± ", "\n±") for cell in row.cells)]
        for row in table.rows
    ]  # fmt: skip
    return grid(heads, rows, [for_terminal(line) for line in table.caption], width=width)


def render_markdown(table: Table) -> str:
    """A GitHub-flavoured Markdown table, its caption below it."""
    heads = [for_markdown(metric.head) for metric in _metrics(table)]
    lines = [
        "| Method | " + " | ".join(heads) + " |",
        "|:--|" + "--:|" * len(heads),
    ]
    for row in table.rows:
        cells = (for_markdown(_name(row)), *(_plain(cell) for cell in row.cells))
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"- {for_markdown(line)}" for line in table.caption)]
    return "\n".join(lines) + "\n"


def render_latex(table: Table) -> str:
    """A LaTeX `table` environment (package booktabs) in the paper's layout."""
    over, rules, last = "", "", 1
    for average, own in groupby(metric.average for metric in _metrics(table)):
        width = len(list(own))
        over += rf" & \multicolumn{{{width}}}{{c}}{{{for_latex(average.capitalize())}}}"
        rules += rf"\cmidrule(lr){{{last + 1}-{last + width}}}" if average else ""
        last += width
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\begin{tabular}{l" + "r" * len(table.columns) + "}",
        r"\toprule",
        over + r" \\",
        rules,
        " & ".join(["Method", *(for_latex(metric.short) for metric in _metrics(table))]) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        texts = (_name(row), *map(_plain, row.cells))
        lines.append(latex_row(map(for_latex, texts)))
    caption = " ".join(map(for_latex, table.caption))
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def render_csv(table: Table) -> str:
    """Comma-separated values: a mean and a half width (in per cent) for each metric, unrounded.

    The caption, which says what the numbers are, is repeated in the last column.
    """
    numbers = [f"{column}{end}" for column in table.columns for end in ("", "_half_width")]
    lines: list[list[object]] = [["method", "origin", "notes", *numbers, "caption"]]
    caption = " ".join(table.caption)
    for row in table.rows:
        values = [value for cell in row.cells for value in (cell.mean, cell.half_width)]
        origin = "published" if row.published else "measured"
        lines.append([row.name, origin, "; ".join(row.notes), *values, caption])
    return csv_text(lines)


RENDERERS: dict[str, Callable[[Table], str]] = {
    "terminal": render_terminal,
    "markdown": render_markdown,
    "latex": render_latex,
    "csv": render_csv,
}


def _metrics(table: Table) -> list[Metric]:
    return [METRICS[name] for name in table.columns]


def _name(row: Row) -> str:
    return f"{row.name} [{', '.join(row.notes)}]" if row.notes else row.name


def _plain(cell: Cell) -> str:
    if cell.mean is None:
        return "-"
    half = "" if cell.half_width is None else f" ± {cell.half_width:.2f}"
    return f"{cell.mean:.2f}{half}"

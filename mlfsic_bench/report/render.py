"""A Table for the terminal, in Markdown, LaTeX and CSV; names are data, so all is escaped."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from itertools import groupby

from mlfsic_bench.metrics.metric import Metric
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.report.escape import latex, markdown, spreadsheet, visible
from mlfsic_bench.report.table import Cell, Row, Table


def render_terminal(table: Table, width: int | None = None, colour: bool = False) -> str:
    """The table for a terminal of `width` columns (None: this terminal's)."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    # Text objects, because a string would be searched for rich's own [markup].
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    grid.add_column("Method", overflow="fold", min_width=12)
    for metric in _metrics(table):
        grid.add_column(metric.head.replace(" ", "\n"), justify="right", no_wrap=True)
    for row in table.rows:
        # The interval stands below its mean: nine columns must fit in 80 characters.
        cells = [Text(_plain(cell).replace(" ± ", "\n±")) for cell in row.cells]
        grid.add_row(Text(visible(_name(row))), *cells, style="dim" if row.published else None)
    buffer = io.StringIO()
    console = Console(file=buffer, width=width or Console().width, force_terminal=colour)
    # A figure is never cut: where the terminal is too narrow the lines are longer than it.
    console.width = max(console.width, Console(width=1000).measure(grid).minimum)
    console.print(grid)
    for line in table.caption:
        console.print(Text(visible(line)))
    return buffer.getvalue()


def render_markdown(table: Table) -> str:
    """A GitHub-flavoured Markdown table, its caption below it."""
    heads = [markdown(metric.head) for metric in _metrics(table)]
    lines = [
        "| Method | " + " | ".join(heads) + " |",
        "|:--|" + "--:|" * len(heads),
    ]
    for row in table.rows:
        cells = (markdown(_name(row)), *(_plain(cell) for cell in row.cells))
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *(f"- {markdown(line)}" for line in table.caption)]
    return "\n".join(lines) + "\n"


def render_latex(table: Table) -> str:
    """A LaTeX `table` environment (package booktabs) in the paper's layout."""
    over, rules, last = "", "", 1
    for average, own in groupby(metric.average for metric in _metrics(table)):
        width = len(list(own))
        over += rf" & \multicolumn{{{width}}}{{c}}{{{latex(average.capitalize())}}}"
        rules += rf"\cmidrule(lr){{{last + 1}-{last + width}}}" if average else ""
        last += width
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\begin{tabular}{l" + "r" * len(table.columns) + "}",
        r"\toprule",
        over + r" \\",
        rules,
        " & ".join(["Method", *(latex(metric.short) for metric in _metrics(table))]) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        cells = (latex(_name(row)), *(latex(_plain(cell)) for cell in row.cells))
        lines.append(" & ".join(cells) + r" \\")
    caption = latex(" ".join(table.caption))
    lines += [r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def render_csv(table: Table) -> str:
    """Comma-separated values: a mean and a half width (in per cent) for each metric, unrounded.

    The caption, which says what the numbers are, is repeated in the last column.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    numbers = [f"{column}{end}" for column in table.columns for end in ("", "_half_width")]
    writer.writerow(["method", "origin", "notes", *numbers, "caption"])
    caption = " ".join(table.caption)
    for row in table.rows:
        values = [value for cell in row.cells for value in (cell.mean, cell.half_width)]
        texts = ["" if value is None else repr(value) for value in values]
        origin = "published" if row.published else "measured"
        notes = "; ".join(row.notes)
        name, notes, about = (spreadsheet(text) for text in (row.name, notes, caption))
        writer.writerow([name, origin, notes, *texts, about])
    return buffer.getvalue()


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

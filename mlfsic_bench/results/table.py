"""One table, and its writers: text for a terminal, Markdown, LaTeX; CSV and JSON take plain data.

Names come from files and plug-ins, so every writer escapes every text.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, zip_longest

from mlfsic_bench.text import (
    LONGEST_NAME,
    for_latex,
    for_markdown,
    for_terminal,
    latex_row,
)

NARROWEST = 12  # characters that a name has in a line, however narrow the terminal is
GAP = "  "
# A column of print is about 8.4 cm wide, a page of two columns 17.5 cm: places of a \small digit.
# One place of the widest row is counted for each character, GAP_PLACES for each gap.
COLUMN_PLACES, PAGE_PLACES, GAP_PLACES = 52, 108, 1


@dataclass(frozen=True)
class Cell:
    """A text that stands out: `best` of its column, or a `tie` with the best."""

    text: str
    best: bool = False
    tie: bool = False


@dataclass(frozen=True)
class Column:
    """The head of a column, what stands over it and its neighbours, and whether it holds text."""

    head: str
    over: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class Table:
    """Columns, rows of as many cells, a title above and lines below.

    The first column holds names. A row that is None is a gap between groups of rows.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str | Cell, ...] | None, ...]
    title: str = ""
    caption: tuple[str, ...] = ()


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str | Cell] | None],
    *,
    title: str = "",
    caption: Sequence[str] = (),
    texts: Collection[int] = (0,),
) -> Table:
    """A Table whose columns of text are numbered in `texts`; the others hold numbers."""
    columns = tuple(Column(head, is_text=i in texts) for i, head in enumerate(heads))
    cells = tuple(None if row is None else tuple(row) for row in rows)
    return Table(columns, cells, title, tuple(caption))


def to_text(tables: Sequence[Table], caption: Sequence[str] = (), width: int | None = None) -> str:
    """The tables for a terminal of `width` places (None: this one's), one below the other."""
    width = width or shutil.get_terminal_size().columns
    blocks = []
    for one in tables:
        lines = [for_terminal(one.title)] if one.title else []
        lines += grid(
            [_head_in_text(column) for column in one.columns],
            [
                None if row is None else [_in_text(cell, i == 0) for i, cell in enumerate(row)]
                for row in one.rows
            ],
            left=[i for i, column in enumerate(one.columns) if column.is_text],
            width=width,
        )
        lines += [line for text in one.caption for line in folded(for_terminal(text), width)]
        blocks.append("\n".join(lines))
    if caption:
        lines = [line for text in caption for line in folded(for_terminal(text), width)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def to_markdown(tables: Sequence[Table], caption: Sequence[str] = ()) -> str:
    """GitHub-flavoured Markdown: each title in bold, a table, its lines as a list."""
    parts = []
    for one in tables:
        if one.title:
            parts.append(f"**{for_markdown(one.title)}**")
        heads = [f"{column.over} {column.head}".strip() for column in one.columns]
        lines = ["| " + " | ".join(map(for_markdown, heads)) + " |"]
        lines.append("|" + "".join(":--|" if c.is_text else "--:|" for c in one.columns))
        for row in one.rows:
            if row is not None:
                lines.append("| " + " | ".join(map(_in_markdown, row)) + " |")
        parts.append("\n".join(lines))
        if one.caption:
            parts.append("\n".join(f"- {for_markdown(line)}" for line in one.caption))
    if caption:
        parts.append("\n".join(f"- {for_markdown(line)}" for line in caption))
    return "\n\n".join(parts) + "\n"


def to_latex(one: Table, *, label: str = "", note: str = "") -> str:
    r"""A LaTeX table (package booktabs): `table` if it fits in one column of print, else `table*`.

    `note` is LaTeX that is written below the rows as it is, such as `\cite` keys.
    """
    over, rules, last = "", "", 1
    for name, own in groupby(one.columns[1:], key=lambda column: column.over):
        count = len(list(own))
        if name:
            over += rf" & \multicolumn{{{count}}}{{c}}{{{for_latex(name)}}}"
            rules += rf"\cmidrule(lr){{{last + 1}-{last + count}}}"
        else:
            over += " &" * count
        last += count
    kind = "table" if latex_width(one) <= COLUMN_PLACES else "table*"
    align = "".join("l" if column.is_text else "r" for column in one.columns)
    heads = " & ".join(for_latex(column.head) for column in one.columns)
    lines = [rf"\begin{{{kind}}}", r"\centering", r"\small", r"\setlength{\tabcolsep}{3pt}"]
    lines += [rf"\caption{{{for_latex(one.title)}}}", *([rf"\label{{{label}}}"] if label else [])]
    lines += [rf"\begin{{tabular}}{{@{{}}{align}@{{}}}}", r"\toprule"]
    lines += [over + r" \\", rules] if rules else []
    lines += [heads + r" \\", r"\midrule"]
    lines += [r"\midrule" if row is None else latex_row(map(_in_latex, row)) for row in one.rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    if one.caption or note:
        said = " ".join(map(for_latex, one.caption))
        lines += ["", r"\smallskip", r"\begin{minipage}{\linewidth}\footnotesize"]
        lines += [f"{said} {note}".strip(), r"\end{minipage}"]
    return "\n".join([*lines, rf"\end{{{kind}}}"]) + "\n"


def latex_width(one: Table) -> int:
    """Places of the widest line of the table in print, by the rule above."""
    columns = zip(
        [column.head for column in one.columns],
        *([_plain(cell) for cell in row] for row in one.rows if row is not None),
        strict=True,
    )
    widths = [max(map(len, column)) for column in columns]
    return sum(widths) + GAP_PLACES * (len(widths) - 1)


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """A line for each row; the columns in `left` begin at the same place, the others end there."""
    from rich.cells import cell_len  # a Chinese character takes two places

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
            blanks = " " * (width - cell_len(cell))
            cells.append(cell + blanks if i in left else blanks + cell)
        lines.append(GAP.join(cells).rstrip())
    return lines


def grid(
    heads: Sequence[str],
    rows: Sequence[Sequence[str] | None],
    *,
    left: Collection[int] = (0,),
    width: int,
) -> list[str]:
    """The lines of a table whose first column holds names, for a terminal of `width` places.

    Cells may have several lines. The names are folded so that the table fits. Where that would
    leave a name less than NARROWEST places, and in a terminal too narrow for the numbers, the lines
    are longer than the terminal: nothing is cut.
    """
    from rich.cells import cell_len

    columns = list(zip(heads, *(row for row in rows if row is not None), strict=True))
    widths = [max(map(cell_len, "\n".join(column).split("\n"))) for column in columns]
    numbers = sum(widths[1:]) + len(GAP) * (len(widths) - 1)
    room = max(NARROWEST, width - numbers)
    blocks = [[] if row is None else _lines(row, room) for row in (heads, *rows)]
    every = [line for block in blocks for line in block]
    rule = "─" * (numbers + max(cell_len(line[0]) for line in every))
    lines = iter(aligned(every, left))
    shown = [*islice(lines, len(blocks[0])), rule]
    for block in blocks[1:]:
        shown += islice(lines, len(block)) if block else [""]
    return shown


def folded(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` places, broken between words where that can be."""
    from rich.console import Console
    from rich.text import Text

    lines = Text(text).wrap(Console(width=width), width, overflow="fold")
    return [line.plain.rstrip() for line in lines] or [""]


def _lines(row: Sequence[str], room: int) -> list[tuple[str, ...]]:
    """The lines of a row, a text for each column in each; its name takes at most `room` places."""
    name, *cells = (cell.split("\n") for cell in row)
    parts = [part for line in name for part in folded(line, room)]
    return list(zip_longest(parts, *cells, fillvalue=""))


def _plain(cell: str | Cell) -> str:
    return cell if isinstance(cell, str) else cell.text


def _head_in_text(column: Column) -> str:
    return "\n".join(for_terminal(part) for part in (column.over, *column.head.split("\n")) if part)


def _in_text(cell: str | Cell, is_name: bool) -> str:
    if is_name:
        return for_terminal(_plain(cell), LONGEST_NAME)
    # The interval stands below its mean: nine columns must fit in 80 characters.
    text = "\n±".join(for_terminal(part) for part in _plain(cell).split(" ± "))
    mark = "" if isinstance(cell, str) else "*" if cell.best else "~" if cell.tie else ""
    first, _, rest = text.partition("\n")
    return f"{first}{mark}" + (f"\n{rest}{' ' if mark else ''}" if rest else "")


def _in_markdown(cell: str | Cell) -> str:
    text = for_markdown(_plain(cell))
    if isinstance(cell, str):
        return text
    return f"**{text}**" if cell.best else f"{text} ~" if cell.tie else text


def _in_latex(cell: str | Cell) -> str:
    text = for_latex(_plain(cell))
    if isinstance(cell, str):
        return text
    return rf"\textbf{{{text}}}" if cell.best else rf"{text}$^\sim$" if cell.tie else text

"""One table, and its writers: text for a terminal, Markdown, HTML and LaTeX.

CSV and JSON take plain data. Names come from files and plug-ins: every writer escapes every text.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice, zip_longest

from mlfsic_bench.text import (
    LONGEST_NAME,
    for_html,
    for_latex,
    for_markdown,
    for_terminal,
    latex_row,
)

NARROWEST = 12  # characters that a name has in a line, however narrow the terminal is
GAP = "  "
# The class `article` in two columns has the narrowest ones in use: 200 points of 410 (AAAI, CVPR
# and IEEE have 237 to 252 of 505 to 516). A table that fits there fits anywhere.
COLUMN_POINTS, PAGE_POINTS, GAP_POINTS, LEAST_NAME = 200.0, 410.0, 6.0, 70.0
BOLD, SCRIPT = 1.16, 0.96  # widths of bold digits, and of \scriptsize, by those of \footnotesize
LONGEST_WORD = 24
_PIECES = re.compile(r"(?<=[_=/-])")  # breaks there are easier to read than elsewhere
_WIDTHS = {
    char: points
    for points, chars in (
        (2.8, "ijl.,:;'!|[]"), (4.0, "frst()-I` /"), (5.0, "0123456789acegoz?*"),
        (5.6, "bdhknpquvxy_~^\"S"), (7.4, "wBCEFJLPTZ"), (10.3, "MW@%"),
    )
    for char in chars
}  # fmt: skip


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


def to_html(tables: Sequence[Table], caption: Sequence[str] = ()) -> str:
    """Plain HTML tables, as notebooks show them; titles above, lines below."""

    def lines(said: Sequence[str]) -> list[str]:
        return [f"<p><small>{'<br>'.join(map(for_html, said))}</small></p>"] if said else []

    def row_of(tag: str, row: Sequence[str | Cell]) -> str:
        cells = [
            f'<{tag} style="text-align:{"left" if column.is_text else "right"}">'
            f"{_in_html(cell)}</{tag}>"
            for column, cell in zip(one.columns, row, strict=True)
        ]
        return f"<tr>{''.join(cells)}</tr>"

    parts = []
    for one in tables:
        if one.title:
            parts.append(f"<p><b>{for_html(one.title)}</b></p>")
        heads = row_of("th", [f"{column.over} {column.head}".strip() for column in one.columns])
        body = [row_of("td", row) for row in one.rows if row is not None]
        parts.append("\n".join(["<table>", heads, *body, "</table>"]))
        parts += lines(one.caption)
    return "\n".join([*parts, *lines(caption)]) + "\n"


def to_latex(one: Table, *, label: str = "", note: str = "") -> str:
    r"""A LaTeX table (package booktabs) that fits, as `latex_layout` says.

    `note` is LaTeX that is written below the rows as it is, such as `\cite` keys.
    """
    layout = latex_layout(one)
    over, rules, last = "", "", 1
    for name, own in groupby(one.columns[1:], key=lambda column: column.over):
        count = len(list(own))
        if name:
            over += rf" & \multicolumn{{{count}}}{{c}}{{{for_latex(name)}}}"
            rules += rf"\cmidrule(lr){{{last + 1}-{last + count}}}"
        else:
            over += " &" * count
        last += count
    align = "".join("l" if column.is_text else "r" for column in one.columns)
    heads = " & ".join(for_latex(column.head) for column in one.columns)
    lines = [rf"\begin{{{layout.kind}}}", r"\centering", r"\footnotesize"]
    lines += [rf"\setlength{{\tabcolsep}}{{{GAP_POINTS / 2:g}pt}}"]
    lines += [rf"\caption{{{_breakable(one.title)}}}", *([rf"\label{{{label}}}"] if label else [])]
    lines += [r"\smallskip", rf"\begin{{tabular}}{{@{{}}{align}@{{}}}}", r"\toprule"]
    lines += [over + r" \\", rules] if rules else []
    lines += [heads + r" \\", r"\midrule"]
    first = [_plain(row[0]) for row in one.rows if row is not None]
    apart = layout.stacked or any(len(folded_to(name, layout.name)) > 1 for name in first)
    for row in one.rows:
        if row is None:
            lines.append(r"\midrule")
            continue
        names = folded_to(_plain(row[0]), layout.name)
        cells = [_in_latex(cell, layout.stacked) for cell in row[1:]]
        below = zip_longest(map(for_latex, names), *cells, fillvalue="")
        lines += [latex_row(line) for line in below]
        lines += [r"\addlinespace[2pt]"] if apart else []
    lines += [r"\bottomrule", r"\end{tabular}"]
    if one.caption or note:
        said = " ".join(map(_breakable, one.caption))
        lines += ["", r"\smallskip", r"\begin{minipage}{\linewidth}\scriptsize\raggedright"]
        lines += [f"{said} {note}".strip(), r"\end{minipage}"]
    return "\n".join([*lines, rf"\end{{{layout.kind}}}"]) + "\n"


@dataclass(frozen=True)
class Layout:
    """How a table is printed: `kind` `table` (one column) or `table*` (the page).

    `stacked`: intervals stand below their means. `name`: points that a line of a name has.
    """

    kind: str
    stacked: bool
    name: float


def latex_layout(one: Table) -> Layout:
    """The first that fits: in a column or on the page, intervals beside their means or below.

    A line of a name has LEAST_NAME points at least; longer names are folded. A table of very many
    columns may be wider than the page.
    """
    rows = [row for row in one.rows if row is not None]
    name = max([points_of(one.columns[0].head), *(points_of(_plain(row[0])) for row in rows)])
    for kind, width in (("table", COLUMN_POINTS), ("table*", PAGE_POINTS)):
        for stacked in (False, True):
            free = width - _numbers(one, rows, stacked)
            if min(name, LEAST_NAME) <= free:
                return Layout(kind, stacked, min(name, free))
    return Layout("table*", True, min(name, LEAST_NAME))


def _numbers(one: Table, rows: Sequence[Sequence[str | Cell]], stacked: bool) -> float:
    """Points that the columns of numbers take, with the gaps between all columns."""
    total = GAP_POINTS * (len(one.columns) - 1)
    for i, column in enumerate(one.columns[1:], 1):
        widest = points_of(column.head)
        for row in rows:
            mean, half = _mean_and_half(row[i])
            wide = points_of(mean) * (BOLD if isinstance(row[i], Cell) else 1.0)
            over = points_of(half) * SCRIPT
            widest = max(widest, max(wide, over) if stacked else wide + over)
        total += widest
    return total


def points_of(text: str) -> float:
    """How wide a text is in Computer Modern of 8 points (`\\footnotesize`), at most."""
    latex = ((char, for_latex(char)) for char in text)
    shown = "".join(long if long.startswith("[U+") else char for char, long in latex)
    return 0.85 * sum(_WIDTHS.get(char, 8.4) for char in shown)


def folded_to(text: str, points: float) -> list[str]:
    """`text` in lines of at most `points`, broken between words where that can be."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if points_of(longer) <= points:
            lines[-1] = longer
            continue
        lines += [""] if lines[-1] else []
        pieces = _PIECES.split(word)
        whole = all(points_of(piece) <= points for piece in pieces)
        for piece in pieces if whole else word:
            if lines[-1] and points_of(lines[-1] + piece) > points:
                lines.append("")
            lines[-1] += piece
    return lines


def _breakable(text: str) -> str:
    """`text` for LaTeX, in which a word longer than LONGEST_WORD may be broken anywhere."""
    words = []
    for word in text.split(" "):
        parts = [word[i : i + LONGEST_WORD] for i in range(0, len(word), LONGEST_WORD)]
        words.append(r"\hspace{0pt}".join(map(for_latex, parts)))
    return " ".join(words)


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

    Cells may have several lines. The columns in `left` hold text, which is folded so that the table
    fits, the names last. Where that would leave a text less than NARROWEST places, and in a
    terminal too narrow for the numbers, the lines are longer than the terminal: nothing is cut.
    """
    from rich.cells import cell_len

    columns = list(zip(heads, *(row for row in rows if row is not None), strict=True))
    widths = [max(map(cell_len, "\n".join(column).split("\n"))) for column in columns]
    texts = [i for i in left if i]
    numbers = sum(w for i, w in enumerate(widths) if i and i not in texts)
    free = width - numbers - len(GAP) * (len(widths) - 1)
    rooms = {0: min(widths[0], max(NARROWEST, free - 2 * NARROWEST * len(texts)))}
    rooms |= {i: max(NARROWEST, (free - rooms[0]) // len(texts)) for i in texts}
    blocks = [[] if row is None else _lines(row, rooms) for row in (heads, *rows)]
    every = [line for block in blocks for line in block]
    lines = iter(aligned(every, left))
    widest = (max(map(cell_len, column)) for column in zip(*every, strict=True))
    rule = "─" * (sum(widest) + len(GAP) * (len(widths) - 1))
    shown = [*islice(lines, len(blocks[0])), rule]
    for block in blocks[1:]:
        shown += islice(lines, len(block)) if block else [""]
    return shown


def folded(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` places, broken between words where that can be.

    >>> folded("one two three-and-twenty", 10)
    ['one two', 'three-and-', 'twenty']
    """
    from rich.cells import cell_len, chop_cells

    lines = [""]
    for word in re.findall(r"\s*\S+\s*", text):
        size = cell_len(word.rstrip())
        if size <= width - cell_len(lines[-1]):
            lines[-1] += word
            continue
        lines += [""] if lines[-1] else []
        pieces = _PIECES.split(word) if size > width else [word]
        whole = all(cell_len(piece.rstrip()) <= width for piece in pieces)
        for piece in pieces if whole else chop_cells(word, width):
            if cell_len(lines[-1] + piece.rstrip()) > width:
                lines.append("")
            lines[-1] += piece
    return [line.rstrip() for line in lines]


def _lines(row: Sequence[str], rooms: Mapping[int, int]) -> list[tuple[str, ...]]:
    """The lines of a row, a text for each column in each; `rooms` says how wide texts may be."""
    cells = [
        [part for line in cell.split("\n") for part in folded(line, rooms[i])]
        if i in rooms
        else cell.split("\n")
        for i, cell in enumerate(row)
    ]
    return list(zip_longest(*cells, fillvalue=""))


def _plain(cell: str | Cell) -> str:
    return cell if isinstance(cell, str) else cell.text


def _head_in_text(column: Column) -> str:
    return "\n".join(for_terminal(part) for part in (column.over, *column.head.split("\n")) if part)


def _in_text(cell: str | Cell, is_name: bool) -> str:
    if is_name:
        return for_terminal(_plain(cell), LONGEST_NAME)
    # The second number stands below the first: nine columns must fit in 80 characters.
    parts = re.split(r" (?=± )|(?<=\d)(?=–\d)", _plain(cell))
    text = "\n".join(for_terminal(part).replace("± ", "±") for part in parts)
    mark = "" if isinstance(cell, str) else "*" if cell.best else "~" if cell.tie else ""
    first, _, rest = text.partition("\n")
    return f"{first}{mark}" + (f"\n{rest}{' ' if mark else ''}" if rest else "")


def _in_markdown(cell: str | Cell) -> str:
    text = for_markdown(_plain(cell))
    if isinstance(cell, str):
        return text
    return f"**{text}**" if cell.best else f"{text} ~" if cell.tie else text


def _in_html(cell: str | Cell) -> str:
    text = str(for_html(_plain(cell)))
    if isinstance(cell, str):
        return text
    return f"<b>{text}</b>" if cell.best else f"{text} ~" if cell.tie else text


def _mean_and_half(cell: str | Cell) -> tuple[str, str]:
    mean, _, half = _plain(cell).partition(" ± ")
    return mean, f"±{half}" if half else ""


def _in_latex(cell: str | Cell, stacked: bool) -> list[str]:
    """The lines of a cell: the mean, bold or underlined, and the interval beside or below it."""
    mean, half = map(for_latex, _mean_and_half(cell))
    if isinstance(cell, Cell):
        mean = (
            rf"\textbf{{{mean}}}" if cell.best else rf"\underline{{{mean}}}" if cell.tie else mean
        )
    small = rf"{{\scriptsize {half}}}" if half else ""
    return [mean, small] if stacked else [mean + small]

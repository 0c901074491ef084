"""Tables of plain text: aligned columns, names folded to the terminal, figures whole."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from itertools import islice, zip_longest

NARROWEST = 12  # characters that a name has in a line, however narrow the terminal is
GAP = "  "


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
    caption: Sequence[str],
    *,
    left: Collection[int] = (0,),
    width: int | None = None,
) -> str:
    """A table whose first column holds names, for a terminal of `width` places (None: this one's).

    Cells may have several lines; a row that is None is an empty line. The names are folded so that
    the table fits. Where that would leave a name less than NARROWEST places, and in a terminal too
    narrow for the figures, the lines are longer than the terminal: nothing is cut.
    """
    from rich.cells import cell_len

    width = width or shutil.get_terminal_size().columns
    columns = list(zip(heads, *(row for row in rows if row is not None), strict=True))
    widths = [max(map(cell_len, "\n".join(column).split("\n"))) for column in columns]
    figures = sum(widths[1:]) + len(GAP) * (len(widths) - 1)
    room = max(NARROWEST, width - figures)
    blocks = [[] if row is None else _lines(row, room) for row in (heads, *rows)]
    every = [line for block in blocks for line in block]
    rule = "─" * (figures + max(cell_len(line[0]) for line in every))
    lines = iter(aligned(every, left))
    shown = [*islice(lines, len(blocks[0])), rule]
    for block in blocks[1:]:
        shown += islice(lines, len(block)) if block else [""]
    for text in caption:
        shown += _folded(text, max(width, len(rule)))
    return "\n".join(shown) + "\n"


def _lines(row: Sequence[str], room: int) -> list[tuple[str, ...]]:
    """The lines of a row, a text for each column in each; its name takes at most `room` places."""
    name, *cells = (cell.split("\n") for cell in row)
    folded = [part for line in name for part in _folded(line, room)]
    return list(zip_longest(folded, *cells, fillvalue=""))


def _folded(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` places, broken between words where that can be."""
    from rich.console import Console
    from rich.text import Text

    lines = Text(text).wrap(Console(width=width), width, overflow="fold")
    return [line.plain.rstrip() for line in lines] or [""]

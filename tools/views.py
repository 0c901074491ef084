"""What a block of a page shows of its file.

A Markdown file (`.md`) is shown as it is, without its title, its links turned to the page:

    show=tables       without text and pictures; also `caption`, `pictures`; default `all`
    table=2           only the second of its tables
    rows=Linear|LaSO  only these rows, by the name that is printed, with or without [notes]
    columns=macro AP  only these columns; the first, and one without a head, always stay

A reproduced table as `.json` is shown with one line for each row:

    columns=macro_ap|micro_ap     metrics; by default these two where the table has them
    values=measured|seeds|published|difference|paired     by default all that a row has
    rows=..., show=tables         as above
    beside=results/OTHER.json     the measured values of a second table beside those of the first,
    heads=photographs|drawings    under these heads, and the name of each method

`mlfsic_bench/metrics/registry.py` is shown as a table of what each metric is, `benchmarks/goals.py`
as the table of its goals with the recorded values, `results/timings` as a section for each recorded
benchmark, `results/measured` as the minutes that each row of the reality check took. A `.txt` file
is shown in a fence. Sentences that mark values as partial are never left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from mlfsic_bench.errors import BenchError, nearest
from mlfsic_bench.experiments.render import KINDS, cell_text, head, read_table
from mlfsic_bench.experiments.table import ReproducedTable, TableRow
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.splits.names import MARK
from mlfsic_bench.text import for_markdown
from tools.bench import goals_table, recorded, sections
from tools.costs import MEASURED, costs

OPTIONS = ("rows", "columns", "show", "table", "values", "beside", "heads")
SHOW = ("all", "tables", "caption", "pictures")
# Sentences below a table without which its numbers would be taken for something else.
MARKS = (
    *("SUBSET", MARK, "SMALL POOL"),
    *("LEARNING CURVE", "Only the first", "Not on all episodes"),
)
_KNOWN = {".md": ("rows", "columns", "show", "table"), ".json": ("rows", "columns", "show",
          "values", "beside", "heads"), ".txt": ()}  # fmt: skip


def view(root: Path, source: str, options: dict[str, str], beside: Path) -> str:
    """The text of a block: Markdown for a page in the folder `beside`.

    Raises BenchError for a file that is not there, and for an option, row or column it has not.
    """
    path = root / source
    if source not in _MADE and (path.suffix not in _KNOWN or not path.is_file()):
        raise _wrong(source, "an .md, .json or .txt file of this repository", "none there")
    known = _KNOWN.get(path.suffix, ())
    for key in options:
        if key not in known:
            told = f"options {', '.join(known) or '(none)'} for {path.suffix or source}"
            raise _wrong(source, told, key)
    _one_of(source, options.get("show", "all"), SHOW)
    text = "" if source in _MADE else path.read_text("utf-8")
    links = [f"[`{source}`]({_relative(path, beside)})"]
    if source in _MADE:
        made = _MADE[source](root)
    elif path.suffix == ".txt":
        made = "```text\n" + text.strip("\n") + "\n```"
    elif path.suffix == ".json":
        table = _reproduced(source, path)
        if "beside" in options:
            made = _beside(source, table, root, options)
            also = root / options["beside"]
            links.append(f"[`{options['beside']}`]({_relative(also, beside)})")
        else:
            made = _compact(source, table, options)
    else:
        made = _turned(_parts(source, text, options), path.parent, beside)
    return f"{made.strip()}\n\nFrom {' and '.join(links)}.\n"


def split_row(line: str) -> list[str]:
    """The cells of a line of a Markdown table, as they are written."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def plain(cell: str) -> str:
    """What a cell shows: without the backslashes and entities of escaping."""
    text = re.sub(r"\\([\\`*_{}\[\]#|~$])", r"\1", cell).replace("`", "")
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _metrics(root: Path) -> str:
    """A line for each metric."""
    rows = ["| name | for one episode | formula | undefined | defined in | compared with |"]
    rows.append("|---|" + "---|" * 5)
    for m in METRICS.values():
        cells = (m.definition, m.formula, m.nan_policy, m.citation, m.oracle)
        rows.append(" | ".join([f"| `{m.name}`", *map(for_markdown, cells)]) + " |")
    return "\n".join(rows)


_MADE: dict[str, Callable[[Path], str]] = {
    "mlfsic_bench/metrics/registry.py": _metrics,
    "benchmarks/goals.py": lambda root: goals_table(recorded(root)),
    "results/timings": sections,
    MEASURED: costs,
}


def _parts(source: str, text: str, options: dict[str, str]) -> str:
    """The chosen parts of a Markdown file: its tables, pictures and other lines, in order."""
    lines = text.strip("\n").split("\n")
    if lines and lines[0].startswith("# "):
        lines = lines[1:]
    groups: list[tuple[str, list[str]]] = []
    for line in lines:
        kind = "tables" if line.startswith("|") else "pictures" if "![" in line else "caption"
        if groups and groups[-1][0] == kind:
            groups[-1][1].append(line)
        else:
            groups.append((kind, [line]))
    tables = [group for kind, group in groups if kind == "tables"]
    chosen = tables
    if "table" in options:
        _one_of(source, options["table"], [str(i + 1) for i in range(len(tables))])
        chosen = [tables[int(options["table"]) - 1]]
    show = "tables" if "table" in options else options.get("show", "all")
    made: list[str] = []
    for kind, group in groups:
        if kind == "tables":
            keep = any(group is one for one in chosen) and show in ("all", "tables")
            made += ["", *_table(source, group, options), ""] if keep else []
        elif kind == show or show == "all":
            made += group
        elif kind == "caption":
            made += [line for line in group if line.lstrip("- ").startswith(MARKS)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(made))


def _table(source: str, lines: list[str], options: dict[str, str]) -> list[str]:
    """The table with the chosen rows and columns; lines without a name go with the row above."""
    cells = [split_row(line) for line in lines]
    heads = [plain(cell) for cell in cells[0]]
    columns = list(range(len(heads)))
    if "columns" in options:
        wanted = options["columns"].split("|")
        for name in wanted:
            _one_of(source, name, heads)
        columns = [i for i, name in enumerate(heads) if i == 0 or not name or name in wanted]
    kept = cells[2:]
    if "rows" in options:
        wanted = options["rows"].split("|")
        kept, take, seen = [], False, set[str]()
        for row in cells[2:]:
            if row[0]:
                names = {plain(row[0]), _without_notes(plain(row[0]))}
                take = bool(names & set(wanted))
                seen |= names
            if take:
                kept.append(row)
        for name in wanted:
            _one_of(source, name, sorted(seen))
    return ["| " + " | ".join(row[i] for i in columns) + " |" for row in [*cells[:2], *kept]]


def _reproduced(source: str, path: Path) -> ReproducedTable:
    table = read_table(path)
    if table is None:
        raise _wrong(source, "a table that `mlfsic-bench reproduce` wrote", "another file")
    return table


def _compact(source: str, table: ReproducedTable, options: dict[str, str]) -> str:
    """One line for each row of a reproduced table."""
    rows = _rows(source, table, options)
    metrics = _metrics_of(source, table, options)
    kinds = options["values"].split("|") if "values" in options else list(KINDS)
    for name in kinds:
        _one_of(source, name, KINDS)
    shown = [
        (metric, kind)
        for metric in metrics
        for kind in KINDS
        if kind in kinds and ("values" in options or any(cell_text(r, metric, kind) for r in rows))
    ]
    heads = [head(m) if kind == "measured" else f"{kind}, {head(m)}" for m, kind in shown]
    cells = [
        [for_markdown(row.title), *(cell_text(row, metric, kind) or "-" for metric, kind in shown)]
        for row in rows
    ]
    all_of_it = options.get("show", "all") != "tables"
    starts = (*MARKS, "Split") if all_of_it else MARKS
    notes = [line for line in table.caption if line.startswith(starts)]
    if all_of_it:
        notes.append("± is the half width of a 95 % interval over images.")
        notes += [f"{row.name}: {row.state}." for row in rows if row.state]
    return _written(["Row", *heads], cells, notes)


def _beside(source: str, table: ReproducedTable, root: Path, options: dict[str, str]) -> str:
    """The measured values of two tables, a line for each method; of rows that both have."""
    other = _reproduced(options["beside"], root / options["beside"])
    others = {row.name: row for row in other.rows}
    metrics = _metrics_of(source, table, options)
    titles = options.get("heads", f"{source}|{options['beside']}").split("|")
    heads = [f"{title}: {head(metric)}" for title in titles for metric in metrics]
    cells = []
    for row in (row for row in _rows(source, table, options) if row.name in others):
        pair = [(one, metric) for one in (row, others[row.name]) for metric in metrics]
        values = [cell_text(one, metric, "measured") or "-" for one, metric in pair]
        cells.append([for_markdown(row.name), f"`{row.method}`", *values])
    notes = []
    for title, of in zip(titles, (table, other), strict=True):
        notes += [f"{title}: {line}" for line in of.caption if line.startswith((*MARKS, "Split"))]
    notes.append("In per cent; ± is the half width of a 95 % interval over images.")
    return _written(["Row", "method", *heads], cells, notes)


def _written(heads: list[str], rows: list[list[str]], notes: list[str]) -> str:
    """A Markdown table of cells that are Markdown, texts at the left, and sentences below it."""
    rule = [":--" if name in ("Row", "method") else "--:" for name in heads]
    lines = ["| " + " | ".join(row) + " |" for row in (heads, *rows)]
    lines.insert(1, "|" + "|".join(rule) + "|")
    return "\n".join([*lines, "", *(f"- {for_markdown(note)}" for note in notes)])


def _rows(source: str, table: ReproducedTable, options: dict[str, str]) -> list[TableRow]:
    if "rows" not in options:
        return list(table.rows)
    wanted = options["rows"].split("|")
    for name in wanted:
        _one_of(source, name, [row.name for row in table.rows])
    return [row for row in table.rows if row.name in wanted]


def _metrics_of(source: str, table: ReproducedTable, options: dict[str, str]) -> list[str]:
    known = list(table.columns)
    usual = [str(name) for name in ("macro_ap", "micro_ap") if name in known] or known
    metrics = options["columns"].split("|") if "columns" in options else usual
    for name in metrics:
        _one_of(source, name, known)
    return metrics


def _without_notes(name: str) -> str:
    return re.sub(r" \[[^\[\]]*\]$", "", name)


def _turned(text: str, folder: Path, beside: Path) -> str:
    """The text with links relative to `folder` made relative to `beside`."""

    def turn(found: re.Match[str]) -> str:
        target = found[1]
        if re.match(r"[a-z]+:|#|/", target):
            return found[0]
        return f"]({_relative(folder / target, beside)})"

    return re.sub(r"\]\(([^)\s]+)\)", turn, text)


def _relative(path: Path, beside: Path) -> str:
    return Path(os.path.relpath(path, beside)).as_posix()


def _one_of(source: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        close = nearest(name, known)
        found = f"{name!r}" + (f" (nearest: {close!r})" if close else "")
        raise _wrong(source, f"one of {', '.join(map(str, known))}", found)


def _wrong(source: str, expected: str, found: str) -> BenchError:
    return BenchError(
        f"a block asks for something that {source} has not",
        expected=expected,
        found=found,
        remedy="correct the line <!-- table: ... --> of the page",
    )

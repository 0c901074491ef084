"""What a block of figures shows of its file.

A Markdown file (`.md`) is shown as it is, without its title, its links turned to the page:

    show=tables       without text and pictures; also `caption`, `pictures`; default `all`
    table=2           only the second of its tables
    rows=Ours|Linear  only these rows, by the name that is printed, with or without [notes]
    columns=macro AP  only these columns; the first, and one without a head, always stay

A reproduced table as `.json` is shown with one line for each row:

    columns=macro_ap|micro_ap     metrics; by default these two where the table has them
    figures=ours|seeds|published|difference|paired     by default all that a row has
    rows=..., show=tables         as above

The registry of metrics, a `.py` file, is shown as a table of what each metric is. A `.txt` file is
shown in a fence. Sentences that mark figures as partial are never left out.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlfsic_bench.errors import BenchError, nearest
from mlfsic_bench.experiments.render import head
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.text import for_markdown

OPTIONS = ("rows", "columns", "show", "table", "figures")
FIGURES = ("ours", "seeds", "published", "difference", "paired")
SHOW = ("all", "tables", "caption", "pictures")
# Sentences below a table without which its figures would be taken for something else.
MARKS = ("SUBSET", "LEARNING CURVE", "Only the first", "Not on all episodes")
_KNOWN = {".md": ("rows", "columns", "show", "table"), ".json": ("rows", "columns", "show",
          "figures"), ".txt": (), ".py": ()}  # fmt: skip


def view(root: Path, source: str, options: dict[str, str], beside: Path) -> str:
    """The text of a block: Markdown for a page in the folder `beside`.

    Raises BenchError for a file that is not there, and for an option, row or column it has not.
    """
    path = root / source
    if path.suffix not in _KNOWN or not path.is_file():
        raise _wrong(source, "an .md, .json, .txt or .py file of this repository", "none there")
    for key in options:
        if key not in _KNOWN[path.suffix]:
            told = f"options {', '.join(_KNOWN[path.suffix]) or '(none)'} for {path.suffix}"
            raise _wrong(source, told, key)
    _one_of(source, options.get("show", "all"), SHOW)
    text = path.read_text("utf-8")
    if path.suffix == ".txt":
        made = "```text\n" + text.strip("\n") + "\n```"
    elif path.suffix == ".py":
        made = _metrics()
    elif path.suffix == ".json":
        made = _compact(source, json.loads(text), options)
    else:
        made = _turned(_parts(source, text, options), path.parent, beside)
    link = f"[`{source}`]({_relative(path, beside)})"
    return f"{made.strip()}\n\nFrom {link}.\n"


def split_row(line: str) -> list[str]:
    """The cells of a line of a Markdown table, as they are written."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def plain(cell: str) -> str:
    """What a cell shows: without the backslashes and entities of escaping."""
    text = re.sub(r"\\([\\`*_{}\[\]#|~$])", r"\1", cell).replace("`", "")
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _metrics() -> str:
    """A line for each metric."""
    rows = ["| name | for one episode | formula | undefined | defined in | compared with |"]
    rows.append("|---|" + "---|" * 5)
    for m in METRICS.values():
        cells = (m.definition, m.formula, m.nan_policy, m.citation, m.oracle)
        rows.append(" | ".join([f"| `{m.name}`", *map(for_markdown, cells)]) + " |")
    return "\n".join(rows)


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


def _compact(source: str, value: dict[str, Any], options: dict[str, str]) -> str:
    """One line for each row of a reproduced table."""
    if value.get("kind") != "mlfsic-bench reproduced table":
        raise _wrong(source, "a table that `mlfsic-bench reproduce` wrote", str(value.get("kind")))
    rows = value["rows"]
    if "rows" in options:
        wanted = options["rows"].split("|")
        for name in wanted:
            _one_of(source, name, [row["name"] for row in rows])
        rows = [row for row in rows if row["name"] in wanted]
    known = list(value["rows"][0]["cells"])
    usual = [name for name in ("macro_ap", "micro_ap") if name in known] or known
    metrics = options["columns"].split("|") if "columns" in options else usual
    for name in metrics:
        _one_of(source, name, known)
    figures = options["figures"].split("|") if "figures" in options else list(FIGURES)
    for name in figures:
        _one_of(source, name, FIGURES)
    images = value.get("interval") == "images"
    shown = [
        (metric, figure)
        for metric in metrics
        for figure in FIGURES
        if figure in figures
        and ("figures" in options or any(cell_text(row, metric, figure, images) for row in rows))
    ]
    heads = [head(m) if f == "ours" else f"{f}, {head(m)}" for m, f in shown]
    lines = ["| Row | " + " | ".join(heads) + " |", "|:--|" + "--:|" * len(heads)]
    for row in rows:
        cells = [cell_text(row, metric, figure, images) for metric, figure in shown]
        lines.append(
            f"| {for_markdown(_name(row))} | " + " | ".join(cell or "-" for cell in cells) + " |"
        )
    all_of_it = options.get("show", "all") != "tables"
    starts = (*MARKS, "Split") if all_of_it else MARKS
    notes = [line for line in value["caption"] if line.startswith(starts)]
    if all_of_it:
        over = "images" if images else "episodes"
        notes.append(f"± is the half width of a 95 % interval over {over}.")
        notes += [f"{row['name']}: {row['state']}." for row in rows if row["state"]]
    return "\n".join([*lines, "", *(f"- {for_markdown(note)}" for note in notes)])


def _name(row: dict[str, Any]) -> str:
    return f"{row['name']} [{', '.join(row['notes'])}]" if row["notes"] else str(row["name"])


def cell_text(row: dict[str, Any], metric: str, figure: str, images: bool) -> str:
    """What stands in a cell; empty where the row has nothing to say there.

    ± is over images where the table has that (`images`), otherwise over episodes, as in its
    Markdown.
    """
    cell = row["cells"][metric]
    if figure == "seeds":
        several = len(row["runs"]) > 1 and cell["low"] is not None
        return f"{cell['low']:.2f}–{cell['high']:.2f}" if several else ""
    number = cell[figure]
    if number is None:
        return str(row["state"]).partition(":")[0] if figure == "ours" else ""
    text = f"{number:+.2f}" if figure in ("difference", "paired") else f"{number:.2f}"
    if figure not in ("ours", "paired"):
        return text
    before = "paired_" if figure == "paired" else ""
    half = cell[f"{before}image_half_width" if images else f"{before}half_width"]
    return text if half is None else f"{text} ± {half:.2f}"


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
        remedy="correct the line <!-- figures: ... --> of the page",
    )

"""The files that show a reproduced table, and its form for a terminal."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from mlfsic_bench.experiments.table import Cell, ReproducedTable, TableRow
from mlfsic_bench.metrics.decisions import RULE_TEXTS, RULES
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.results.table import Column, Table, to_markdown, to_text
from mlfsic_bench.splits.names import MARK
from mlfsic_bench.text import csv_text, for_json, for_markdown

KIND = "mlfsic-bench reproduced table"
KINDS = ("measured", "seeds", "published", "difference", "paired", "rank")
# Sentences without which the numbers of a table would be taken for something else.
MARKS = ("SUBSET", MARK, "SMALL POOL", "Not on all episodes")


def head(column: str) -> str:
    """`micro_ap` -> `micro AP`."""
    metric = METRICS[column]
    return f"{metric.average} {metric.short}".strip()


def render_terminal(table: ReproducedTable, width: int | None = None) -> str:
    """The table for a terminal of `width` places; a line for each kind of value of a row."""
    return to_text([_shown(table), *_ruled(table)], width=width)


def render_markdown(table: ReproducedTable) -> str:
    """A GitHub-flavoured Markdown table, its caption below it."""
    shown = [replace(_shown(table), title=""), *_ruled(table), *_tried(table)]
    return f"# {for_markdown(table.title)}\n\n" + to_markdown(shown)


def _shown(table: ReproducedTable) -> Table:
    columns = [Column("Row", is_text=True), Column("", is_text=True)]
    columns += [Column(METRICS[name].short, METRICS[name].average) for name in table.columns]
    rows: list[tuple[str, ...] | None] = []
    for row in table.rows:
        rows += [None] if rows else []
        for i, (kind, cells) in enumerate(row_lines(row)):
            rows.append(("" if i else row.title, kind, *cells))
    return Table(tuple(columns), tuple(rows), table.title, (*table.caption, *_states(table)))


def _ruled(table: ReproducedTable) -> list[Table]:
    """F1 under each decision rule, of the rows that have these; nothing where none has."""
    found = [(row.name, row.decisions) for row in table.rows if row.decisions]
    if not found:
        return []
    columns = [Column("Row", is_text=True)]
    columns += [Column(f"{a} F1", rule) for rule in RULES for a in ("micro", "macro")]
    rows = []
    for name, ruled in found:
        numbers = [
            ruled.values.get(rule, {}).get(f"{a}_f1") for rule in RULES for a in ("micro", "macro")
        ]
        rows.append((name, *("-" if one is None else f"{one:.2f}" for one in numbers)))
    told = [f"{rule}: {RULE_TEXTS[rule]}." for rule in RULES]
    told.append(
        "The threshold is that of the chosen trial's scores, training seed 0, for every seed. "
        "Precision and recall are in the .json."
    )
    return [Table(tuple(columns), tuple(rows), "Decision rules", tuple(told))]


def _tried(table: ReproducedTable) -> list[Table]:
    """What was tried on val, of the rows that had a choice; nothing where none had."""
    rows: list[tuple[str, ...] | None] = []
    for row in table.rows:
        if len(row.trials) < 2 or row.state.startswith("not run"):
            continue
        rows += [None] if rows else []
        for i, trial in enumerate(row.trials):
            told = ", ".join(f"{name}={value}" for name, value in trial.settings.items())
            values = [
                "failed" if one is None else f"{one:.2f}"
                for one in (trial.macro_ap, trial.micro_ap)
            ]
            rows.append(("" if i else row.name, told, *values, "chosen" if trial.chosen else ""))
    if not rows:
        return []
    columns = (
        Column("Row", is_text=True),
        Column("Trial", is_text=True),
        Column("macro AP"),
        Column("micro AP"),
        Column("", is_text=True),
    )
    told = (
        "On the val episodes, training seed 0. The highest macro-AP was chosen, then novel was run."
    )
    return [Table(columns, tuple(rows), "Trials on val", (told,))]


def render_csv(table: ReproducedTable) -> str:
    """A line for each row and metric; in the last column what marks the table as partial."""
    fields = [name for name in Cell.__dataclass_fields__ if name != "rank" or table.ranked]
    lines: list[list[object]] = [
        ["row", "method", "notes", "state", "metric", "seeds", *fields, "marks"]
    ]
    marks = " ".join(line for line in table.caption if line.startswith(MARKS))
    for row in table.rows:
        for column, cell in row.cells.items():
            texts = [row.name, row.method, "; ".join(row.notes), row.state, column]
            lines.append([*texts, len(row.runs), *(getattr(cell, f) for f in fields), marks])
    return csv_text(lines)


def render_json(table: ReproducedTable) -> str:
    """Everything, with folder and key of each run; a line for each row.

    `half_width` and `paired_half_width` are over episodes, those with `image` over images.
    """
    value = asdict(table)
    for row in value["rows"]:  # a table that is not tuned has none of these
        for key in ("trials", "decisions"):
            if not row[key]:
                del row[key]
        for cell in row["cells"].values() if not table.ranked else ():
            del cell["rank"]
    return json_lines({"schema_version": 1, "kind": KIND, **value}, "rows")


def json_lines(value: dict[str, Any], key: str) -> str:
    """`value` as JSON, with a line for each element of the list at `key`."""
    rest = {name: one for name, one in value.items() if name != key}
    top = for_json(rest).removesuffix("\n}")
    lines = (json.dumps(one, allow_nan=False).replace("\x7f", "\\u007f") for one in value[key])
    return f'{top},\n  "{key}": [\n    ' + ",\n    ".join(lines) + "\n  ]\n}\n"


RENDERERS = {".md": render_markdown, ".csv": render_csv, ".json": render_json}


def read_table(path: Path) -> ReproducedTable | None:
    """The table in a JSON file that `render_json` wrote; None for another kind of file."""
    value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if value.get("kind") != KIND:
        return None
    return TypeAdapter(ReproducedTable).validate_python(value)


def row_lines(row: TableRow) -> list[tuple[str, list[str]]]:
    """(kind, a text for each column) for every line that has something to say."""
    state = row.state.partition(":")[0]
    names = {"measured": state or "measured", "seeds": f"{len(row.runs)} seeds"}
    lines = []
    for kind in KINDS:
        cells = [cell_text(row, column, kind) for column in row.cells]
        if any(cells) or kind == "measured":
            texts = ["-" if not text or text == state else text for text in cells]
            lines.append((names.get(kind, kind), texts))
    return lines


def cell_text(row: TableRow, column: str, kind: str) -> str:
    """What stands in a cell for one of KINDS, ± over images; empty where there is nothing."""
    cell = row.cells[column]
    if kind == "seeds":
        several = len(row.runs) > 1 and cell.low is not None
        return f"{cell.low:.2f}–{cell.high:.2f}" if several else ""
    number: float | None = getattr(cell, kind)
    if number is None:
        return row.state.partition(":")[0] if kind == "measured" else ""
    if kind == "rank":
        return str(number)
    text = f"{number:+.2f}" if kind in ("difference", "paired") else f"{number:.2f}"
    if kind not in ("measured", "paired"):
        return text
    half = cell.paired_image_half_width if kind == "paired" else cell.image_half_width
    return text if half is None else f"{text} ± {half:.2f}"


def _states(table: ReproducedTable) -> list[str]:
    """Why rows have no measured values, and how many seeds the others have."""
    lines = [f"{row.name}: {row.state}." for row in table.rows if row.state]
    counts: dict[int, list[str]] = {}
    for row in table.rows:
        if row.runs:
            counts.setdefault(len(row.runs), []).append(row.name)
    told = [f"{n} for {', '.join(names)}" for n, names in sorted(counts.items())]
    return lines + ([f"Training seeds: {'; '.join(told)}."] if told else [])

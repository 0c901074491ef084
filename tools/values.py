"""Numbers in sentences: what `<!-- value: FILE ADDRESS -->...<!-- end -->` shows of its file.

    <!-- value: results/measured/scenes/table1.json LaSO|macro_ap|seeds -->61.46–63.04<!-- end -->

All of it stands on one line, with a word before it: a line that begins with a comment ends the
paragraph in Markdown. In a reproduced table (`.json`) the address is ROW|METRIC|KIND, and the value
of that kind (measured, seeds, published, difference, paired) is written as in a block: in per cent,
with its sign and interval; a decision rule (own, val, count) may stand for the kind, with a metric
such as micro_f1. In other `.json` files the address is the way to a number: keys, the
`name` of one object in a list, or its place from 0. `|%` at its end shows a fraction in per cent.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.experiments.render import KINDS, cell_text, read_table
from mlfsic_bench.experiments.table import ReproducedTable
from mlfsic_bench.metrics.decisions import RULES

_VALUE = re.compile(r"(<!-- value: (\S+) ([^>]+?) -->)(.*?)<!-- end -->")
_FENCE = re.compile(r"^\s*(```|~~~)")


def fill(text: str, root: Path, page: str) -> str:
    """The text of `page` with every value made anew; BenchError for one that is nowhere."""
    fenced = False
    lines = text.split("\n")
    for i, line in enumerate(lines):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and "<!-- value" in line:
            begins = line.lstrip().startswith("<!-- value")
            if begins or len(_VALUE.findall(line)) != line.count("<!-- value"):
                raise BenchError(
                    f"{page}, line {i + 1}: this value cannot be read",
                    expected="on one line, after a word: <!-- value: FILE ADDRESS --><!-- end -->",
                    found=line[line.index("<!-- value") :][:80],
                    remedy="see tools/values.py",
                )
            lines[i] = _VALUE.sub(lambda m: f"{m[1]}{value(root, m[2], m[3])}<!-- end -->", line)
    return "\n".join(lines)


def value(root: Path, source: str, address: str) -> str:
    """What the file has at the address, as text."""
    path = root / source
    if path.suffix != ".json" or not path.is_file():
        raise _wrong(source, address, "a .json file of this repository")
    parts, table = address.split("|"), read_table(path)
    if table is None:
        made = _of_json(json.loads(path.read_text("utf-8")), source, parts)
    else:
        made = _of_table(table, source, parts)
    return made.replace("-", "−")


def _of_table(table: ReproducedTable, source: str, parts: list[str]) -> str:
    rows = [row for row in table.rows if row.name == parts[0]]
    if len(rows) == 1 and len(parts) == 3 and parts[2] in RULES and rows[0].decisions:
        found = rows[0].decisions.values.get(parts[2], {}).get(parts[1])
        if found is None:
            raise _wrong(source, "|".join(parts), "a metric and a rule that this row has")
        return f"{found:.2f}"
    if len(rows) != 1 or len(parts) != 3 or parts[1] not in rows[0].cells:
        names = ", ".join(row.name for row in table.rows)
        raise _wrong(source, "|".join(parts), f"ROW|METRIC|KIND with a row of {names}")
    if parts[2] not in KINDS:
        raise _wrong(source, "|".join(parts), f"one of {', '.join(KINDS)}")
    made = cell_text(rows[0], parts[1], parts[2])
    if not re.match(r"[-+]?\d", made):
        raise _wrong(source, "|".join(parts), "a number, which this row has not")
    return made


def _of_json(content: Any, source: str, parts: list[str]) -> str:
    share = parts[-1] == "%"
    for part in parts[: len(parts) - share]:
        if isinstance(content, list):
            known = {str(i): one for i, one in enumerate(content)}
            known |= {one["name"]: one for one in content if "name" in one}
        else:
            known = content if isinstance(content, dict) else {}
        if part not in known:
            raise _wrong(source, "|".join(parts), f"one of {', '.join(known)} in place of {part}")
        content = known[part]
    if isinstance(content, bool) or not isinstance(content, (int, float)):
        raise _wrong(source, "|".join(parts), "the way to a number")
    return f"{100 * content:.1f} %" if share else str(round(content, 2))


def _wrong(source: str, address: str, expected: str) -> BenchError:
    return BenchError(
        f"a value asks for something that {source} has not",
        expected=expected,
        found=address,
        remedy="correct the mark <!-- value: ... --> of the page",
    )

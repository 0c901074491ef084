"""Checks of an archived table: its JSON against the runs, its Markdown and CSV against the JSON."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from tests.results.archived import episodes_of, interval, record_of, same

PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published"
# Half widths over images and, beside them, over episodes.
OVER_IMAGES = {"image_half_width": "half_width", "paired_image_half_width": "paired_half_width"}
KIND = "mlfsic-bench reproduced table"


def is_table(path: Path) -> bool:
    return path.suffix == ".json" and json.loads(path.read_text("utf-8")).get("kind") == KIND


def check_cells(table: Path) -> None:
    """Every figure of the table's JSON follows from episodes.csv and the published table."""
    value = json.loads(table.read_text("utf-8"))
    rows = {row["name"]: row for row in value["rows"]}
    assert len(rows) == len(value["rows"])
    series = {name: _series(table, row) for name, row in rows.items()}
    literature = {}
    if value["published"]:
        paper = json.loads((PUBLISHED / f"{value['published']}.json").read_text("utf-8"))
        literature = {row["name"]: row["values"] for row in paper["rows"]}
    reference = series.get(value["reference"])
    for name, row in rows.items():
        assert bool(row["runs"]) != bool(row["state"]), f"{name}: figures or a reason, not both"
        for column, cell in row["cells"].items():
            where = f"{table.name}, {name}, {column}"
            own = [frame[column] for frame in series[name]]
            means = [m for m, _ in map(interval, own) if m is not None]
            ours = float(np.mean(means)) if len(means) == len(own) > 0 else None
            each = np.mean(own, axis=0) if own else np.array([])
            expected = {
                "ours": ours,
                "half_width": interval(each)[1],
                "low": min(means) if ours is not None else None,
                "high": max(means) if ours is not None else None,
                "published": literature.get(row["published_row"], {}).get(column),
            }
            paper_figure = expected["published"]
            gap = None if ours is None or paper_figure is None else ours - paper_figure
            expected["difference"] = gap
            paired: tuple[float | None, float | None] = (None, None)
            if own and reference and name != value["reference"]:
                other = np.mean([frame[column] for frame in reference], axis=0)
                n = min(len(each), len(other))
                paired = interval(each[:n] - other[:n])
            expected["paired"], expected["paired_half_width"] = paired
            assert set(cell) - set(OVER_IMAGES) == set(expected), where
            for key, number in expected.items():
                same(cell[key], number, f"{where}, {key}")
            _check_over_images(cell, value.get("interval", "episodes"), where)


def _check_over_images(cell: dict[str, float | None], kind: str, where: str) -> None:
    """They need the images to be computed again; what can be told without is told here."""
    for wide, narrow in OVER_IMAGES.items():
        if kind == "images" and cell[narrow] is not None:
            assert cell[wide] is not None, f"{where}, {wide}: absent"
            assert cell[wide] >= cell[narrow] - 1e-9, (
                f"{where}, {wide}: below the one over episodes"
            )
        else:
            assert cell.get(wide) is None, f"{where}, {wide}"


def _series(table: Path, row: dict[str, Any]) -> list[dict[str, np.ndarray]]:
    frames = []
    for run in row["runs"]:
        folder = table.parent / "runs" / run["folder"]
        record = record_of(folder)
        assert (record["key"], record["method"]["seed"]) == (run["key"], run["seed"]), folder
        frames.append(episodes_of(folder))
    assert len({run["seed"] for run in row["runs"]}) == len(row["runs"])
    return frames


def check_markdown(table: Path) -> None:
    """The Markdown beside the JSON shows its figures, to two digits, and no others."""
    value = json.loads(table.read_text("utf-8"))
    text = table.with_suffix(".md").read_text("utf-8")
    shown = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    expected = []
    half, paired = OVER_IMAGES.values()
    if value.get("interval", "episodes") == "images":
        half, paired = OVER_IMAGES
    for row in value["rows"]:
        cells = list(row["cells"].values())
        lines = [
            (row["state"].partition(":")[0] or "ours", [_pm(c["ours"], c[half], "") for c in cells])
        ]
        if len(row["runs"]) > 1:
            spread = ["-" if c["low"] is None else f"{c['low']:.2f}–{c['high']:.2f}" for c in cells]
            lines.append((f"{len(row['runs'])} seeds", spread))
        if any(c["published"] is not None for c in cells):
            lines.append(("published", [_number(c["published"], "") for c in cells]))
            if not row["state"]:
                lines.append(("difference", [_number(c["difference"], "+") for c in cells]))
        if any(c["paired"] is not None for c in cells):
            lines.append(("paired", [_pm(c["paired"], c[paired], "+") for c in cells]))
        expected += [[kind, *texts] for kind, texts in lines]
    assert [line[1:] for line in shown[2:]] == expected, table.with_suffix(".md")
    names = [re.sub(r"\\(.)", r"\1", line[0]) for line in shown[2:] if line[0]]
    notes = [f" [{', '.join(row['notes'])}]" if row["notes"] else "" for row in value["rows"]]
    unescaped = [name.replace("&lt;", "<").replace("&gt;", ">") for name in names]
    assert unescaped == [r["name"] + n for r, n in zip(value["rows"], notes, strict=True)]
    for line in value["caption"]:
        assert line in re.sub(r"\\(.)", r"\1", text).replace("&gt;", ">").replace("&lt;", "<")


def _number(value: float | None, sign: str) -> str:
    return "-" if value is None else f"{value:{sign}.2f}"


def _pm(value: float | None, half: float | None, sign: str) -> str:
    return _number(value, sign) + ("" if half is None else f" ± {half:.2f}")


def check_csv(table: Path) -> None:
    """The CSV beside the JSON has its figures in full."""
    value = json.loads(table.read_text("utf-8"))
    with table.with_suffix(".csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    cells = [(row, column) for row in value["rows"] for column in row["cells"]]
    assert len(lines) == len(cells), table.with_suffix(".csv")
    for line, (row, column) in zip(lines, cells, strict=True):
        assert (line["metric"], int(line["seeds"])) == (column, len(row["runs"]))
        for key, number in row["cells"][column].items():
            assert line[key] == ("" if number is None else repr(number)), (row["name"], column, key)

"""Compute every archived table again from what is stored, and compare it with its files as text.

    python -m tools.check_archive          # the same as `make check-results`

A line for each table, curve, demo and picture in results/measured, and for each run with scores or
their order; exit code 1 where a file differs. It needs no data set. An interval over images needs
scores or their order: without them it is taken from the table's JSON, and the line says how often.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mlfsic_bench.analysis.attention.pointing import WRITERS, Estimate, Line, Pointing
from mlfsic_bench.analysis.curve import ALWAYS, Curve, Level, Point, labels_used, name_of
from mlfsic_bench.analysis.curve import Line as CurveLine
from mlfsic_bench.analysis.curve_tables import as_csv, as_table, sentences
from mlfsic_bench.evaluation.record import ORDER, SCORES, Record, parse_record, read_record
from mlfsic_bench.experiments.archive import (
    FOLDER,
    RUNS,
    TRIALS,
    archived_folder,
    has_order,
    kept_runs,
    read_runs,
)
from mlfsic_bench.experiments.breakdown import (
    TableBreakdown,
    lines_of,
    read_breakdown,
    render_breakdown,
)
from mlfsic_bench.experiments.remake import remake, shared_targets
from mlfsic_bench.experiments.render import RENDERERS, read_table
from mlfsic_bench.experiments.table import (
    Cell,
    Float64,
    ReproducedTable,
    TableRow,
    per_cent,
)
from mlfsic_bench.files import PACKED
from mlfsic_bench.metrics.intervals import t_interval
from mlfsic_bench.metrics.registry import METRICS
from mlfsic_bench.results.result import open_result
from mlfsic_bench.results.table import to_markdown
from mlfsic_bench.text import for_markdown
from tools import archive_demo

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "results" / "measured"
ROUNDED = 1e-8  # how far a number of values with 10 decimals may be from the record's


@dataclass(frozen=True)
class Report:
    """What came of one check: the file, what was computed again, and what differs."""

    name: str
    said: str
    differences: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """As printed."""
        if self.differences:
            return f"DIFFERS  {self.name}: {'; '.join(self.differences)}"
        return f"same     {self.name}: {self.said}"


def check_all(
    measured: Path, wanted: Callable[[Path], bool] = lambda path: True
) -> Iterator[Report]:
    """Every check of an archive, in the order of the files; of these the `wanted` ones."""
    for folder in sorted(path for path in measured.iterdir() if path.is_dir()):
        for path in filter(wanted, sorted(folder.iterdir())):
            if path.name.endswith((RUNS + PACKED, TRIALS + PACKED)):
                yield check_runs(path.with_suffix(""))
            elif path.suffix == ".json":
                yield _check_json(path)
            elif path.suffix == ".csv" and not path.with_suffix(".json").exists():
                yield check_curve(path)
            elif path.name == "demo.md":
                yield check_demo(path)
        for name in (SCORES, ORDER):
            for path in filter(wanted, sorted(folder.rglob(f"{name}*"))):
                yield check_scores(path.parent)


def _check_json(path: Path) -> Report:
    if read_table(path):
        return check_table(path)
    breakdown = read_breakdown(path)
    return check_breakdown(path, breakdown) if breakdown else check_attention(path)


def check_breakdown(path: Path, breakdown: TableBreakdown) -> Report:
    """A breakdown's Markdown and JSON are those of the scores; of object sizes, as stored."""
    folders = [[archived_folder(path, run.folder) for run in c.runs] for c in breakdown.columns]
    made, said = breakdown, "the .md follows from the .json (no scores)"
    if all(has_order(folder) for own in folders for folder in own):
        shown = [[open_result(folder) for folder in own] for own in folders]
        lines = lines_of(shown, [shared_targets(own[0]) for own in folders])
        said = f"{len(lines)} lines computed again; .md and .json"
        kept = [line for line in breakdown.lines if line.by == "object size"]
        made = replace(breakdown, lines=(*lines, *kept))
    wrong = [] if made.lines == breakdown.lines else [".json"]
    if render_breakdown(made) != path.with_suffix(".md").read_text("utf-8"):
        wrong.append(".md")
    return Report(_name(path), said, tuple(wrong))


def check_table(path: Path) -> Report:
    """A table's JSON, Markdown and CSV are those of the values of its runs."""
    made = remake(path)
    differences = _texts(path, made.table)
    for row, records in zip(made.table.rows, made.records, strict=True):
        differences += [
            f"{row.name}, {column}: an interval over images is the shorter one"
            for column, cell in row.cells.items()
            if _shorter(cell)
        ]
        differences += _wrong_choice(path, row, records)
    return Report(_name(path), f"{made.said}; .json, .md and .csv", tuple(differences))


def _texts(path: Path, table: ReproducedTable) -> list[str]:
    """The first line that differs in each of a table's files."""
    found = []
    for ending, render in RENDERERS.items():
        expected = render(table).split("\n")
        there = path.with_suffix(ending).read_text("utf-8").split("\n")
        if there != expected:
            lines = zip(there, expected, strict=False)
            i = next(
                (i for i, (a, b) in enumerate(lines) if a != b), min(map(len, (there, expected)))
            )
            found.append(f"{ending}, line {i + 1}")
    return found


def _wrong_choice(path: Path, row: TableRow, records: Sequence[Record | None]) -> list[str]:
    """What is wrong with the trials of a row: the best on val is chosen, and was run on novel."""
    wrong, known = [], {}
    for trial in row.trials:
        if trial.macro_ap is None:
            continue  # it failed, and left nothing
        if trial.folder not in kept_runs(path, TRIALS):
            wrong.append(f"{row.name}: no record of the trial {trial.folder}")
            continue
        record = parse_record(kept_runs(path, TRIALS)[trial.folder].record, trial.folder)
        known[trial.folder] = record
        for name, told in (("macro_ap", trial.macro_ap), ("micro_ap", trial.micro_ap)):
            if told != per_cent(record.metrics[name].mean or 0.0):
                wrong.append(f"{row.name}: the trial {trial.folder} measured another {name}")
    if not row.runs or not row.trials:
        return wrong
    chosen = [trial.folder for trial in row.trials if trial.chosen]
    best = max(known, key=lambda one: known[one].metrics["macro_ap"].mean or 0.0, default=None)
    if best is None or chosen != [best]:  # the first of equals
        return [*wrong, f"{row.name}: chosen {', '.join(chosen) or 'none'}, the best is {best}"]
    ran = [one.method.parameters for one in records if one is not None]
    if any(parameters != known[best].method.parameters for parameters in ran):
        wrong.append(f"{row.name}: a run has other parameters than the trial that was chosen")
    return wrong


def _shorter(cell: Cell) -> bool:
    """Whether an interval over images is shorter than that over episodes, which can't be."""
    pairs = (
        (cell.image_half_width, cell.half_width),
        (cell.paired_image_half_width, cell.paired_half_width),
    )
    return any(a is not None and b is not None and a < b for a, b in pairs)


def check_runs(path: Path) -> Report:
    """Runs without scores: the values agree with the record, which is of a clean commit."""
    wrong, runs = [], read_runs(path)
    for name, run in runs.items():
        record = parse_record(run.record, f"{path}, {name}")
        if path.name.endswith(TRIALS) and record.episodes.part != "val":
            wrong.append(f"{name}: a trial on the part {record.episodes.part}, not val")
        wrong += [f"{name}: {what}" for what in _unfit(record, run.record)]
        wrong += [f"{name}: {what}" for what in _means_differ(record, run.values)]
    return Report(_name(path), f"{len(runs)} runs agree with their records", tuple(wrong))


def check_scores(run: Path) -> Report:
    """A run with scores or their order: files are the record's, its metrics follow."""
    result = open_result(run)
    assert result.record is not None
    wrong = _unfit(result.record, json.loads((run / "record.json").read_text("utf-8")))
    metrics = [name for name in result.record.metrics if name in METRICS]
    wrong += _means_differ(result.record, result.values(metrics, shared_targets(run)))
    return Report(_name(run), f"{len(metrics)} metrics from scores", tuple(wrong))


def _means_differ(record: Record, values: Mapping[str, Float64]) -> list[str]:
    found = []
    for name, each in values.items():
        stored = record.metrics[name]
        for what, number, there in zip(
            ("mean", "half width"), t_interval(each), (stored.mean, stored.half_width), strict=True
        ):
            if (there is None) != bool(np.isnan(number)) or abs(number - (there or 0)) > ROUNDED:
                found.append(f"{name}, {what}: {number}, in the record {there}")
    return found


def _unfit(record: Record, value: dict[str, Any]) -> list[str]:
    """Why a record is not one to publish: not whole, a changed checkout, paths of a disk."""
    made = record.provenance
    found = [] if record.status == "success" else [f"status {record.status}"]
    if made.dirty is not False or not re.fullmatch(r"[0-9a-f]{40}", made.commit or ""):
        found.append("not made from a clean commit")
    paths = [word for word in made.command if re.search(r"(^|[=:,])(/|~|[A-Za-z]:[\\/])", word)]
    paths += re.findall(r'"(?:/|file:)[^"]*"', json.dumps(value))
    return found + ([f"absolute paths {paths}"] if paths else [])


def check_demo(path: Path) -> Report:
    """The demo's table is that of its scores."""
    runs = archive_demo.runs_in(path.parent, path.with_suffix(""))
    same = path.read_text("utf-8") == archive_demo.table_of(runs)
    return Report(_name(path), f"the table of {len(runs)} runs", () if same else ("the text",))


def check_curve(path: Path) -> Report:
    """A curve's points and slopes are those of the values of its runs.

    How many base images a run used is taken from the CSV; it takes the images to count them.
    """
    lines = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    points: dict[tuple[str, str], Point] = {}
    seeds: dict[tuple[str, str], set[str]] = {}
    for line in lines:
        seeds.setdefault((line["method"], line["base_images"]), set()).add(line["seed"])
    for line in lines:
        at = line["method"], line["base_images"]
        if at not in points:
            points[at] = _point(path, line, seeds[at])
    names = list(dict.fromkeys(name for name, _ in points))
    own = {name: [p for (other, _), p in points.items() if other == name] for name in names}
    first = lines[0]
    curve = Curve(
        split=first["split"],
        split_hash="",
        subset=first["subset"] == "true",
        episodes=int(first["episodes"]),
        of_episodes=int(first["episodes"]),
        labels="",
        backbone="",
        embeddings="",
        base_images=int(first["of_base_images"]),
        chance={},
        lines=tuple(CurveLine(n, tuple(ps)) for n, ps in own.items() if ps[0].images),
        levels=tuple(Level(n, ps[0]) for n, ps in own.items() if not ps[0].images),
    )
    wrong = [] if as_csv(curve) == path.read_text("utf-8") else [".csv"]
    text = path.with_suffix(".md").read_text("utf-8").split("\n")
    shown = [line for line in to_markdown([as_table(curve)]).split("\n") if line.startswith("|")]
    if shown != [line for line in text if line.startswith("|")]:
        wrong.append("the table in .md")
    slopes = [f"- {for_markdown(line)}" for line in sentences(curve, ALWAYS[0], None)]
    wrong += [f"not in .md: {line}" for line in slopes if line not in text]
    return Report(
        _name(path), f"{len(points)} points, {len(slopes)} slopes; .md and .csv", tuple(wrong)
    )


def _point(path: Path, line: Mapping[str, str], seeds: set[str]) -> Point:
    """The point of a CSV's line, from the runs of its method, number of base images and seeds."""
    images, whole = int(line["base_images"] or 0), int(line["of_base_images"])
    own = sorted(
        (
            (record, values)
            for record, values in _runs_of_curve(path)
            if name_of(record) == line["method"]
            and record.split.id == line["split"]
            and record.episodes.count == int(line["episodes"])
            and not record.method.preset
            and str(record.method.seed) in seeds
            and images in (0, record.base_images.used if record.base_images else whole)
        ),
        key=lambda one: one[0].method.seed,
    )
    each = {m: np.stack([values[m] for _, values in own]) for m in ALWAYS}
    used = line["base_images_used"]
    return Point(
        images=images,
        seeds=tuple(record.method.seed for record, _ in own),
        values={m: tuple(100 * float(t_interval(row)[0]) for row in each[m]) for m in ALWAYS},
        half_width={m: 100 * t_interval(each[m].mean(axis=0))[1] for m in ALWAYS},
        labels=labels_used(own[0][0]) if images else None,
        used=int(used) if used else None,
    )


@cache
def _runs_of_curve(path: Path) -> list[tuple[Record, Mapping[str, Float64]]]:
    """All archived runs that may be points, with the values of each episode.

    Runs with scores, which tables share, count where network and parameters are those of the
    curve's own runs; parameters of a method that has none there are the defaults. Without runs of
    its own, a curve is made of all.
    """
    runs: list[tuple[Record, Mapping[str, Float64]]] = [
        (parse_record(run.record, name), run.values) for name, run in kept_runs(path, RUNS).items()
    ]
    own = {one.method.name: one.method.parameters for one, _ in runs}
    networks = {_network(one) for one, _ in runs if one.features}
    for folder in sorted((path.parent / FOLDER).glob("*")):
        record = read_record(folder)
        method = record.method
        defaults = method.parameters if not method.changed else None
        known = _network(record) in {*networks, ""}
        if not own or (known and method.parameters == own.get(method.name, defaults)):
            runs.append((record, open_result(folder).values(ALWAYS, shared_targets(folder))))
    return runs


def _network(record: Record) -> str:
    return record.features.backbone if record.features else ""


def check_attention(path: Path) -> Report:
    """The tables of `figure4` in Markdown are those of its JSON."""
    text = path.with_suffix(".md").read_text("utf-8")
    runs = json.loads(path.read_text("utf-8"))["runs"]
    missing = []
    for run in runs:
        made = _pointing({k: v for k, v in run.items() if k not in ("row", "folder")})
        tables = [line for line in WRITERS["markdown"](made).split("\n") if line.startswith("|")]
        if "\n".join(tables) not in text:
            missing.append(f"the table of {run['row']}, seed {run['seed']}")
    return Report(_name(path), f"{len(runs)} tables follow from the JSON", tuple(missing))


def _pointing(value: dict[str, Any]) -> Pointing:
    lines = {name: _lines(one) for name, one in value.items()}
    return Pointing(**{**lines, "grid": tuple(value["grid"])})


def _lines(value: Any) -> Any:
    """A Line for each object of JSON, whose objects are estimates; null is NaN."""
    if isinstance(value, list):
        return tuple(map(_lines, value))
    if not isinstance(value, dict):
        return value
    numbers = {key: np.nan if one is None else one for key, one in value.items()}
    each = {key: _lines(one) for key, one in numbers.items()}
    return Line(**each) if "name" in each else Estimate(**each)


def _name(path: Path) -> str:
    return path.relative_to(MEASURED).as_posix() if path.is_relative_to(MEASURED) else path.name


def main() -> int:
    """Check the archive of this checkout; the exit code."""
    reports = list(check_all(MEASURED))
    for report in reports:
        print(report.line)
    wrong = sum(bool(report.differences) for report in reports)
    print(f"{len(reports)} checks, {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

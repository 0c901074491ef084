"""Checks of what `mlfsic-bench reproduce --archive` left, written apart from the code that made it.

Each takes a path and raises AssertionError. Figures are computed from runs/*/episodes.csv with
numpy and scipy, and those from raw scores, where these lie beside, with our metrics and, for some
episodes, with scikit-learn.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn import metrics as sk

from mlfsic_bench.hashing import hash_file
from mlfsic_bench.metrics.episode import episode_metrics
from mlfsic_bench.report.table import COLUMNS

PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published"
# Half widths over images and, beside them, over episodes.
OVER_IMAGES = {"image_half_width": "half_width", "paired_image_half_width": "paired_half_width"}
KIND = "mlfsic-bench reproduced table"


def is_table(path: Path) -> bool:
    return path.suffix == ".json" and json.loads(path.read_text("utf-8")).get("kind") == KIND


def record_of(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "record.json").read_text("utf-8"))
    return value


def episodes_of(run: Path) -> dict[str, np.ndarray]:
    """Each metric in every episode, fractions."""
    with (run / "episodes.csv").open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream)
    assert head == ["episode", *COLUMNS], run
    assert [row[0] for row in rows] == [str(i) for i in range(len(rows))], run
    assert len(rows) == record_of(run)["episodes"]["count"], run
    values = np.array([[float(cell) for cell in row[1:]] for row in rows])
    return dict(zip(COLUMNS, values.T, strict=True))


def interval(values: np.ndarray) -> tuple[float | None, float | None]:
    """(mean, half width) in per cent over the values that are defined."""
    x = 100 * values[~np.isnan(values)]
    if len(x) < 2:
        return (float(x[0]) if len(x) else None), None
    return float(x.mean()), float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5)


def same(found: float | None, expected: float | None, where: str) -> None:
    if found is None or expected is None:
        assert found is expected, f"{where}: {found}, expected {expected}"
    else:
        assert abs(found - expected) <= 1e-9, f"{where}: {found!r}, expected {expected!r}"


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


def check_curve(path: Path) -> None:
    """Each point of a learning curve's CSV is the mean of an archived run, and in the Markdown."""
    records = [(run, record_of(run)) for run in sorted((path.parent / "runs").iterdir())]
    with path.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert lines
    text = path.with_suffix(".md").read_text("utf-8")
    for line in lines:
        where = f"{path.name}, {line['method']}, {line['base_images'] or 'any'}, {line['seed']}"
        if line["seed"] == "mean":
            seeds = [one for one in lines if _place(one) == _place(line) and one is not line]
            for metric in ("macro_ap", "micro_ap"):
                mean = np.mean([float(one[metric]) for one in seeds])
                assert abs(float(line[metric]) - mean) <= 1.1e-4, where
            assert f"{float(line['macro_ap']):.2f}" in text or _at_half(line["macro_ap"]), where
            continue
        values = [
            [100 * float(episodes_of(run)[metric].mean()) for metric in ("macro_ap", "micro_ap")]
            for run, record in records
            if record["split"]["id"] == line["split"]
            and record["method"]["name"] == line["method"].split(" ")[0]
            and record["method"]["seed"] == int(line["seed"])
            and _images(record, line) == line["base_images"]
        ]
        shown = [float(line["macro_ap"]), float(line["micro_ap"])]
        near = [np.abs(np.subtract(value, shown)).max() <= 5.1e-5 for value in values]
        assert any(near), f"{where}: {shown} is none of the archived runs {values}"


def _place(line: dict[str, str]) -> tuple[str, str]:
    return line["method"], line["base_images"]


def _at_half(number: str) -> bool:
    return number.endswith("50")  # rounded twice: four digits, then two


def _images(record: dict[str, Any], line: dict[str, str]) -> str:
    if line["trains"] == "false":
        return ""
    cut = record["base_images"]
    return str(cut["used"]) if cut else line["of_base_images"]


def check_scores(run: Path) -> None:
    """episodes.csv follows from the raw scores beside it, to 1e-12."""
    record = record_of(run)
    for name in ("scores.npz", "answers.npz"):
        assert hash_file(run / name) == record["outputs"][name], run / name
    with np.load(run / "scores.npz") as file:
        scores = file["scores"]
        decisions = file.get("decisions", scores > 0)
    with np.load(run / "answers.npz") as file:
        targets = file["targets"]
    frame = episodes_of(run)
    ours = episode_metrics(scores, targets, decisions, names=COLUMNS)
    for column in COLUMNS:
        found, expected = frame[column], ours[column]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12, err_msg=f"{run} {column}")
    for episode in range(0, len(scores), max(1, len(scores) // 5)):
        s, y, d = scores[episode], targets[episode], decisions[episode]
        expected = {"micro_ap": sk.average_precision_score(y, s, average="micro")}
        for average in ("micro", "macro"):
            p, r, *_ = sk.precision_recall_fscore_support(y, d, average=average, zero_division=0)
            expected |= {f"{average}_precision": p, f"{average}_recall": r}
            expected[f"{average}_f1"] = 2 * p * r / (p + r) if p + r else 0.0
        if y.any(axis=0).all():
            expected["macro_ap"] = sk.average_precision_score(y, s, average="macro")
        for column, number in expected.items():
            assert abs(frame[column][episode] - number) <= 1e-12, (
                f"{run}, episode {episode}, {column}"
            )


def check_means(run: Path) -> None:
    """The record's means and half widths are those of episodes.csv."""
    frame = episodes_of(run)
    metrics = record_of(run)["metrics"]
    assert metrics
    for name in set(metrics) & set(COLUMNS):
        mean, half = interval(frame[name])
        for key, number in (("mean", mean), ("half_width", half)):
            stored = metrics[name][key]
            same(None if stored is None else 100 * stored, number, f"{run}, {name}, {key}")


def check_record(run: Path) -> None:
    """A whole run of a clean commit, and nothing of somebody's disk."""
    record = record_of(run)
    assert record["status"] == "success", run
    assert re.fullmatch(r"[0-9a-f]{40}", record["provenance"]["commit"] or ""), run
    assert record["provenance"]["dirty"] is False, f"{run}: made from a changed checkout"
    for word in record["provenance"]["command"]:
        assert not re.search(r"(^|[=:,])(/|~|[A-Za-z]:[\\/])", word), f"{run}: {word}"
    text = (run / "record.json").read_text("utf-8")
    found = re.findall(r'"(?:/|file:)[^"]*"', text)
    assert not found, f"{run}: absolute paths {found}"


def runs_named(path: Path) -> list[str]:
    """The folders of the runs that a JSON file of results names."""
    value = json.loads(path.read_text("utf-8"))
    runs = value.get("runs") or [run for row in value.get("rows", []) for run in row["runs"]]
    return [run["folder"] for run in runs]


def check_subset(path: Path) -> None:
    """The Markdown says SUBSET exactly when one of its runs was on part of the images."""
    runs = [path.parent / "runs" / name for name in runs_named(path)]
    partial = any(record_of(run)["split"]["subset"] for run in runs)
    text = path.with_suffix(".md").read_text("utf-8")
    assert ("SUBSET" in text) == partial, path.with_suffix(".md")


def check_looks(path: Path) -> None:
    """The lines of a summary of attention show the figures of its JSON."""
    text = path.with_suffix(".md").read_text("utf-8")
    shown = [re.split(r" *(?<!\\)\| *", line)[1:-1] for line in text.splitlines()]
    seven = [re.sub(r"\\(.)", r"\1", " | ".join(line)) for line in shown if len(line) == 7]
    for run in json.loads(path.read_text("utf-8"))["runs"]:
        seed = record_of(path.parent / "runs" / run["folder"])["method"]["seed"]
        hit, near, share = (run["summed"][name] for name in ("pointing", "tolerant", "share"))
        values = (hit["mean"], hit["chance"], near["mean"], share["mean"], share["chance"])
        line = " | ".join([run["row"], str(seed), *(f"{100 * value:.1f}" for value in values)])
        assert line in seven, f"{path.with_suffix('.md')}: no line {line}"

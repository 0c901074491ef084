"""Checks of archived curves and summaries against the runs that they name."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from tests.results.archived import episodes_of, record_of


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

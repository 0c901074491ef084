"""A small experiment, the command that reproduces it, and what that left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result
from sklearn.metrics import average_precision_score

from mlfsic_bench.cli.main import cli

FILE = """
schema_version: 1
kind: table
title: A small table
published: yan-2022-table1
columns: [micro_precision, macro_ap]
reference: Linear
rows:
  - {name: Random, method: random, episodes: 4}
  - {name: ProtoNet, method: protonet, episodes: 6}
  - name: Linear
    published: ResNet-50
    method: linear
    settings: {tune_epochs: 5}
    episodes: 6
  - {name: Nothing, method: protonet, backbone: vgg, published: ViT}
"""


WITHOUT_LINEAR = FILE[: FILE.index("  - name: Linear")].replace("reference: Linear\n", "")


def reproduce(file: Path, *args: str, code: int = 0) -> Result:
    out = ("--out", str(file.parent / "out"))
    result = CliRunner().invoke(
        cli,
        ["reproduce", str(file), "--dataset", "scenes", *out, *args],
        catch_exceptions=False,
    )
    assert result.exit_code == code, result.output
    return result


def small(folder: Path, text: str = FILE) -> Path:
    path = folder / "small.yaml"
    path.write_text(text)
    return path


def result_of(file: Path, stem: str = "small") -> dict[str, dict]:
    value = json.loads((file.parent / "out" / "scenes" / f"{stem}.json").read_text())
    return {row["name"]: row for row in value["rows"]}


def scores_of(file: Path, row: dict) -> list[np.ndarray]:
    """Macro-AP [E] of every run of a row, by scikit-learn, from the files alone."""
    values = []
    for run in row["runs"]:
        folder = file.parent / "out" / "scenes" / "runs" / run["folder"]
        scores = np.load(folder / "scores.npz")["scores"]
        targets = np.load(folder / "targets.npz")["targets"]
        values.append(
            np.array(
                [
                    np.mean([average_precision_score(t[:, c], s[:, c]) for c in range(s.shape[1])])
                    for s, t in zip(scores, targets, strict=True)
                ]
            )
        )
    return values


def runs_of(file: Path) -> dict[str, int]:
    runs = (file.parent / "out" / "scenes" / "runs").glob("*/scores.npz")
    return {path.parent.name: path.stat().st_mtime_ns for path in runs}

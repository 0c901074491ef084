"""Experiments that are no tables: the attention picture with its figures, and learning curves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlfsic_bench.cli.main import cli

pytestmark = pytest.mark.slow

ATTENTION = """
schema_version: 1
kind: attention
title: Where it looks
pictures: [1]
rows:
  - name: Model
    method: word-guided-attention
    episodes: 2
    settings: {epochs: 1, steps_per_epoch: 1, warmup_epochs: 0, d_j: 16, d_mlp: 16, n_a: 2}
"""
CURVE = """
schema_version: 1
kind: curve
title: More images
base_images: {scenes: [30, all]}
rows:
  - {name: Linear, method: linear, episodes: 2, settings: {tune_epochs: 3}}
  - {name: ProtoNet, method: protonet, episodes: 2}
  - {name: Other, method: linear, backbone: vgg, episodes: 2}
"""


def reproduce(file: Path, *args: str, code: int = 0) -> Result:
    out = ("--out", str(file.parent / "out"))
    command = ["reproduce", str(file), "--dataset", "scenes", *out, *args]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def test_attention_is_drawn_and_measured(tmp_path: Path) -> None:
    from mlfsic_bench.analysis.attention.pointing import measure
    from mlfsic_bench.results.reopen import RunPaths

    file = tmp_path / "looks.yaml"
    file.write_text(ATTENTION)
    text = reproduce(file, "--seeds", "1").stdout
    out = tmp_path / "out" / "scenes"
    assert (out / "looks-episode1.png").read_bytes().startswith(b"\x89PNG")
    assert not (out / "looks-episode0.png").exists()
    assert "Split scenes-12-6-6-v1" in text
    (run,) = json.loads((out / "looks.json").read_text())["runs"]
    folder = out / "runs" / run["folder"]
    own = measure(folder, RunPaths()).summed
    assert run["summed"]["pointing"]["mean"] == pytest.approx(own.pointing.mean)
    assert run["pairs"] == own.pairs > 0
    assert "The pictures show Model, training seed 0." in text
    assert "![Model, training seed 0: attention in novel episode 1](looks-episode1.png)" in text
    assert "wrote" not in text


def test_pictures_are_of_the_first_row_and_of_no_other(tmp_path: Path) -> None:
    file = tmp_path / "looks.yaml"
    second = ATTENTION[ATTENTION.index("  - name") :].replace("Model", "Other")
    file.write_text(ATTENTION + second.replace("n_a: 2", "n_a: 1"))
    text = reproduce(file, "--seeds", "1", "--only", "Other").stdout
    assert "No pictures: they show the first row, Model, which has no run." in text
    assert not list((tmp_path / "out" / "scenes").glob("*.png"))
    assert "Other, training seed 0:" in text


def test_the_lines_below_figures_tell_each_row_apart(tmp_path: Path) -> None:
    file = tmp_path / "looks.yaml"
    file.write_text(ATTENTION)
    text = reproduce(file, "--seeds", "1").stdout
    profile, rows = (next(s for s in text.splitlines() if w in s) for w in ("by the p", "Single r"))
    assert r"select\_every=1" in profile
    assert "epochs=12" not in profile  # the row sets another number
    assert "- Single rows have other settings: Model (" in rows
    for told in ("epochs=1,", r"n\_a=2", r"d\_j=16"):
        assert told in rows


def test_a_curve_is_drawn_from_runs_on_more_and_more_images(tmp_path: Path) -> None:
    from mlfsic_bench.results.result import open_result
    from mlfsic_bench.results.targets import targets_of

    file = tmp_path / "more.yaml"
    file.write_text(CURVE)
    text = reproduce(file, "--seeds", "2").stdout
    out = tmp_path / "out" / "scenes"
    runs = [open_result(path.parent) for path in (out / "runs").glob("*/record.json")]
    cuts = sorted(r.base_images.used if r.base_images else 0 for r in runs)
    assert cuts == [0, 0, 0, 30, 30]
    assert (out / "more.png").read_bytes().startswith(b"\x89PNG")
    targets = targets_of(runs)
    whole = [
        100 * run.values(["macro_ap"], targets)["macro_ap"].mean()
        for run in runs
        if run.method.name == "linear" and not run.base_images
    ]
    assert f"{sum(whole) / 2:.2f}" in (out / "more.md").read_text()
    assert "macro_ap" in (out / "more.csv").read_text()
    assert "Other: not run: no weights at hand in place of vgg" in text
    dry = reproduce(file, "--seeds", "2", "--dry-run").stdout
    assert "5 runs in" in dry
    assert "5 done" in dry


def test_what_is_not_measured_is_named_and_the_rest_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlfsic_bench.analysis.attention import pointing
    from mlfsic_bench.errors import BenchError

    whole = pointing.measure

    def measure(folder: Path, where: object) -> object:
        if "seed0" in folder.name:
            raise BenchError("no objects here", expected="some", found="none", remedy="draw them")
        return whole(folder, where)  # type: ignore[arg-type]

    monkeypatch.setattr(pointing, "measure", measure)
    file = tmp_path / "looks.yaml"
    file.write_text(ATTENTION)
    text = reproduce(file, "--seeds", "2").stdout
    assert "Not measured: Model, training seed 0: no objects here; none." in text
    (run,) = json.loads((tmp_path / "out" / "scenes" / "looks.json").read_text())["runs"]
    assert "seed1" in run["folder"]


def test_a_curve_without_runs_archives_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlfsic_bench.launchers import runs as engine

    file = tmp_path / "more.yaml"
    file.write_text(CURVE)
    reproduce(file, "--seeds", "1", "--archive", str(tmp_path / "kept"))
    kept = {path.name for path in (tmp_path / "kept").iterdir()}
    assert kept == {"more.md", "more.csv", "more.png", "more.runs.json.xz"}

    def fails(run: object, done: engine.Done, *_: object) -> None:
        done.failed[run.folder] = "broken"  # type: ignore[attr-defined]

    monkeypatch.setattr(engine, "attempt", fails)
    result = reproduce(file, "--seeds", "1", "--archive", str(tmp_path / "again"), code=1)
    assert "No curve was drawn" in result.stdout
    assert "of an earlier call" in result.stdout
    assert "nothing was archived" in result.stderr
    assert not (tmp_path / "again").exists()

"""A newcomer's path: run methods, then look at the results, without saying anything twice.

No command after `run` is given an option whose answer the record holds.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlfsic_bench.cli.main import cli

pytestmark = pytest.mark.slow

METHODS: dict[str, list[str]] = {
    "protonet": [],
    "linear": ["--set", "tune_epochs=3"],
    "word-guided-attention": [
        "--set",
        "epochs=2",
        "--set",
        "warmup_epochs=1",
        "--set",
        "steps_per_epoch=3",
    ],
}


def do(*arguments: object) -> Result:
    found = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert found.exit_code == 0, found.output
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three methods with two seeds each, on the synthetic scenes."""
    top, made = tmp_path_factory.mktemp("newcomer"), []
    for method, settings in METHODS.items():
        for seed in (0, 1):
            folder = top / f"{method}-{seed}"
            do("run", method, "--split", "scenes-12-6-6-v1", "--backbone", "scenes-small",
               "--seed", seed, "--episodes", 12, "--out", folder, *settings)  # fmt: skip
            made.append(folder)
    return made


def test_table_has_a_row_for_each_method_and_one_interval_everywhere(runs: list[Path]) -> None:
    shown = do("table", *runs, "--format", "markdown").stdout
    for name in ("ProtoNet", "Fine-tuning", "Yan et al. (2022)"):
        assert shown.count(name) >= 1
    tables = json.loads(do("table", *runs[:1], "--format", "json").stdout)["tables"]
    scored = json.loads(do("score", runs[0], "--format", "json").stdout)
    compared = json.loads(do("compare", *runs, "--format", "json").stdout)
    in_table = tables[0]["rows"][0]["values"]["macro_ap"]
    in_score = scored["files"][0]["metrics"]["macro_ap"]
    in_compare = compared["metrics"][0]["methods"][0]
    assert in_table["mean"] / 100 == pytest.approx(in_score["mean"], abs=1e-12)
    assert in_table["half_width"] / 100 == pytest.approx(in_score["images"], abs=1e-12)
    # the two seeds of a method that does not train are equal, and so is their mean
    assert in_compare["mean"] == pytest.approx(in_score["mean"], abs=1e-12)
    assert in_compare["images"] == pytest.approx(in_score["images"], abs=1e-9)


def test_plots_and_attention(runs: list[Path], tmp_path: Path) -> None:
    for plot in ("pr", "labels", "difference", "calibration"):
        do("plot", plot, *runs, "--out", tmp_path / f"{plot}.png")
        assert (tmp_path / f"{plot}.png").read_bytes().startswith(b"\x89PNG")
    model = runs[-1]
    do("plot", "training", model, "--out", tmp_path / "training.png")
    do("attention", model, "--out", tmp_path / "attention.png")
    assert "pairs" in do("pointing", model).stdout


def test_cite_knows_what_the_latex_cites(runs: list[Path]) -> None:
    latex = do("table", *runs, "--format", "latex").stdout
    bibtex = do("cite", *runs).stdout
    keys = latex.partition(r"\cite{")[2].partition("}")[0].split(",")
    assert "yan2022inferring" in keys
    assert all(f"{{{key}," in bibtex for key in keys)


def test_submit_and_board(runs: list[Path], tmp_path: Path) -> None:
    results = tmp_path / "results"
    do("submit", "pack", *runs, "--out", results)
    do("submit", "check", results)
    do("leaderboard", "build", "--results", results)
    page = (results / "board" / "index.html").read_text(encoding="utf-8")
    assert "Scenes 12/6/6" in page
    assert "ProtoNet" in page

"""Plots of a training: its history, the step that was kept, histories that make no sense."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mlfsic_bench.analysis.plots.frame import picture
from mlfsic_bench.analysis.plots.training import training
from mlfsic_bench.errors import BenchError
from mlfsic_bench.results.conditions import MethodResult, ResultGroup, open_group
from mlfsic_bench.results.targets import SplitPlace
from tests.analysis.plotted import table, write_history


def test_training_shows_the_history(plot_folders: list[Path]) -> None:
    plot = training(open_group(plot_folders[1:]))
    rows = table(plot)
    assert [int(row["step"]) for row in rows] == [10, 20, 30, 40]
    assert [float(row["loss"]) for row in rows] == [2.0, 0.5, 0.15, 0.1]
    assert [row["val_macro_ap"] for row in rows] == ["", "61.0", "72.0", "72.0"]
    # the earliest of equals; whether it was kept is not known of this method
    assert [row["marked"] for row in rows] == ["", "", "highest on val", ""]
    assert "highest on val, step: 30, val macro-AP 72.0." in plot.alt


@pytest.mark.parametrize(
    ("select", "valued", "marks"),
    [
        ("best", True, ["", "kept", ""]),
        ("last", True, ["", "", "kept"]),
        ("best", False, ["", "", "kept"]),
        (None, False, ["", "", "kept"]),
    ],
)
def test_which_step_was_kept(
    plot_folders: list[Path], tmp_path: Path, select: str | None, valued: bool, marks: list[str]
) -> None:
    folder = shutil.copytree(plot_folders[1], tmp_path / "run")
    (folder / "history.jsonl").unlink()
    (folder / "checkpoints").mkdir(exist_ok=True)
    rows = [(i, 1.0, v if valued else None) for i, v in ((1, 0.1), (2, 0.3), (3, 0.2))]
    write_history(folder / "checkpoints", *rows)  # where a run leaves it
    of = open_group([folder])
    result = of.first
    card = result.scores.meta.method
    parameters = {**card.parameters, **({"select": select} if select else {})}
    meta = result.scores.meta.model_copy(
        update={"method": card.model_copy(update={"parameters": parameters})}
    )
    new = replace(result, scores=replace(result.scores, meta=meta))
    plot = training(ResultGroup((MethodResult("x", (new,)),), SplitPlace(), ()))
    assert [row["marked"] for row in table(plot)] == marks
    assert ("nothing was evaluated" in picture(plot, "svg").decode()) is not valued


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"step": 1}',
        '{"step": 1, "loss": "a", "lr": 0.1, "value": null}',
        '{"step": 0, "loss": 1.0, "lr": 0.1, "value": null}',
        '{"step": 1, "loss": NaN, "lr": 0.1, "value": null}',
        '{"step": 1, "loss": 1.0, "lr": 0.1, "value": 7}',
        '{"step": true, "loss": 1.0, "lr": 0.1, "value": null}',
        '{"step": 2, "loss": 1.0, "lr": 0.1, "value": null}\n' * 2,
    ],
)
def test_a_history_that_makes_no_sense(plot_folders: list[Path], tmp_path: Path, text: str) -> None:
    folder = shutil.copytree(plot_folders[1], tmp_path / "run")
    (folder / "history.jsonl").write_text(text)
    with pytest.raises(BenchError, match="not a readable training history"):
        training(open_group([folder]))


def test_what_has_no_history(plot_folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="has no training history") as error:
        training(open_group(plot_folders[:1]))
    assert "no history.jsonl" in error.value.found
    file = shutil.copy(plot_folders[1] / "scores.npz", tmp_path / "scores.npz")
    with pytest.raises(BenchError, match="has no training history") as error:
        training(open_group([Path(file)]))
    assert error.value.found == "a scores file"

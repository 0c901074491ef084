"""`plot`: every kind and every option of the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlfsic_bench.analysis.compare import compare
from mlfsic_bench.analysis.plots.calibration import calibration
from mlfsic_bench.analysis.plots.difference import difference
from mlfsic_bench.analysis.plots.frame import Plot, data, picture
from mlfsic_bench.analysis.plots.labels import labels
from mlfsic_bench.analysis.plots.precision_recall import precision_recall
from mlfsic_bench.analysis.plots.training import training
from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.results import conditions
from mlfsic_bench.results.conditions import open_group
from mlfsic_bench.results.targets import SplitPlace
from tests.analysis.compared import targets_in
from tests.analysis.plotted import EPISODES
from tests.fakes.world import Mean, Trained, fake_run

pytestmark = pytest.mark.slow


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


KINDS: dict[str, Callable[[list[Path]], Plot]] = {
    "pr": lambda folders: precision_recall(open_group(folders)),
    "labels": lambda folders: labels(open_group(folders)),
    "calibration": lambda folders: calibration(open_group(folders)),
    "difference": lambda folders: difference(compare(folders)),
    "training": lambda folders: training(open_group(folders)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_writes_picture_and_numbers(
    plot_folders: list[Path], tmp_path: Path, kind: str
) -> None:
    runs = plot_folders[1:] if kind == "training" else plot_folders
    plot = KINDS[kind](runs)
    files = [tmp_path / "a.pdf", tmp_path / "b.svg"]
    result = run("plot", kind, *runs, "--out", files[0], "--out", files[1], "--data",
                 tmp_path / "c.csv")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.output == plot.alt + "\n"
    assert files[0].read_bytes() == picture(plot, "pdf")
    assert files[1].read_bytes() == picture(plot, "svg")
    assert (tmp_path / "c.csv").read_text() == data(plot)
    bad = run("plot", kind, *runs, "--out", tmp_path / "a.gif", "--data", tmp_path / "d.csv")
    assert isinstance(bad.exception, BenchError)
    assert not (tmp_path / "d.csv").exists()
    assert run("plot", kind, *runs).exit_code == 2  # --out is required


@pytest.mark.parametrize(
    ("arguments", "make"),
    [
        (["pr", "--pooling", "episodes"], lambda f: precision_recall(open_group(f), "episodes")),
        (["pr", "--label", "jay"], lambda f: precision_recall(open_group(f), only=["jay"])),
        (["labels", "--label", "jay", "--label", "hen"], lambda f: labels(open_group(f),
                                                                         ["hen", "jay"])),
        (["calibration", "--bins", "3"], lambda f: calibration(open_group(f), 3)),
        (["difference", "--metric", "micro_ap"], lambda f: difference(
            compare(f, metrics=["micro_ap"]))),
        (["difference", "--against", "fake-mean"], lambda f: difference(
            compare(f, against="fake-mean"))),
    ],
)  # fmt: skip
def test_every_option_changes_the_picture(
    plot_folders: list[Path],
    tmp_path: Path,
    arguments: list[str],
    make: Callable[[list[Path]], Plot],
) -> None:
    out = tmp_path / "a.svg"
    table = tmp_path / "a.csv"
    result = run("plot", arguments[0], *plot_folders, *arguments[1:], "--out", out, "--data", table)
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == picture(make(plot_folders), "svg")
    assert table.read_text() == data(make(plot_folders))
    assert table.read_text() != data(KINDS[arguments[0]](plot_folders))


def test_seeds_apart(plot_folders: list[Path], tmp_path: Path) -> None:
    again = fake_run(tmp_path / "seed", Trained, episodes=EPISODES, seed=1)
    out, table = tmp_path / "a.png", tmp_path / "a.csv"
    for flag, rows in (([], 1), (["--seeds", "each"], 3)):
        result = run(
            "plot", "difference", *plot_folders, again, "--out", out, "--data", table, *flag
        )
        assert result.exit_code == 0, result.output
        assert len(table.read_text().splitlines()) == 1 + rows


@pytest.mark.parametrize("kind", ["pr", "labels", "calibration", "difference"])
def test_where_split_and_episodes_are_is_handed_on(
    plot_folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    asked = []

    def targets_of(results: list[object], place: SplitPlace) -> object:
        asked.append(place)
        return targets_in(plot_folders[0])

    monkeypatch.setattr(conditions, "targets_of", targets_of)
    result = run("plot", kind, *plot_folders, "--out", tmp_path / "a.png", "--split", "s",
                 "--data-root", "d", "--episodes-file", "e")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert asked == [SplitPlace("s", Path("d"), Path("e"))]


def test_what_can_not_be_compared_is_not_drawn(plot_folders: list[Path], tmp_path: Path) -> None:
    other = fake_run(tmp_path / "other", Mean, episodes=5)
    for kind in ("pr", "labels", "calibration", "difference"):
        result = run("plot", kind, plot_folders[0], other, "--out", tmp_path / "a.png")
        assert isinstance(result.exception, BenchError)
        assert "another set of episodes" in str(result.exception)
        assert not (tmp_path / "a.png").exists()

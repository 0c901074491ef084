"""`leaderboard build` and `check`: the files of a board are those of its entries."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.leaderboard.board import build_boards
from mlfsic_bench.leaderboard.entry import read_entries
from mlfsic_bench.leaderboard.page import board_html
from mlfsic_bench.leaderboard.text import (
    board_bibtex,
    board_csv,
    board_latex,
    board_markdown,
)
from tests.fakes.entries import entry, many_values, reported_value, write_values

ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = {
    "index.html": board_html,
    "leaderboard.md": board_markdown,
    "leaderboard.tex": board_latex,
    "leaderboard.csv": board_csv,
    "leaderboard.bib": board_bibtex,
}


def test_the_same_entries_give_the_same_bytes(tmp_path: Path) -> None:
    entries = [entry(value) for value in many_values(30)]
    for render in OUTPUTS.values():
        assert render(build_boards(entries)) == render(build_boards(entries[::-1]))
    write_values(many_values(3), tmp_path / "results")
    for out in ("a", "b"):
        done = CliRunner().invoke(
            cli,
            [
                "leaderboard",
                "build",
                "--results",
                f"{tmp_path}/results",
                "--out",
                f"{tmp_path}/{out}",
            ],
        )
        assert done.exit_code == 0, done.output
        assert "3 entries in 1 table:" in done.output
    for name in OUTPUTS:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_board_in_the_repository_is_that_of_its_entries() -> None:
    boards = build_boards(read_entries(ROOT / "results"))
    for name, render in OUTPUTS.items():
        committed = (ROOT / "results" / "board" / name).read_text(encoding="utf-8")
        assert committed == render(boards), f"run mlfsic-bench leaderboard build ({name})"


def leaderboard(*words: object):
    return CliRunner().invoke(cli, ["leaderboard", *map(str, words)])


def test_check_holds_a_built_board_against_the_entries(tmp_path: Path) -> None:
    results = write_values([reported_value(), reported_value("second")], tmp_path / "results")
    assert leaderboard("build", "--results", results).exit_code == 0
    done = leaderboard("check", "--results", results)
    assert done.exit_code == 0, done.output
    assert f"{results}/board is their board" in done.output
    for name in OUTPUTS:
        path = results / "board" / name
        text = path.read_bytes()
        for bad in (text + b"\n", text[:-1], None):
            path.unlink() if bad is None else path.write_bytes(bad)
            done = leaderboard("check", "--results", results)
            assert isinstance(done.exception, BenchError)  # exit code 2
            assert f"{path} is not the board of the entries in {results}" in str(done.exception)
            path.write_bytes(text)
    (results / "leaderboard" / "fake-4-3-3-v1" / "second.json").unlink()
    assert isinstance(leaderboard("check", "--results", results).exception, BenchError)


def test_check_of_a_board_elsewhere(tmp_path: Path) -> None:
    results = write_values([reported_value()], tmp_path / "results")
    done = leaderboard("check", "--results", results, "--board", tmp_path / "built")
    assert isinstance(done.exception, BenchError)  # named, so it must be there
    assert leaderboard("build", "--results", results, "--out", tmp_path / "built").exit_code == 0
    assert not (results / "board").exists()
    done = leaderboard("check", "--results", results, "--board", tmp_path / "built")
    assert done.exit_code == 0, done.output
    assert f"{tmp_path}/built is their board" in done.output

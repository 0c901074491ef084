"""`mlfsic-bench leaderboard`: build the board from its entries, check them, print their schema."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlfsic_bench.cli.echo import echo

if TYPE_CHECKING:
    from mlfsic_bench.leaderboard.board import Board

BOARD = "board"
RESULTS = click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    help="Folder that holds leaderboard/<split id>/<entry id>.json.",
)


@click.group("leaderboard")
def leaderboard() -> None:
    """Build the board from the entries in a results folder, or check them."""


@leaderboard.command("build")
@RESULTS
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    show_default="board in the results folder",
    help="Folder to write index.html, leaderboard.md, leaderboard.tex and leaderboard.csv in.",
)
def build(results: Path, out: Path | None) -> None:
    """Write the board as a page, as Markdown, as LaTeX and as CSV.

    The same entries give the same bytes. Entries of different versions never share a table.
    """
    from mlfsic_bench.files import write_text
    from mlfsic_bench.leaderboard.board import build_boards
    from mlfsic_bench.leaderboard.files import read_entries

    entries = read_entries(results)
    boards = build_boards(entries)
    out = out or results / BOARD
    for name, text in _files(boards).items():
        write_text(out / name, text)
    echo(
        f"{_count(len(entries), 'entry', 'entries')} on {_count(len(boards), 'board', 'boards')}: "
        f"{out / 'index.html'}"
    )


@leaderboard.command("check")
@RESULTS
@click.option(
    "--board",
    type=click.Path(path_type=Path),
    show_default="board in the results folder, where there is one",
    help="Folder of a built board, which must be that of the entries.",
)
def check(results: Path, board: Path | None) -> None:
    """Check every entry: its keys, its place, and that its evidence is there, unchanged.

    A board built from other entries, or by another version, is refused. `mlfsic-bench submit check`
    also computes every figure again.
    """
    from mlfsic_bench.leaderboard.board import build_boards
    from mlfsic_bench.leaderboard.files import check_evidence, read_entries
    from mlfsic_bench.paths import exists

    entries = read_entries(results)
    boards = build_boards(entries)
    files = sum(check_evidence(entry, results) for entry in entries)
    built = board or results / BOARD
    if board or exists(built):
        _check_built(built, _files(boards), results)
        said = f"{built} is their board"
    else:
        said = f"no board in {built} to hold against them"
    echo(
        f"{_count(len(entries), 'entry is', 'entries are')} sound; "
        f"{_count(files, 'file', 'files')} of evidence checked by hash; {said}"
    )


@leaderboard.command("schema")
def schema() -> None:
    """Print the JSON Schema of an entry."""
    from mlfsic_bench.leaderboard.files import schema_text

    echo(schema_text(), nl=False)


def _files(boards: Sequence[Board]) -> dict[str, str]:
    """The name and text of each file of a built board."""
    from mlfsic_bench.leaderboard.board_text import board_csv, board_latex, board_markdown
    from mlfsic_bench.leaderboard.page import board_html

    return {
        "index.html": board_html(boards),
        "leaderboard.md": board_markdown(boards),
        "leaderboard.tex": board_latex(boards),
        "leaderboard.csv": board_csv(boards),
    }


def _check_built(folder: Path, files: dict[str, str], results: Path) -> None:
    """Raise BenchError unless each file lies in `folder` as the entries give it."""
    from mlfsic_bench.errors import BenchError
    from mlfsic_bench.files import open_regular

    for name, text in files.items():
        expected = text.encode("utf-8")
        try:
            with open_regular(folder / name) as stream:
                same = stream.read(len(expected) + 1) == expected
            found = "another content"
        except OSError as error:
            same, found = False, error.strerror or str(error)
        if not same:
            raise BenchError(
                f"{folder / name} is not the board of the entries in {results}",
                expected="the file that `mlfsic-bench leaderboard build` writes from them",
                found=found,
                remedy=f"mlfsic-bench leaderboard build --results {results} --out {folder}",
            )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"

"""`mlfsic-bench leaderboard`: build the board from its entries, check them, print their schema."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import click

from mlfsic_bench.cli.echo import echo, echo_json
from mlfsic_bench.cli.options import text_form

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
    help="Folder to write index.html and leaderboard.md, .tex, .csv and .bib in.",
)
def build(results: Path, out: Path | None) -> None:
    """Write the board as a page, Markdown, LaTeX, CSV and BibTeX.

    The same entries give the same bytes. Entries of different versions never share a table.
    """
    from mlfsic_bench.files import write_text
    from mlfsic_bench.leaderboard.entry import read_entries

    entries = read_entries(results)
    out = out or results / BOARD
    boards, files = board_files(entries, results, out)
    for name, text in files.items():
        write_text(out / name, text)
    echo(
        f"{_count(len(entries), 'entry', 'entries')} in {_count(boards, 'table', 'tables')}: "
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
@text_form("text", "json")
def check(results: Path, board: Path | None, form: str) -> None:
    """Check the keys, place and files of every entry, and the board.

    A board built from other entries, or by another version, is refused. `mlfsic-bench submit check`
    also computes every value again.
    """
    from mlfsic_bench.leaderboard.entry import check_files, read_entries
    from mlfsic_bench.paths import exists

    entries = read_entries(results)
    built = board or results / BOARD
    made = board_files(entries, results, built)[1]
    count = sum(check_files(entry, results) for entry in entries)
    if board or exists(built):
        _check_built(built, made, results)
        said = f"{built} is their board"
    else:
        said = f"no board in {built} to compare with them"
    if form == "json":
        compared = str(built) if board or exists(built) else None
        echo_json({"entries": len(entries), "files": count, "board": compared})
        return
    echo(
        f"{_count(len(entries), 'entry is', 'entries are')} valid; "
        f"{_count(count, 'file', 'files')} checked by hash; {said}"
    )


@leaderboard.command("schema")
def schema() -> None:
    """Print the JSON Schema of an entry."""
    from mlfsic_bench.leaderboard.entry import schema_text

    echo(schema_text(), nl=False)


def board_files(entries: object, results: Path, out: Path) -> tuple[int, dict[str, str]]:
    """The number of tables of a board, and the name and text of each of its files."""
    from mlfsic_bench.leaderboard import text
    from mlfsic_bench.leaderboard.board import build_boards
    from mlfsic_bench.leaderboard.page import board_html

    boards = build_boards(entries)  # type: ignore[arg-type]
    way = quote(Path(os.path.relpath(results, out)).as_posix())
    return len(boards), {
        "index.html": board_html(boards, way),
        "leaderboard.md": text.board_markdown(boards),
        "leaderboard.tex": text.board_latex(boards),
        "leaderboard.csv": text.board_csv(boards),
        "leaderboard.bib": text.board_bibtex(boards),
    }


def _check_built(folder: Path, files: dict[str, str], results: Path) -> None:
    """Raise BenchError unless each file in `folder` is as the entries give it."""
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

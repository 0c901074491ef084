"""`mlfsic-bench leaderboard`: build the board from its entries, check them, print their schema."""

from __future__ import annotations

from pathlib import Path

import click

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
    default=Path("results/board"),
    show_default=True,
    help="Folder to write index.html, leaderboard.md, leaderboard.tex and leaderboard.csv in.",
)
def build(results: Path, out: Path) -> None:
    """Write the board as a page, as Markdown, as LaTeX and as CSV.

    The same entries give the same bytes. Entries of different versions never share a table.
    """
    from mlfsic_bench.files import write_text
    from mlfsic_bench.report.entry_files import read_entries
    from mlfsic_bench.report.leaderboard import build_boards
    from mlfsic_bench.report.leaderboard_page import board_html
    from mlfsic_bench.report.leaderboard_text import board_csv, board_latex, board_markdown

    entries = read_entries(results)
    boards = build_boards(entries)
    files = {
        "index.html": board_html(boards),
        "leaderboard.md": board_markdown(boards),
        "leaderboard.tex": board_latex(boards),
        "leaderboard.csv": board_csv(boards),
    }
    for name, text in files.items():
        write_text(out / name, text)
    click.echo(f"{len(entries)} entries on {len(boards)} boards: {out / 'index.html'}")


@leaderboard.command("check")
@RESULTS
def check(results: Path) -> None:
    """Check every entry: its keys, its place, and that its evidence is there, unchanged.

    `mlfsic-bench submit check` also computes every figure again.
    """
    from mlfsic_bench.report.entry_files import check_evidence, read_entries
    from mlfsic_bench.report.leaderboard import build_boards

    entries = read_entries(results)
    build_boards(entries)
    files = sum(check_evidence(entry, results) for entry in entries)
    click.echo(
        f"{len(entries)} entries are sound; {files} files of evidence are the ones they name"
    )


@leaderboard.command("schema")
def schema() -> None:
    """Print the JSON Schema of an entry."""
    from mlfsic_bench.report.entry_files import schema_text

    click.echo(schema_text(), nl=False)

"""`mlfsic-bench submit`: make leaderboard entries from scores, and check them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mlfsic_bench.cli.echo import echo
from mlfsic_bench.text import for_terminal

PATH = click.Path(path_type=Path)


def _place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where split and episodes are found, as in `mlfsic-bench score`."""
    for option in reversed(
        (
            click.option("--split", help="Split file, where the split does not ship."),
            click.option("--data-root", type=PATH, help="Where the dataset lies."),
            click.option(
                "--available-only", is_flag=True, help="The split is limited to images on disk."
            ),
            click.option(
                "--min-pool", type=int, help="The split leaves out labels below this pool."
            ),
            click.option(
                "--episodes-file", type=PATH, help="Episodes other than the official ones."
            ),
            click.option(
                "--stored-answers",
                is_flag=True,
                help="Take the targets stored with a run, where the split's images are not at "
                "hand: `pack` makes the state `scores stored`, unranked; `check` confirms nothing "
                "but that an entry agrees with them.",
            ),
        )
    ):
        command = option(command)
    return command


@click.group("submit")
def submit() -> None:
    """Make a leaderboard entry from runs or scores files, or check entries."""


@submit.command("pack")
@click.argument("sources", nargs=-1, type=PATH, metavar="RUN|FILE...")
@click.option("--out", type=PATH, required=True, help="Results folder to write below.")
@click.option("--card", type=PATH, help="YAML or JSON file: name, authors, citation, links, ...")
@click.option(
    "--rerun",
    "reruns",
    type=PATH,
    multiple=True,
    help="A second run; one is needed for each training seed.",
)
@click.option("--published", is_flag=True, help="Also write the rows of the published tables.")
@_place_options
def pack(
    sources: tuple[Path, ...],
    out: Path,
    card: Path | None,
    reruns: tuple[Path, ...],
    published: bool,
    stored_answers: bool,
    **place: Any,
) -> None:
    """Write an entry and its scores from run folders or scores files (docs/leaderboard.md).

    Runs of one method that differ in the training seed alone become one entry.
    """
    from mlfsic_bench.leaderboard.files import write_entry
    from mlfsic_bench.leaderboard.published_entries import published_entries
    from mlfsic_bench.leaderboard.submission import pack as pack_sources
    from mlfsic_bench.leaderboard.submission_card import read_card
    from mlfsic_bench.results.targets import SplitPlace

    paths: list[Path] = []
    if sources or not published:
        paths = pack_sources(
            sources,
            out,
            SplitPlace(**place),
            card=read_card(card) if card else None,
            reruns=reruns,
            stored_answers=stored_answers,
        )
    if published:
        paths += [write_entry(entry, out) for entry in published_entries()]
    for path in paths:
        echo(str(path))


@submit.command("check")
@click.argument("target", type=PATH, metavar="DIR|ENTRY")
@_place_options
def check(target: Path, stored_answers: bool, **place: Any) -> None:
    """Compute every figure of one entry, or of all in a results folder, again from its scores.

    Targets are rebuilt from split and episodes, but for entries that are `scores stored`. Exits
    with 2 at the first figure that differs.
    """
    from mlfsic_bench.leaderboard.submission_check import check_all
    from mlfsic_bench.results.targets import SplitPlace

    count = left = 0
    for one in check_all(target, SplitPlace(**place), stored_answers=stored_answers):
        echo(for_terminal(f"{one.path}: {one.finding}"))
        count, left = count + 1, left + (not one.confirmed)
    caution = f", {left} of them NOT confirmed: their targets were not rebuilt" if left else ""
    echo(f"{count} {'entry' if count == 1 else 'entries'} checked{caution}")

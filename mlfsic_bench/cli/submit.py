"""`mlfsic-bench submit`: write a card, make leaderboard entries from scores, check them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlfsic_bench.cli.echo import echo, echo_json
from mlfsic_bench.cli.options import (
    OUT_ALONE,
    PATH,
    PLACE,
    put_out,
    say_next,
    sources,
    text_form,
    with_options,
)
from mlfsic_bench.cli.streams import say
from mlfsic_bench.text import for_terminal

STORED = click.option(
    "--stored-targets",
    "stored",
    is_flag=True,
    help="Take the targets that a run stored, where the split's images are not available: `pack` "
    "makes the state `scores stored`, which is not ranked; `check` confirms only that an entry "
    "agrees with them.",
)


@click.group("submit")
def submit() -> None:
    """Make a leaderboard entry from runs or scores files, or check entries."""


@submit.command("card")
@sources("RUN|FILE...")
@OUT_ALONE
def card(sources: tuple[Path, ...], out: Path | None) -> None:
    """Write a card to edit, filled in from runs or scores files."""
    from mlfsic_bench.leaderboard.pack import card_template

    put_out(card_template(sources), out)
    if out is not None:
        say(f"edit {out}, then: mlfsic-bench submit pack RUN... --card {out} --out results")


@submit.command("pack")
@click.argument("sources", nargs=-1, type=PATH, metavar="RUN|FILE...")
@click.option("--out", type=PATH, required=True, help="Results folder to write below.")
@click.option("--card", type=PATH, help="YAML or JSON file that `submit card` writes.")
@click.option(
    "--rerun",
    "reruns",
    type=PATH,
    multiple=True,
    help="A second run; one is needed for each training seed.",
)
@click.option("--published", is_flag=True, help="Also write the rows of the published tables.")
@with_options(*PLACE, STORED)
def pack(
    sources: tuple[Path, ...],
    out: Path,
    card: Path | None,
    reruns: tuple[Path, ...],
    published: bool,
    stored: bool,
    **place: Any,
) -> None:
    """Write an entry and its scores from runs or scores files.

    Runs of one method that differ only in the training seed become one entry (docs/leaderboard.md).
    """
    from mlfsic_bench.leaderboard.card import read_card
    from mlfsic_bench.leaderboard.entry import write_entry
    from mlfsic_bench.leaderboard.pack import pack as pack_sources
    from mlfsic_bench.leaderboard.reported import reported_entries
    from mlfsic_bench.repository import how_to_submit
    from mlfsic_bench.results.targets import SplitPlace

    entries: list[Path] = []
    files: list[Path] = []
    if sources or not published:
        own = read_card(card) if card else None
        where = SplitPlace(**place)
        for one in pack_sources(sources, out, where, card=own, reruns=reruns, stored=stored):
            echo(str(one.entry))
            entries.append(one.entry)
            files += one.files
    if published:
        for entry in reported_entries():
            echo(str(write_entry(entry, out)))
    if files:
        again = ("split", "data_root", "episodes_file", "stored")
        say_next("submit", "check", *entries[:1], again=again)
        say(f"to submit, {how_to_submit()}:")
        for path in files:
            say(f"  {path}")


@submit.command("check")
@click.argument("target", type=PATH, metavar="DIR|ENTRY")
@with_options(*PLACE, STORED, text_form("text", "json"))
def check(target: Path, stored: bool, form: str, **place: Any) -> None:
    """Make entries again from their scores and compare.

    DIR is a results folder, for all in it; ENTRY is one of them, a .json. Targets are rebuilt from
    split and episodes, except for entries that are `scores stored`. Exit code 2 at the first entry
    that differs.
    """
    from mlfsic_bench.leaderboard.check import check_all
    from mlfsic_bench.results.targets import SplitPlace

    rows = []
    for one in check_all(target, SplitPlace(**place), stored=stored):
        if form == "text":
            echo(for_terminal(f"{one.path}: {one.finding}"))
        found = {"entry": str(one.path), "finding": one.finding, "confirmed": one.confirmed}
        rows.append(found)
    if form == "json":
        echo_json(rows)
        return
    count, left = len(rows), sum(not row["confirmed"] for row in rows)
    caution = f", {left} of them NOT confirmed: their targets were not rebuilt" if left else ""
    echo(f"{count} {'entry' if count == 1 else 'entries'} checked{caution}")

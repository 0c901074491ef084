"""Options that several verbs have, each written once: how text goes out, where answers lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mlfsic_bench.cli.echo import echo

Option = Callable[[Any], Any]

OUT: Option = click.option("--out", type=click.Path(path_type=Path), help="Write to a file.")

# The keyword arguments of report.truth.SplitPlace.
PLACE: tuple[Option, ...] = (
    click.option("--split", metavar="ID|FILE",
                 help="The split (default: by the id in the scores)."),
    click.option("--data-root", type=click.Path(path_type=Path),
                 help="Where the labels lie, for splits that don't ship with their images (or "
                 "MLFSIC_DATA)."),
    click.option("--available-only", is_flag=True, help="Only images on disk, as in the run."),
    click.option("--min-pool", type=click.IntRange(1), metavar="N", help="As in the run."),
    click.option("--episodes-file", type=click.Path(path_type=Path), help="Other novel episodes."),
)  # fmt: skip

# What is compared with what.
PAIRS: tuple[Option, ...] = (
    click.option("--metric", "metrics", multiple=True, default=("macro_ap",), show_default=True,
                 help="What to compare; repeatable."),
    click.option("--against", metavar="NAME|FOLDER",
                 help="Compare all with this one, not all pairs."),
    click.option("--seeds-apart", is_flag=True,
                 help="Do not average over a method's training seeds."),
)  # fmt: skip


def text_form(*forms: str, what: str = "figures are") -> Option:
    """The option `--format`, one of `forms`, the first by default; `what` is written in it."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        help=f"How the {what} written.",
    )


def sources(metavar: str, name: str = "sources") -> Option:
    """The argument of one or more runs or scores files."""
    return click.argument(
        name, nargs=-1, required=True, type=click.Path(path_type=Path), metavar=metavar
    )


def with_options(*options: Option) -> Option:
    """A decorator that adds these options, the first of them first in `--help`."""

    def add(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def put_out(text: str, out: Path | None) -> None:
    """Write a report to the file `out`, or print it where none is named."""
    from mlfsic_bench.files import write_text

    if out is not None:
        write_text(out, text)
    else:
        echo(text, nl=False)

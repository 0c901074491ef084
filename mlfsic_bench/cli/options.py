"""Options that several verbs have, each written once: how text goes out, where answers lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mlfsic_bench.cli.echo import echo
from mlfsic_bench.episodes.protocol import DEFAULT, OPTIONS, PROTOCOLS

Option = Callable[[Any], Any]

OUT: Option = click.option("--out", type=click.Path(path_type=Path), help="Write to a file.")

EMBEDDINGS_FORMAT: Option = click.option(
    "--embeddings-format",
    type=click.Choice(["auto", "text", "binary"]),
    default="auto",
    show_default=True,
    help="How the label embeddings are written, should their content mislead.",
)

# How episodes are drawn: the arguments of episodes.protocol.find_protocol.
PROTOCOL: tuple[Option, ...] = (
    click.option("--protocol", type=click.Choice(list(PROTOCOLS)),
                 help=f"How episodes are drawn.  [default: {DEFAULT}]"),
    *(click.option(f"--{name}", type=click.IntRange(1), metavar=letter, help=text)
      for name, (letter, text) in OPTIONS.items()),
)  # fmt: skip

# The keyword arguments of results.targets.SplitPlace: for scores whose record and this machine do
# not say where their split is.
PLACE: tuple[Option, ...] = (
    click.option("--split", metavar="ID|FILE",
                 help="The split (default: by the id in the scores)."),
    click.option("--data-root", type=click.Path(path_type=Path),
                 help="Where the labels lie, for splits that don't ship with their images (or "
                 "MLFSIC_DATA)."),
    click.option("--episodes-file", type=click.Path(path_type=Path), help="Other novel episodes."),
)  # fmt: skip

SEEDS: Option = click.option(
    "--seeds",
    type=click.Choice(["mean", "each"]),
    default="mean",
    show_default=True,
    help="Average over a method's training seeds, or keep each.",
)

# What is compared with what.
PAIRS: tuple[Option, ...] = (
    click.option("--metric", "metrics", multiple=True, default=("macro_ap",), show_default=True,
                 help="What to compare; repeatable."),
    click.option("--against", metavar="NAME|FOLDER",
                 help="Compare all with this one, not all pairs."),
    SEEDS,
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


def refuse_input(out: Path) -> None:
    """BenchError when `out` is one of the command's inputs, or a file of a folder among them."""
    from mlfsic_bench.errors import BenchError
    from mlfsic_bench.paths import exists, is_folder, same_place

    for name, value in click.get_current_context().params.items():
        for given in value if isinstance(value, tuple) else (value,):
            if name == "out" or not isinstance(given, Path):
                continue
            place = given / out.name if is_folder(given) else given
            if exists(place) and same_place(place, out):
                raise BenchError(
                    f"the output would replace an input, {place}",
                    expected="another file for the output",
                    found=f"--out {out}",
                    remedy="name another file with --out",
                )


def put_out(text: str, out: Path | None) -> None:
    """Write a report to the file `out`, or print it where none is named."""
    from mlfsic_bench.files import write_text

    if out is not None:
        refuse_input(out)
        write_text(out, text)
    else:
        echo(text, nl=False)

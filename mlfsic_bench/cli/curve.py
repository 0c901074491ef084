"""`mlfsic-bench curve`: learning curves over the number of base images, from runs."""

from __future__ import annotations

from pathlib import Path

import click

from mlfsic_bench.cli.echo import echo


@click.command("curve")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--out",
    "pictures",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw to a .png, .svg or .pdf; repeatable.",
)
@click.option("--metric", default="macro_ap", show_default=True, help="What is drawn and fitted.")
@click.option(
    "--at", type=int, metavar="N", help="Say what the fitted line reads at N base images."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["markdown", "csv"]),
    default="markdown",
    show_default=True,
    help="How the table is printed.",
)
def curve(
    runs: tuple[Path, ...], pictures: tuple[Path, ...], metric: str, at: int | None, form: str
) -> None:
    """Print the learning curves of runs made with --base-images, and draw them.

    Runs of methods that do not train become level lines. All runs need the same split, episodes
    and backbone.
    """
    from mlfsic_bench.analysis.curve import curve as curve_of
    from mlfsic_bench.analysis.curve_tables import render_csv, render_markdown
    from mlfsic_bench.analysis.plots.curve import draw
    from mlfsic_bench.results.result import open_result

    made = curve_of([open_result(folder) for folder in runs], metric=metric)
    text = render_markdown(made, metric, at)
    for path in pictures:
        draw(made, path, metric)
    echo(text if form == "markdown" else render_csv(made), nl=False)

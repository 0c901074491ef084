"""`mlfsic-bench curve`: learning curves over the number of base images, from runs."""

from __future__ import annotations

from pathlib import Path

import click

from mlfsic_bench.cli import complete
from mlfsic_bench.cli.echo import echo
from mlfsic_bench.cli.options import text_form


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
@click.option("--metric", type=complete.METRIC, metavar="NAME", default="macro_ap",
              show_default=True, help="What is drawn and fitted.")  # fmt: skip
@click.option(
    "--at", type=int, metavar="N", help="Say what the fitted line reads at N base images."
)
@text_form("text", "markdown", "csv")
def curve(
    runs: tuple[Path, ...], pictures: tuple[Path, ...], metric: str, at: int | None, form: str
) -> None:
    """Print the learning curves of runs made with --base-images, and draw them.

    Runs of methods that do not train become level lines. All runs need the same split, episodes
    and backbone.
    """
    from mlfsic_bench.analysis.curve import curve as curve_of
    from mlfsic_bench.analysis.curve_tables import render_csv, render_markdown, render_text
    from mlfsic_bench.analysis.plots.curve import draw
    from mlfsic_bench.results.result import open_result

    made = curve_of([open_result(folder) for folder in runs], metric=metric)
    render = render_text if form == "text" else render_markdown
    text = render_csv(made) if form == "csv" else render(made, metric, at)
    for path in pictures:
        draw(made, path, metric)
    echo(text, nl=False)

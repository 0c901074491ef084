"""`mlfsic-bench curve`: learning curves over the number of base images, from runs."""

from __future__ import annotations

from pathlib import Path

import click

from mlfsic_bench.cli import complete
from mlfsic_bench.cli.options import OUT, PLACE, put_out, sources, text_form, with_options


@click.command("curve")
@sources("RUN...", "runs")
@click.option(
    "--plot",
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
@with_options(*PLACE, text_form("text", "markdown", "csv"), OUT)
def curve(
    runs: tuple[Path, ...],
    pictures: tuple[Path, ...],
    metric: str,
    at: int | None,
    form: str,
    out: Path | None,
    **place: object,
) -> None:
    """Print the learning curves of runs made with --base-images, and draw them.

    Runs of methods that do not train become level lines. All runs need the same split, episodes
    and backbone.
    """
    from mlfsic_bench.analysis.curve import curve as curve_of
    from mlfsic_bench.analysis.curve_tables import WRITERS
    from mlfsic_bench.analysis.plots.curve import draw
    from mlfsic_bench.results.result import open_result
    from mlfsic_bench.results.targets import SplitPlace

    results = [open_result(path) for path in runs]
    made = curve_of(results, metric=metric, place=SplitPlace(**place))  # type: ignore[arg-type]
    text = WRITERS[form](made, metric, at)
    for path in pictures:
        draw(made, path, metric)
    put_out(text, out)

"""`mlfsic-bench attention`: a picture of what a run's attention looks at."""

from __future__ import annotations

from pathlib import Path

import click

from mlfsic_bench.cli.echo import echo
from mlfsic_bench.cli.options import RUN_PATHS, with_options
from mlfsic_bench.text import lines_for_terminal


@click.command("attention")
@click.argument("folder", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--episode", default=0, show_default=True, help="Which novel episode's support.")
@click.option("--labels", metavar="A,B", help="Only these labels (default: all of the episode).")
@click.option("--images", default=6, show_default=True, type=click.IntRange(1), help="At most.")
@click.option("--heads", is_flag=True, help="A map for every head beside their sum.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("attention.png"),
    show_default=True,
    help="The picture: a .png, .svg or .pdf file.",
)
@with_options(*RUN_PATHS)
def attention(
    folder: Path,
    episode: int,
    labels: str | None,
    images: int,
    heads: bool,
    out: Path,
    **where: object,
) -> None:
    """Draw the attention of RUN over the support images of one novel episode.

    Every panel shows the scores before the softmax, summed over heads (Figure 4 of the paper), from
    dark (the panel's lowest) to bright (its highest), with the object's outline where known. Then
    says how evenly the weights lie over the places, in all its episodes. On the machine that made
    the run no option says where its inputs lie.
    """
    from mlfsic_bench.analysis.attention.picture import draw_attention
    from mlfsic_bench.results.reopen import RunPaths

    names = tuple(name.strip() for name in labels.split(",")) if labels else ()
    lines = draw_attention(
        folder,
        RunPaths(**where),  # type: ignore[arg-type]
        out,
        episode=episode,
        labels=names,
        images=images,
        heads=heads,
        entropy=True,
    )
    echo(lines_for_terminal(lines))

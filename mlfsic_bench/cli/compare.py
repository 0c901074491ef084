"""`mlfsic-bench compare`: paired differences between runs of the same episodes, with tests."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("compare")
@click.argument(
    "sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN|FILE..."
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    default=("macro_ap",),
    show_default=True,
    help="What to compare; repeatable.",
)
@click.option("--against", metavar="NAME|FOLDER", help="Compare all with this one, not all pairs.")
@click.option("--seeds-apart", is_flag=True, help="Do not average over a method's training seeds.")
@click.option(
    "--plot",
    "pictures",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw the differences to a .png, .svg or .pdf; repeatable.",
)
@click.option("--split", metavar="ID|FILE", help="The split (default: by the id in the scores).")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Where the labels lie, for splits that don't ship with their images (or MLFSIC_DATA).",
)
@click.option("--available-only", is_flag=True, help="Only images on disk, as in the run.")
@click.option("--min-pool", type=click.IntRange(1), metavar="N", help="As in the run.")
@click.option("--episodes-file", type=click.Path(path_type=Path), help="Other novel episodes.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "markdown", "csv", "json"]),
    default="terminal",
    show_default=True,
    help="How the figures are written.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write to a file.")
def compare(
    sources: tuple[Path, ...],
    metrics: tuple[str, ...],
    against: str | None,
    seeds_apart: bool,
    pictures: tuple[Path, ...],
    form: str,
    out: Path | None,
    **place: object,
) -> None:
    """Compare runs, or scores files, of the same episodes: paired differences, tests, ranks.

    Runs of one method that differ in the training seed only are averaged in each episode. Anything
    that can't be compared is refused. docs/compare.md says how to read the figures.
    """
    from mlfsic_bench.files import write_bytes, write_text
    from mlfsic_bench.report.compare import compare as compare_runs
    from mlfsic_bench.report.compare_render import RENDERERS
    from mlfsic_bench.report.truth import SplitPlace

    report = compare_runs(
        sources,
        SplitPlace(**place),  # type: ignore[arg-type]
        metrics=metrics,
        against=against,
        seeds_apart=seeds_apart,
    )
    if pictures:
        from mlfsic_bench.report.plot_difference import difference
        from mlfsic_bench.report.plot_frame import form_of, picture

        forms = [form_of(path) for path in pictures]
        plot = difference(report)
        for path, each in zip(pictures, forms, strict=True):
            write_bytes(path, picture(plot, each))
    text = RENDERERS[form](report)
    if out is not None:
        write_text(out, text)
    else:
        click.echo(text, nl=False)

"""`mlfsic-bench compare`: paired differences between runs of the same episodes, with tests."""

from __future__ import annotations

from pathlib import Path

import click

from mlfsic_bench.cli.options import OUT, PAIRS, PLACE, put_out, sources, text_form, with_options


@click.command("compare")
@sources("RUN|FILE...")
@with_options(*PAIRS)
@click.option(
    "--plot",
    "pictures",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw the differences to a .png, .svg or .pdf; repeatable.",
)
@with_options(*PLACE, text_form("text", "markdown", "csv", "json", "html"), OUT)
def compare(
    sources: tuple[Path, ...],
    metrics: tuple[str, ...],
    against: str | None,
    seeds: str,
    pictures: tuple[Path, ...],
    form: str,
    out: Path | None,
    **place: object,
) -> None:
    """Compare runs, or scores files, of the same episodes: paired differences, tests, ranks.

    Runs of one method that differ in the training seed only are averaged in each episode. Runs that
    can't be compared are refused. docs/compare.md says how to read the result.
    """
    from mlfsic_bench.analysis.compare import WRITERS
    from mlfsic_bench.analysis.compare import compare as compare_runs
    from mlfsic_bench.files import write_bytes
    from mlfsic_bench.results.targets import SplitPlace

    report = compare_runs(
        sources,
        SplitPlace(**place),  # type: ignore[arg-type]
        metrics=metrics,
        against=against,
        seeds=seeds,  # type: ignore[arg-type]
    )
    if pictures:
        from mlfsic_bench.analysis.plots.difference import difference
        from mlfsic_bench.analysis.plots.frame import form_of, picture

        forms = [form_of(path) for path in pictures]
        plot = difference(report)
        for path, each in zip(pictures, forms, strict=True):
            write_bytes(path, picture(plot, each))
    put_out(WRITERS[form](report), out)

"""`mlfsic-bench table`: the table for a paper, recomputed from scores."""

from __future__ import annotations

from pathlib import Path

import click

from mlfsic_bench.cli.options import (
    OUT,
    PLACE,
    SEEDS,
    put_out,
    sources,
    text_form,
    with_options,
)


@click.command("table")
@sources("RUN|FILE...", "runs")
@text_form("text", "markdown", "latex", "csv", "json", "html")
@click.option(
    "--columns", metavar="A,B,...", help="Metrics, e.g. macro_ap,micro_ap (default: all of tables)."
)
@click.option(
    "--interval",
    type=click.Choice(["images", "episodes", "seeds", "none"]),
    default="images",
    show_default=True,
    help="What the 95 % intervals are over.",
)
@SEEDS
@click.option(
    "--order",
    default="given",
    show_default=True,
    metavar="given|name|METRIC",
    help="Order of the rows; by a metric, best first.",
)
@click.option("--published", is_flag=True, help="Add the paper's rows, marked as published.")
@OUT
@with_options(*PLACE)
def table(
    runs: tuple[Path, ...],
    form: str,
    columns: str | None,
    interval: str,
    seeds: str,
    order: str,
    published: bool,
    out: Path | None,
    **place: object,
) -> None:
    """Print the table of these runs: micro and macro P, R, F1 and AP, a row for each method.

    Runs on different splits or episodes get a table each; runs that have not ended are left out,
    and a line says so. docs/running.md shows what goes into a paper.
    """
    from mlfsic_bench.analysis.paper_table import WRITERS, paper_tables
    from mlfsic_bench.results.targets import SplitPlace

    tables, left_out = paper_tables(
        runs,
        SplitPlace(**place),  # type: ignore[arg-type]
        columns=tuple(name.strip() for name in columns.split(",")) if columns else None,
        seeds=seeds,  # type: ignore[arg-type]
        interval=interval,  # type: ignore[arg-type]
        order=order,
        published=published,
    )
    put_out(WRITERS[form](tables, left_out), out)

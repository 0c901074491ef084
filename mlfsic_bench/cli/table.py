"""`mlfsic-bench table`: the paper's table, recomputed from the runs' scores."""

from __future__ import annotations

from pathlib import Path

import click

from mlfsic_bench.cli.options import OUT, put_out, sources, text_form


@click.command("table")
@sources("RUN...", "runs")
@text_form("terminal", "markdown", "latex", "csv", what="table is")
@click.option("--published", is_flag=True, help="Set the paper's rows beside, marked as published.")
@OUT
@click.option("--intervals/--no-intervals", default=True, help="Show intervals over episodes.")
def table(
    runs: tuple[Path, ...], form: str, published: bool, out: Path | None, intervals: bool
) -> None:
    """Print the paper's table (Micro and Macro P R F1 AP) of the runs in these folders."""
    from mlfsic_bench.results.table import build_table
    from mlfsic_bench.results.table_text import RENDERERS

    put_out(RENDERERS[form](build_table(runs, published=published, intervals=intervals)), out)

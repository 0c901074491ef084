"""`mlfsic-bench table`: the paper's table, recomputed from the runs' scores."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("table")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "markdown", "latex", "csv"]),
    default="terminal",
    show_default=True,
    help="How the table is written.",
)
@click.option("--published", is_flag=True, help="Set the paper's rows beside, marked as published.")
@click.option("--out", type=click.Path(path_type=Path), help="Write to a file.")
@click.option("--intervals/--no-intervals", default=True, help="Show ± over episodes.")
def table(
    runs: tuple[Path, ...], form: str, published: bool, out: Path | None, intervals: bool
) -> None:
    """Print the paper's table (Micro and Macro P R F1 AP) of the runs in these folders."""
    from mlfsic_bench.files import write_text
    from mlfsic_bench.report.render import RENDERERS
    from mlfsic_bench.report.table import build_table

    text = RENDERERS[form](build_table(runs, published=published, intervals=intervals))
    if out is not None:
        write_text(out, text)
    else:
        click.echo(text, nl=False)

"""`mlfsic-bench demo`: from nothing to a table and a picture, without a download."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mlfsic_bench.cli.echo import echo, log


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Where runs, features, table and picture go.",
)
def demo(out: Path) -> None:
    """Run every method on the embedded data set `scenes` and print the table.

    Takes some minutes on two CPU cores. Run again, it goes on where it stopped, or says that all is
    done.
    """
    from mlfsic_bench.harness.demo import run_demo
    from mlfsic_bench.report.render import render_terminal
    from mlfsic_bench.report.table import build_table

    try:
        result = run_demo(out, log=log)
    except KeyboardInterrupt:
        echo("cancelled; the same command resumes the demo", err=True)
        sys.exit(130)
    echo(render_terminal(build_table(result.runs)), nl=False)
    for line in result.margins:
        echo(line)
    echo(f"\ntable:   {result.table}")
    echo(f"picture: {result.picture_line.removeprefix('wrote ')}")
    echo(f"runs:    {out / 'runs'}  (took {result.seconds:.0f} s)")

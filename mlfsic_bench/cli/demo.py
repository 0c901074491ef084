"""`mlfsic-bench demo`: from nothing to a table and a picture, without a download."""

from __future__ import annotations

from pathlib import Path

import click

from mlfsic_bench.cli.echo import echo
from mlfsic_bench.cli.options import say_next
from mlfsic_bench.cli.streams import leave, say


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Where runs, features, table and picture go.",
)
def demo(out: Path) -> None:
    """Run six methods on the embedded data set `scenes` and print the table.

    Takes some minutes on two CPU cores. Run again, it goes on where it stopped, or says that all is
    done.
    """
    from mlfsic_bench.analysis.paper_table import as_text, paper_tables
    from mlfsic_bench.evaluation.audit.audit import failure_of
    from mlfsic_bench.evaluation.record import read_record
    from mlfsic_bench.experiments.demo import run_demo

    try:
        result = run_demo(out, log=say)
    except KeyboardInterrupt as stop:
        leave(stop, "cancelled; the same command resumes the demo")
    echo(as_text(*paper_tables(result.runs)), nl=False)
    for line in result.margins:
        echo(line)
    echo(f"\ntable:   {result.table}")
    echo(f"picture: {result.picture_line.removeprefix('wrote ')}")
    echo(f"runs:    {out / 'runs'}  (took {result.seconds:.0f} s)")
    say_next("compare", *result.runs)
    for folder in result.runs:
        failure = failure_of(read_record(folder), folder)
        if failure is not None:
            raise failure

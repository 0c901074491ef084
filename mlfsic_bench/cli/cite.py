"""`mlfsic-bench cite`: BibTeX of what is behind some runs."""

from __future__ import annotations

from pathlib import Path

import click

from mlfsic_bench.cli.options import OUT_ALONE, put_out, sources


@click.command("cite")
@sources("RUN|FILE...", "runs")
@OUT_ALONE
def cite(runs: tuple[Path, ...], out: Path | None) -> None:
    """Print BibTeX of the methods, data sets, protocols and software behind these runs.

    The keys are those that `table --format latex` cites.
    """
    from mlfsic_bench.results.references import citations
    from mlfsic_bench.results.result import open_result

    put_out(citations([open_result(path) for path in runs]), out)

"""`mlfsic-bench score`: every metric of scores files and runs, with three kinds of interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlfsic_bench.cli.options import OUT, PATH, PLACE, put_out, sources, text_form, with_options

if TYPE_CHECKING:
    from mlfsic_bench.metrics.decisions import Rule


@click.command("score")
@sources("FILE|RUN...")
@with_options(*PLACE)
@click.option(
    "--by",
    type=click.Choice(["label", "cardinality", "support-count", "pair"]),
    help="Also the scores of each label, of images by their number of labels (cardinality), by how "
    "many support images show a label, or of each pair of labels.",
)
@click.option(
    "--conventions",
    is_flag=True,
    help="Also by the averages and thresholds that other papers use (docs/metrics.md).",
)
@click.option(
    "--decisions",
    "rules",
    type=click.Choice(["own", "val", "count"]),
    multiple=True,
    help="Also P, R and F1 when labels are predicted by the method's own decisions, by a threshold "
    "chosen on val, or by the number of labels; repeatable.",
)
@click.option(
    "--val-run",
    "val_runs",
    type=PATH,
    multiple=True,
    metavar="RUN",
    help="For the rule val: the method's run on val episodes; repeatable.",
)
@click.option(
    "--counts", type=PATH, metavar="FILE", help="For the rule count: what `counts` wrote."
)
@with_options(text_form("text", "markdown", "json", "csv"), OUT)
def score(
    sources: tuple[Path, ...],
    by: str | None,
    conventions: bool,
    rules: tuple[Rule, ...],
    val_runs: tuple[Path, ...],
    counts: Path | None,
    form: str,
    out: Path | None,
    **place: object,
) -> None:
    """Score files that any program wrote, or runs, with intervals over episodes, images and seeds.

    Targets are computed from split and episodes; docs/scores-format.md says when not.
    """
    from mlfsic_bench.analysis.score import WRITERS, score_files
    from mlfsic_bench.results.targets import SplitPlace

    report = score_files(
        sources,
        SplitPlace(**place),  # type: ignore[arg-type]
        by=by,
        conventions=conventions,
        rules=rules,
        val_runs=val_runs,
        counts=counts,
    )
    put_out(WRITERS[form](report), out)

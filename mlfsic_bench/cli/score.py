"""`mlfsic-bench score`: every metric of scores files and runs, with three kinds of interval."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("score")
@click.argument(
    "sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE|RUN..."
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
    "--by",
    type=click.Choice(["label", "cardinality", "support-count", "pair"]),
    help="Take the scores apart as well.",
)
@click.option("--conventions", is_flag=True, help="The same scores under every convention.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "markdown", "json", "csv"]),
    default="terminal",
    show_default=True,
    help="How the figures are written.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write to a file.")
def score(
    sources: tuple[Path, ...],
    by: str | None,
    conventions: bool,
    form: str,
    out: Path | None,
    **place: object,
) -> None:
    """Score files that any program wrote, or runs, with intervals over episodes, images and seeds.

    The answers are computed from split and episodes; docs/scores-format.md says when not.
    """
    from mlfsic_bench.files import write_text
    from mlfsic_bench.report.score import score_files
    from mlfsic_bench.report.score_render import RENDERERS
    from mlfsic_bench.report.truth import SplitPlace

    report = score_files(
        sources,
        SplitPlace(**place),  # type: ignore[arg-type]
        by=by,
        conventions=conventions,
    )
    text = RENDERERS[form](report)
    if out is not None:
        write_text(out, text)
    else:
        click.echo(text, nl=False)

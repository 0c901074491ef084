"""`mlfsic-bench pointing`: in numbers, what a run's attention looks at."""

from __future__ import annotations

from pathlib import Path

import click

from mlfsic_bench.cli.options import OUT, RUN_PATHS, put_out, text_form, with_options


@click.command("pointing")
@click.argument("folder", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--episodes", type=click.IntRange(1), metavar="N", help="Only the first N episodes.")
@text_form("text", "markdown", "json")
@OUT
@with_options(*RUN_PATHS)
def pointing(
    folder: Path, episodes: int | None, form: str, out: Path | None, **where: object
) -> None:
    """Measure how often the attention of RUN points at the object, and how much of it is there.

    Over the support images of its novel episodes, each image and label once, for the heads together
    and each alone, by label, size of the object and number of labels. Needs a dataset that knows
    where its objects are: scenes, or COCO and VOC with their official annotations.
    """
    from mlfsic_bench.analysis.attention.pointing import WRITERS, measure
    from mlfsic_bench.results.reopen import RunPaths

    result = measure(folder, RunPaths(**where), episodes=episodes)  # type: ignore[arg-type]
    put_out(WRITERS[form](result), out)

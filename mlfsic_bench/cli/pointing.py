"""`mlfsic-bench pointing`: in numbers, what a run's attention looks at."""

from __future__ import annotations

from pathlib import Path

import click

from mlfsic_bench.cli.options import EMBEDDINGS_FORMAT, OUT, put_out, text_form


@click.command("pointing")
@click.argument("folder", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--episodes", type=click.IntRange(1), metavar="N", help="Only the first N episodes.")
@text_form("text", "markdown", "json")
@OUT
@click.option("--method", metavar="SPEC", help="path/to/file.py:Class, when the run's method is.")
@click.option("--split", metavar="FILE", help="The run's split file, when it is not a shipped one.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Where the images lie.")
@click.option("--embeddings", type=click.Path(path_type=Path), help="The run's label embeddings.")
@EMBEDDINGS_FORMAT
@click.option("--weights", metavar="W", help="The backbone's weights, when they are a file.")
@click.option("--episodes-file", type=click.Path(path_type=Path), help="The run's episode file.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where extracted features are kept.")
def pointing(
    folder: Path, episodes: int | None, form: str, out: Path | None, **where: object
) -> None:
    """Measure how often the attention of RUN points at the object, and how much of it is there.

    Over the support images of its novel episodes, each image and label once, for the heads together
    and each alone, by label, size of the object and number of labels. Needs a dataset that knows
    where its objects are: scenes, or COCO and VOC with their official annotations.
    """
    from mlfsic_bench.analysis.attention.pointing import measure
    from mlfsic_bench.analysis.attention.pointing_text import RENDERERS
    from mlfsic_bench.results.reopen import RunPaths

    result = measure(folder, RunPaths(**where), episodes=episodes)  # type: ignore[arg-type]
    put_out(RENDERERS[form](result), out)

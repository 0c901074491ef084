"""`mlfsic-bench plot`: pictures of stored scores and training histories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlfsic_bench.cli.echo import echo
from mlfsic_bench.cli.options import PAIRS, PLACE, sources, with_options
from mlfsic_bench.text import for_terminal

if TYPE_CHECKING:
    from mlfsic_bench.analysis.plots.frame import Plot

SHARED = (
    sources("RUN|FILE...", "runs"),
    click.option("--out", "pictures", multiple=True, required=True, metavar="FILE",
                 type=click.Path(path_type=Path, dir_okay=False),
                 help="The picture: .png, .svg or .pdf; repeatable."),
    click.option("--data", "table", type=click.Path(path_type=Path, dir_okay=False),
                 metavar="FILE.csv", help="The plotted numbers as well."),
)  # fmt: skip
LABEL = click.option("--label", "only", multiple=True, metavar="NAME",
                     help="Only this label; repeatable.")  # fmt: skip


@click.group("plot")
def plot() -> None:
    """Draw plots of scores and training histories; docs/plots.md says how to read them."""


@plot.command("pr")
@with_options(*SHARED, LABEL)
@click.option(
    "--pooling",
    type=click.Choice(["pooled", "episodes"]),
    default="pooled",
    show_default=True,
    help="One ranking of all episodes' queries, or a ranking each and the mean.",
)
@with_options(*PLACE)
def pr(
    runs: tuple[Path, ...],
    pictures: tuple[Path, ...],
    table: Path | None,
    only: tuple[str, ...],
    pooling: str,
    **place: Any,
) -> None:
    """Precision against recall, over labels and for each."""
    from mlfsic_bench.analysis.plots.precision_recall import precision_recall

    _write(lambda: precision_recall(_apart(runs, place), pooling, only), pictures, table)


@plot.command("labels")
@with_options(*SHARED, LABEL, *PLACE)
def labels(
    runs: tuple[Path, ...],
    pictures: tuple[Path, ...],
    table: Path | None,
    only: tuple[str, ...],
    **place: Any,
) -> None:
    """AP of each label, sorted, with intervals and chance."""
    from mlfsic_bench.analysis.plots.labels import labels as labels_of

    _write(lambda: labels_of(_apart(runs, place), only), pictures, table)


@plot.command("difference")
@with_options(*SHARED, *PAIRS, *PLACE)
def difference(
    runs: tuple[Path, ...],
    pictures: tuple[Path, ...],
    table: Path | None,
    metrics: tuple[str, ...],
    against: str | None,
    seeds: str,
    **place: Any,
) -> None:
    """Paired differences, as in `compare`, sorted."""
    from mlfsic_bench.analysis.compare import compare
    from mlfsic_bench.analysis.plots.difference import difference as difference_of
    from mlfsic_bench.results.targets import SplitPlace

    _write(
        lambda: difference_of(
            compare(
                runs,
                SplitPlace(**place),
                metrics=metrics,
                against=against,
                seeds=seeds,  # type: ignore[arg-type]
            )
        ),
        pictures,
        table,
    )


@plot.command("calibration")
@with_options(*SHARED)
@click.option("--bins", type=click.IntRange(1, 100), default=10, show_default=True,
              help="Bins of equal width.")  # fmt: skip
@with_options(*PLACE)
def calibration(
    runs: tuple[Path, ...],
    pictures: tuple[Path, ...],
    table: Path | None,
    bins: int,
    **place: Any,
) -> None:
    """Reliability of sigmoid(score) and the threshold 0.5."""
    from mlfsic_bench.analysis.plots.calibration import calibration as calibration_of

    _write(lambda: calibration_of(_apart(runs, place), bins), pictures, table)


@plot.command("training")
@with_options(*SHARED)
def training(runs: tuple[Path, ...], pictures: tuple[Path, ...], table: Path | None) -> None:
    """Loss and val macro-AP over the steps of a training."""
    from mlfsic_bench.analysis.plots.training import training as training_of

    _write(lambda: training_of(_apart(runs, {})), pictures, table)


def _apart(runs: tuple[Path, ...], place: dict[str, Any]) -> Any:
    """The runs, each by itself: a picture of scores is of one file's scores."""
    from mlfsic_bench.results.conditions import open_group
    from mlfsic_bench.results.targets import SplitPlace

    return open_group(runs, SplitPlace(**place), seeds="each")


def _write(make: Callable[[], Plot], pictures: tuple[Path, ...], table: Path | None) -> None:
    from mlfsic_bench.analysis.plots.frame import data, form_of, picture
    from mlfsic_bench.files import write_bytes, write_text

    forms = [form_of(path) for path in pictures]
    made = make()
    for path, form in zip(pictures, forms, strict=True):
        write_bytes(path, picture(made, form))
    if table is not None:
        write_text(table, data(made))
    echo(for_terminal(made.alt))

"""`mlfsic-bench plot`: pictures of stored scores and training histories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mlfsic_bench.report.plot_frame import Plot

SHARED = (
    click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path),
                   metavar="RUN|FILE..."),
    click.option("--out", "pictures", multiple=True, required=True, metavar="FILE",
                 type=click.Path(path_type=Path, dir_okay=False),
                 help="The picture: .png, .svg or .pdf; repeatable."),
    click.option("--data", "table", type=click.Path(path_type=Path, dir_okay=False),
                 metavar="FILE.csv", help="The plotted numbers as well."),
)  # fmt: skip
PLACE = (
    click.option("--split", metavar="ID|FILE", help="The split (default: by the scores' id)."),
    click.option("--data-root", type=click.Path(path_type=Path),
                 help="Where the labels lie (or MLFSIC_DATA)."),
    click.option("--available-only", is_flag=True, help="Only images on disk, as in the run."),
    click.option("--min-pool", type=click.IntRange(1), metavar="N", help="As in the run."),
    click.option("--episodes-file", type=click.Path(path_type=Path), help="Other novel episodes."),
)  # fmt: skip
LABEL = click.option("--label", "only", multiple=True, metavar="NAME",
                     help="Only this label; repeatable.")  # fmt: skip


def _with(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return add


@click.group("plot")
def plot() -> None:
    """Draw what stored scores and training histories say; docs/plots.md shows how to read each."""


@plot.command("pr")
@_with(*SHARED, LABEL)
@click.option(
    "--pooling",
    type=click.Choice(["pooled", "episodes"]),
    default="pooled",
    show_default=True,
    help="One ranking of all episodes' queries, or a ranking each and the mean.",
)
@_with(*PLACE)
def pr(
    runs: tuple[Path, ...],
    pictures: tuple[Path, ...],
    table: Path | None,
    only: tuple[str, ...],
    pooling: str,
    **place: Any,
) -> None:
    """Precision against recall, the mean over labels and each label."""
    from mlfsic_bench.report.plot_pr import precision_recall

    _write(lambda: precision_recall(_apart(runs, place), pooling, only), pictures, table)


@plot.command("labels")
@_with(*SHARED, LABEL, *PLACE)
def labels(
    runs: tuple[Path, ...],
    pictures: tuple[Path, ...],
    table: Path | None,
    only: tuple[str, ...],
    **place: Any,
) -> None:
    """Each label's AP with its intervals and chance, sorted, runs side by side."""
    from mlfsic_bench.report.plot_labels import labels as labels_of

    _write(lambda: labels_of(_apart(runs, place), only), pictures, table)


@plot.command("difference")
@_with(*SHARED)
@click.option("--metric", "metrics", multiple=True, default=("macro_ap",), show_default=True,
              help="What to compare; repeatable.")  # fmt: skip
@click.option("--against", metavar="NAME|FOLDER", help="Compare all with this one, not all pairs.")
@click.option("--seeds-apart", is_flag=True, help="Do not average over a method's training seeds.")
@_with(*PLACE)
def difference(
    runs: tuple[Path, ...],
    pictures: tuple[Path, ...],
    table: Path | None,
    metrics: tuple[str, ...],
    against: str | None,
    seeds_apart: bool,
    **place: Any,
) -> None:
    """Paired differences with their intervals, sorted; the numbers are those of `compare`."""
    from mlfsic_bench.report.compare import compare
    from mlfsic_bench.report.plot_difference import difference as difference_of
    from mlfsic_bench.report.truth import SplitPlace

    _write(
        lambda: difference_of(
            compare(
                runs,
                SplitPlace(**place),
                metrics=metrics,
                against=against,
                seeds_apart=seeds_apart,
            )
        ),
        pictures,
        table,
    )


@plot.command("calibration")
@_with(*SHARED)
@click.option("--bins", type=click.IntRange(1, 100), default=10, show_default=True,
              help="Bins of equal width.")  # fmt: skip
@_with(*PLACE)
def calibration(
    runs: tuple[Path, ...],
    pictures: tuple[Path, ...],
    table: Path | None,
    bins: int,
    **place: Any,
) -> None:
    """Reliability of sigmoid(score), and what the 0.5 threshold measures."""
    from mlfsic_bench.report.plot_calibration import calibration as calibration_of

    _write(lambda: calibration_of(_apart(runs, place), bins), pictures, table)


@plot.command("training")
@_with(*SHARED)
def training(runs: tuple[Path, ...], pictures: tuple[Path, ...], table: Path | None) -> None:
    """Loss and val macro-AP over the steps of a training, the kept step marked."""
    from mlfsic_bench.report.plot_training import training as training_of

    _write(lambda: training_of(_apart(runs, {})), pictures, table)


def _apart(runs: tuple[Path, ...], place: dict[str, Any]) -> Any:
    """The runs, each by itself: a picture of scores is of one file's scores."""
    from mlfsic_bench.report.lineup import line_up
    from mlfsic_bench.report.truth import SplitPlace

    return line_up(runs, SplitPlace(**place), seeds_apart=True)


def _write(make: Callable[[], Plot], pictures: tuple[Path, ...], table: Path | None) -> None:
    from mlfsic_bench.files import write_bytes, write_text
    from mlfsic_bench.report.escape import visible
    from mlfsic_bench.report.plot_frame import data, form_of, picture

    forms = [form_of(path) for path in pictures]
    made = make()
    for path, form in zip(pictures, forms, strict=True):
        write_bytes(path, picture(made, form))
    if table is not None:
        write_text(table, data(made))
    click.echo(visible(made.alt))

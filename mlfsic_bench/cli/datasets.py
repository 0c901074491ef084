"""`mlfsic-bench datasets`: list, show and check data sets, and write the template of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlfsic_bench.cli import complete
from mlfsic_bench.cli.echo import echo, echo_json
from mlfsic_bench.cli.options import DATA_ROOT, text_form
from mlfsic_bench.cli.plugins import echo_rows, report_checks, rows_as_json, write_template
from mlfsic_bench.text import for_terminal

if TYPE_CHECKING:
    pass

SPEC = click.argument("spec", type=complete.DATASET, metavar="SPEC")


@click.group("datasets")
def datasets() -> None:
    """List, show and check data sets, or begin one."""


@datasets.command("list")
@text_form("text", "json")
def list_command(form: str) -> None:
    """List the registered data sets; one that can't be loaded says why."""
    from mlfsic_bench.data.registry import list_datasets

    rows = list_datasets()
    if form == "json":
        echo_json(
            rows_as_json(
                rows,
                lambda found: {
                    "title": found.title if found else "",
                    "needs_root": found.needs_root if found else None,
                },
            )
        )
        return
    echo_rows(rows, lambda found: "" if found.needs_root else "needs no data root")


@datasets.command("show")
@SPEC
@DATA_ROOT
@text_form("text", "json")
def show_command(spec: str, data_root: Path | None, form: str) -> None:
    """Show the labels of SPEC, and how many images have each.

    SPEC is a registered name, a table of images (.csv, .jsonl, or .json in COCO's format),
    NAME=FILE for a table under another name, or path/to/file.py:Class.
    """
    from mlfsic_bench.data.registry import open_dataset

    dataset = open_dataset(spec, data_root)
    found = dataset.annotations()
    counts = found.present.sum(axis=0).tolist()
    shown = found.shown.sum(axis=0).tolist()
    there = int(dataset.available(found.image_ids).sum())
    unlabelled = int((~found.shown.any(axis=1)).sum())
    if form == "json":
        echo_json(
            {
                "name": dataset.name,
                "title": dataset.title or dataset.name,
                "images": len(found.image_ids),
                "on_disk": there,
                "without_labels": unlabelled,
                "first_image": found.image_ids[0],
                "labels": {
                    label: {"present": n, "shown": m}
                    for label, n, m in zip(found.labels, counts, shown, strict=True)
                },
            }
        )
        return
    echo(for_terminal(f"{dataset.name}: {len(found.image_ids):,} images ({there:,} on disk), "
                      f"such as {found.image_ids[0]}; {len(found.labels)} labels"))  # fmt: skip
    if unlabelled:
        echo(f"{unlabelled:,} images have no label; they are in no split")
    wide = max(map(len, found.labels))
    for label, n, m in zip(found.labels, counts, shown, strict=True):
        difficult = f"  ({m - n:,} more only difficult)" if m > n else ""
        echo(f"  {for_terminal(label):<{wide}}  {n:>7,}{difficult}")


@datasets.command("check")
@SPEC
@DATA_ROOT
@text_form("text", "json")
def check_command(spec: str, data_root: Path | None, form: str) -> None:
    """Run the contract tests on SPEC; up to 20 of its images are opened.

    SPEC is as for `datasets show`. Exit code 1 when a test fails.
    """
    from mlfsic_bench.data.registry import find_dataset
    from mlfsic_bench.plugins.files import names_a_file
    from mlfsic_bench.testing.dataset_check import check_dataset

    name = find_dataset(spec).name if names_a_file(spec) else spec
    report_checks("dataset", name, check_dataset(spec, data_root), form)


@datasets.command("new")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.py")
def new_command(file: Path) -> None:
    """Write the template of a data set to FILE.py.

    It passes `datasets check` as it is; its comments mark what to change.
    """
    write_template(file, "dataset", "MyDataset", "mlfsic_bench.testing", "dataset_template.py")

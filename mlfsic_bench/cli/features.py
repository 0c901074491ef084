"""`mlfsic-bench features`: extract, info, verify."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlfsic_bench.cli.echo import echo, echo_json
from mlfsic_bench.cli.options import (
    BACKBONE,
    CACHE,
    DATA_ROOT,
    DATASET,
    DEVICE,
    LOADING,
    PARTIAL,
    PRECISION,
    SPLIT,
    WEIGHTS,
    say_next,
    text_form,
    with_options,
)
from mlfsic_bench.cli.streams import say
from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import exists, folders_with, list_folder, size_of
from mlfsic_bench.text import for_terminal

if TYPE_CHECKING:
    from mlfsic_bench.features.store.manifest import Precision
    from mlfsic_bench.splits.split import Split


@click.group()
def features() -> None:
    """Extract, inspect and verify stored features."""


@features.command()
@with_options(SPLIT, DATASET, DATA_ROOT, BACKBONE, WEIGHTS, *PARTIAL)
@click.option("--part", type=click.Choice(["base", "val", "novel", "all"]), default="all",
              show_default=True, help="The images of this class split.")  # fmt: skip
@with_options(CACHE, DEVICE, *LOADING, PRECISION)
def extract(
    split: str,
    dataset: str | None,
    data_root: Path | None,
    backbone: str,
    weights: str,
    part: str,
    cache: Path | None,
    device: str,
    workers: int | None,
    batch_size: int | None,
    precision: Precision,
    **partial: Any,
) -> None:
    """Run a backbone once over the images of a split.

    Only what is missing is computed. Of `a+b` each network is run and fills its store, the same as
    when it is used alone.
    """
    from mlfsic_bench.data.images import require_images
    from mlfsic_bench.data.registry import dataset_of
    from mlfsic_bench.features.backbones.registry import build_backbones
    from mlfsic_bench.features.extract import extract as run
    from mlfsic_bench.features.store.manifest import default_cache, store_folder
    from mlfsic_bench.splits.resolve import resolve_split

    resolved = resolve_split(split, data_root=data_root, dataset=dataset, **partial)
    ids = _ids(resolved, part)
    opened = dataset_of(resolved.dataset, data_root, dataset)
    require_images(opened, ids, f"split {resolved.id!r}")
    for network in build_backbones(backbone, weights):
        folder = store_folder(cache or default_cache(), opened, network, precision)
        store = run(
            opened,
            ids,
            network,
            folder,
            device=device,
            batch_size=batch_size,
            workers=workers,
            precision=precision,
            log=say,
        )
        found = f"{len(ids)} images of {resolved.id} ({part}); {len(store)} in the store"
        echo(f"{found}\n{folder}")
    say_next("run", "METHOD", "--split", split, "--backbone", backbone)


@features.command()
@click.argument("store", required=False, type=click.Path(path_type=Path))
@text_form("text", "json")
def info(store: Path | None, form: str) -> None:
    """Show a feature store, or the stores in a cache folder.

    Without STORE, the stores in the default cache (MLFSIC_CACHE, else ~/.cache/mlfsic-bench).
    """
    from mlfsic_bench.features.store.manifest import MANIFEST, default_cache
    from mlfsic_bench.features.store.store import FeatureStore

    named, store = store, store or default_cache()
    stores = folders_with(store, MANIFEST)
    if not exists(store / MANIFEST) and (stores or named is None):
        rows = [_about(path) for path in stores]
        if form == "json":
            echo_json(rows)
            return
        echo(f"{store}: {len(stores)} feature stores")
        wide = max((len(path.name) for path in stores), default=0)
        for path, row in zip(stores, rows, strict=True):
            images = (
                f"{row['images']:>8,} images" if "images" in row else for_terminal(row["damaged"])
            )
            echo(f"  {for_terminal(path.name):<{wide}}  {images}  {row['bytes'] / 1e6:>10,.1f} MB")
        return
    opened = FeatureStore(store)
    manifest = opened.manifest
    about = {**manifest.as_json(), "key": manifest.key}
    if form == "json":
        echo_json({**about, "images": len(opened), "bytes": _bytes_in(store)})
        return
    for name, value in about.items():
        shown = " x ".join(map(str, value)) if isinstance(value, list) else str(value)
        echo(f"{name:<13}{for_terminal(shown)}")
    echo(f"{'images':<13}{len(opened)}")
    echo(f"{'bytes':<13}{_bytes_in(store)}")


@features.command()
@click.argument("store", type=click.Path(path_type=Path))
@with_options(DATASET, DATA_ROOT)
@click.option(
    "--weights", default="default", show_default=True, help="The weights the store was made with."
)
@click.option("--sample", type=click.IntRange(min=1), help="Check this many rows (default: all).")
@DEVICE
@text_form("text", "json")
@click.pass_context
def verify(
    context: click.Context,
    store: Path,
    dataset: str | None,
    data_root: Path | None,
    weights: str,
    sample: int | None,
    device: str,
    form: str,
) -> None:
    """Compute features again and compare them with STORE.

    Exit code 1 when values or images differ.
    """
    from mlfsic_bench.data.registry import dataset_of
    from mlfsic_bench.features.backbones.registry import build_backbone
    from mlfsic_bench.features.extract import verify_store
    from mlfsic_bench.features.store.store import FeatureStore

    opened = FeatureStore(store)
    original = dataset_of(opened.manifest.dataset, data_root, dataset)
    backbone = build_backbone(opened.manifest.backbone, weights)
    checked, differences = verify_store(
        opened, original, backbone, sample=sample, device=device, log=say
    )
    if form == "json":
        found = [asdict(difference) for difference in differences]
        echo_json({"images": len(opened), "checked": checked, "differences": found})
        context.exit(1 if differences else 0)
    for difference in differences:
        echo(for_terminal(f"{difference.image_id}: {difference.reason}"))
    if differences:
        images = len({difference.image_id for difference in differences})
        echo(f"{images} of {checked} images differ")
        context.exit(1)
    echo(f"{checked} of {len(opened)} images checked: equal")


def _about(path: Path) -> dict[str, Any]:
    """A store of a cache folder: its name, bytes, and images or what is wrong with it."""
    from mlfsic_bench.features.store.store import FeatureStore

    row: dict[str, Any] = {"name": path.name, "bytes": _bytes_in(path)}
    try:
        return {**row, "images": len(FeatureStore(path))}
    except BenchError as error:
        return {**row, "damaged": f"damaged: {error.found}"}


def _bytes_in(folder: Path) -> int:
    return sum(size_of(file) for file in list_folder(folder))


def _ids(split: Split, part: str) -> list[str]:
    """The images of one part, or of all, sorted; BenchError when there are none."""
    parts = {name: set(value.image_ids) for name, value in split.parts.items()}
    wanted = [ids for name, ids in parts.items() if part in (name, "all")]
    ids = sorted(set().union(*wanted))
    if not ids:
        raise BenchError(
            f"{split.id} has no images in {part}",
            expected="at least one image",
            found="none",
            remedy="check --data-root and --available-only",
        )
    return ids

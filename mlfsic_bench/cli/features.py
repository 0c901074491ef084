"""`mlfsic-bench features`: extract, info, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlfsic_bench.cli.echo import echo
from mlfsic_bench.cli.streams import say
from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.registry import backbone_names
from mlfsic_bench.paths import exists, folders_with, list_folder, size_of
from mlfsic_bench.text import for_terminal

if TYPE_CHECKING:
    from mlfsic_bench.splits.split import Split

ROOT = click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    envvar="MLFSIC_DATA",
    help="Folder of the data sets (default: MLFSIC_DATA).",
)
DEVICE = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
)


@click.group()
def features() -> None:
    """Extract, inspect and verify stored features."""


@features.command()
@click.option("--split", "split_id", required=True, help="Id or file of the split.")
@ROOT
@click.option(
    "--backbone",
    "backbone_name",
    required=True,
    help=f"One of {', '.join(backbone_names())}; or several joined by +.",
)
@click.option(
    "--weights",
    default="default",
    show_default=True,
    help="default, imagenet, none or a file; W1+W2 for two networks.",
)
@click.option("--available-only", is_flag=True, help="Only the images that are on disk.")
@click.option(
    "--min-pool",
    type=click.IntRange(min=1),
    metavar="N",
    help="Labels with fewer images leave the parts.",
)
@click.option(
    "--part",
    type=click.Choice(["base", "val", "novel", "all"]),
    default="all",
    show_default=True,
    help="Which part's images.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    help="Folder of the stores (default: MLFSIC_CACHE, else ~/.cache/mlfsic-bench).",
)
@DEVICE
@click.option("--workers", type=click.IntRange(min=1), help="Decoding threads.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Images at once.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Arithmetic of the backbone; bf16 is faster and less exact, and a store of its own.",
)
def extract(
    split_id: str,
    data_root: Path | None,
    backbone_name: str,
    weights: str,
    available_only: bool,
    min_pool: int | None,
    part: str,
    cache: Path | None,
    device: str,
    workers: int | None,
    batch_size: int | None,
    precision: str,
) -> None:
    """Run a backbone once over a split's images; only what is missing is computed.

    Of `a+b` each network is run; each fills a store of its own, the one it has when used alone.
    """
    from typing import cast

    from mlfsic_bench.data.images import require_images
    from mlfsic_bench.data.registry import open_dataset
    from mlfsic_bench.features.backbones.registry import build_backbones
    from mlfsic_bench.features.extract import extract as run
    from mlfsic_bench.features.store.manifest import Precision, default_cache, store_folder
    from mlfsic_bench.splits.resolve import resolve_split

    split = resolve_split(
        split_id, data_root=data_root, available_only=available_only, min_pool=min_pool
    )
    ids = _ids(split, part)
    dataset = open_dataset(split.dataset, data_root)
    require_images(dataset, ids, f"split {split.id!r}")
    for backbone in build_backbones(backbone_name, weights):
        folder = store_folder(cache or default_cache(), dataset, backbone, precision)
        store = run(
            dataset,
            ids,
            backbone,
            folder,
            device=device,
            batch_size=batch_size,
            workers=workers,
            precision=cast(Precision, precision),
            log=say,
        )
        found = f"{len(ids)} images of {split.id} ({part}); {len(store)} in the store"
        echo(f"{found}\n{folder}")


@features.command()
@click.argument("store", required=False, type=click.Path(path_type=Path))
def info(store: Path | None) -> None:
    """What the store in the folder STORE holds; of a cache folder, which stores are in it.

    Without STORE, the stores in the default cache (MLFSIC_CACHE, else ~/.cache/mlfsic-bench).
    """
    from mlfsic_bench.features.store.manifest import MANIFEST, default_cache
    from mlfsic_bench.features.store.store import FeatureStore

    named, store = store, store or default_cache()
    stores = folders_with(store, MANIFEST)
    if not exists(store / MANIFEST) and (stores or named is None):
        _list_stores(store, stores)
        return
    opened = FeatureStore.open(store)
    manifest = opened.manifest
    for name, value in {**manifest.as_json(), "key": manifest.key}.items():
        shown = " x ".join(map(str, value)) if isinstance(value, list) else str(value)
        echo(f"{name:<13}{for_terminal(shown)}")
    echo(f"{'images':<13}{len(opened)}")
    echo(f"{'bytes':<13}{_bytes_in(store)}")


@features.command()
@click.argument("store", type=click.Path(path_type=Path))
@ROOT
@click.option(
    "--weights", default="default", show_default=True, help="The weights the store was made with."
)
@click.option("--sample", type=click.IntRange(min=1), help="Check this many rows (default: all).")
@DEVICE
@click.pass_context
def verify(
    context: click.Context,
    store: Path,
    data_root: Path | None,
    weights: str,
    sample: int | None,
    device: str,
) -> None:
    """Compute rows of STORE anew and compare values and images; exit 1 when they differ."""
    from mlfsic_bench.data.registry import open_dataset
    from mlfsic_bench.features.backbones.registry import build_backbone
    from mlfsic_bench.features.extract import verify_store
    from mlfsic_bench.features.store.store import FeatureStore

    opened = FeatureStore.open(store)
    dataset = open_dataset(opened.manifest.dataset, data_root)
    backbone = build_backbone(opened.manifest.backbone, weights)
    checked, differences = verify_store(
        opened, dataset, backbone, sample=sample, device=device, log=say
    )
    for difference in differences:
        echo(for_terminal(f"{difference.image_id}: {difference.reason}"))
    if differences:
        images = len({difference.image_id for difference in differences})
        echo(f"{images} of {checked} images differ")
        context.exit(1)
    echo(f"{checked} of {len(opened)} images checked: equal")


def _list_stores(cache: Path, stores: list[Path]) -> None:
    """A line for each store in a cache folder: name, images, megabytes; what is wrong with it."""
    from mlfsic_bench.features.store.store import FeatureStore

    echo(f"{cache}: {len(stores)} feature stores")
    wide = max((len(path.name) for path in stores), default=0)
    for path in stores:
        try:
            images = f"{len(FeatureStore.open(path)):>8,} images"
        except BenchError as error:
            images = f"damaged: {for_terminal(error.found)}"
        echo(f"  {for_terminal(path.name):<{wide}}  {images}  {_bytes_in(path) / 1e6:>10,.1f} MB")


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

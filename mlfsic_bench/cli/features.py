"""`mlfsic-bench features`: extract, import, export, info, verify."""

from __future__ import annotations

import os
from collections.abc import Iterator
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
    FEATURES_PACK,
    LOADING,
    PARTIAL,
    PATH,
    PRECISION,
    PROTOCOL,
    SPLIT,
    WEIGHTS,
    needed_without,
    optional,
    refuse_input,
    say_next,
    text_form,
    with_options,
)
from mlfsic_bench.cli.streams import say
from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import exists, folders_with, is_file, list_folder, size_of
from mlfsic_bench.text import for_terminal

if TYPE_CHECKING:
    from mlfsic_bench.features.packs.manifest import Kept, PackManifest, Part
    from mlfsic_bench.features.store.manifest import Precision
    from mlfsic_bench.features.store.store import FeatureStore
    from mlfsic_bench.splits.split import Split


@click.group()
def features() -> None:
    """Extract, import, share, inspect and verify features."""


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
    **options: Any,
) -> None:
    """Run a backbone once over the images of a split.

    Only what is missing is computed. Of `a+b` each network is run and fills its store, the same as
    when it is used alone.
    """
    from mlfsic_bench.splits.resolve import resolve_split

    limits = {name: options.pop(name) for name in ("available_only", "min_pool")}
    resolved = resolve_split(split, data_root=data_root, dataset=dataset, **limits)
    ids = _ids(resolved, part)
    for store in _extracted(resolved, ids, backbone, weights, data_root, dataset, **options):
        found = f"{len(ids)} images of {resolved.id} ({part}); {len(store)} in the store"
        echo(f"{found}\n{store.folder}")
    again = ("split", "dataset", "data_root", "backbone", "weights", "available_only", "min_pool")
    say_next("run", "METHOD", again=(*again, "cache", "precision"))


@features.command("import")
@click.argument("file", type=PATH)
@click.option("--name", required=True, help="What takes the place of a backbone's name.")
@click.option("--dataset", required=True, metavar="NAME",
              help="The data set that the image ids belong to, as splits name it.")  # fmt: skip
@click.option("--made-by", required=True, metavar="TEXT", help="What made the features.")
@click.option("--pretraining", required=True, metavar="TEXT",
              help="On which images that was trained.")  # fmt: skip
@click.option("--vector", default="imported", show_default=True, metavar="TEXT",
              help="What they are: 'class token', ... ('mean': of the map).")  # fmt: skip
@click.option("--out", type=PATH, help="Folder of the store (default: one in the cache).")
def import_(file: Path, out: Path | None, **said: Any) -> None:
    """Bring features that another program made into a store.

    FILE is an .npz (ids, vectors, maps), a .parquet (columns id and vector) or a folder of .npy;
    maps may be left out.
    """
    from mlfsic_bench.features.imported import import_features

    store = import_features(file, out=out, log=say, **said)
    maps = "with maps" if store.has_maps else "no maps"
    echo(f"{len(store)} images, vectors of {store.manifest.dim} numbers, {maps}\n{store.folder}")
    say_next("run", "METHOD", "--split", "SPLIT", "--features-pack", store.folder)


@features.command()
@with_options(optional(SPLIT), DATASET, DATA_ROOT, optional(BACKBONE), WEIGHTS, FEATURES_PACK)
@with_options(*PARTIAL)
@click.option("--part", type=click.Choice(["base", "val", "novel", "all"]), default="novel",
              show_default=True, help="The images of this class split.")  # fmt: skip
@with_options(*PROTOCOL)
@click.option("--episodes", type=click.IntRange(1), metavar="N",
              help="Of the novel images only those of the first N episodes.")  # fmt: skip
@click.option("--precision", type=click.Choice(["exact", "fp16", "int8"]), default="exact",
              show_default=True, help="Values as in the store, or rounded.")  # fmt: skip
@click.option("--pooled-only", is_flag=True, help="Global vectors alone, without local maps.")
@click.option("--made-by", default="", metavar="TEXT", help="Who made the pack.")
@with_options(CACHE, DEVICE, *LOADING)
@click.option("--out", type=PATH, required=True, help="The pack; ends in .mlfsic-features.")
def export(
    split: str | None,
    dataset: str | None,
    data_root: Path | None,
    backbone: str | None,
    weights: str,
    features_pack: Path | None,
    part: Part,
    protocol: str | None,
    episodes: int | None,
    precision: Kept,
    pooled_only: bool,
    made_by: str,
    out: Path,
    **options: Any,
) -> None:
    """Write the features of a split into one file, to share it.

    `run --features-pack FILE` then needs neither images nor backbone. Of rounded features the
    change of every metric is measured and written into the pack.
    """
    from mlfsic_bench.episodes.protocol import DEFAULT, OPTIONS, find_protocol
    from mlfsic_bench.evaluation.export import choose_images, export_pack
    from mlfsic_bench.features.given import GivenFeatures
    from mlfsic_bench.features.packs.manifest import SUFFIX
    from mlfsic_bench.splits.files import to_split
    from mlfsic_bench.splits.resolve import resolve_file

    for name in ("split", "backbone"):
        needed_without(name)
    if out.suffix != SUFFIX:
        raise BenchError(
            f"{out} is no name of a feature pack",
            expected=f"a name that ends in {SUFFIX}",
            found=repr(out.name),
            remedy=f"name it with --out {out.stem}{SUFFIX}",
        )
    refuse_input(out)
    limits = {name: options.pop(name) for name in ("available_only", "min_pool")}
    given = GivenFeatures(features_pack) if features_pack else None
    if split is None:
        assert given is not None
        content = given.split_file()
    else:
        content = resolve_file(split, data_root=data_root, dataset=dataset, **limits)
    resolved = to_split(content)
    asked = {name: options.pop(name) for name in OPTIONS}
    drawn_by = None
    if protocol or any(value is not None for value in asked.values()):
        drawn_by = find_protocol(protocol or DEFAULT, **asked)
    chosen = choose_images(resolved, part, drawn_by, episodes)
    if given is not None:
        given.check_name(backbone or "")
        if given.rounded is not None:
            raise BenchError(
                f"the values of {given.path} are rounded",
                expected="a pack of exact values, or the images",
                found=given.rounded,
                remedy="export again from what the pack was made of: a pack of its values would "
                "pass for exact ones, or be rounded twice",
            )
        given.require(resolved, {part: chosen.ids})
        stores, weights = given.networks, given.weights
    else:
        assert backbone is not None
        stores = tuple(
            _extracted(
                resolved, chosen.ids, backbone, weights, data_root, dataset, wait=True, **options
            )
        )
        if os.sep in weights:
            weights = "+".join(Path(one).name for one in weights.split("+"))
    manifest = export_pack(
        out,
        stores,
        content,
        chosen,
        weights=weights,
        kept=precision,
        maps=not pooled_only and all(store.has_maps for store in stores),
        made_by=made_by,
        log=say,
    )
    echo(f"{manifest.images} images of {resolved.id} ({part}), {size_of(out) / 1e6:,.1f} MB")
    _echo_measured(manifest)
    echo(str(out))
    say_next("run", "METHOD", "--features-pack", out)


def _extracted(
    split: Split,
    ids: list[str],
    backbone: str,
    weights: str,
    data_root: Path | None,
    dataset: str | None,
    cache: Path | None,
    precision: Precision = "fp32",
    **options: Any,
) -> Iterator[FeatureStore]:
    """A store for each network of the backbone, with features of all these images."""
    from mlfsic_bench.data.images import require_images
    from mlfsic_bench.data.registry import dataset_of
    from mlfsic_bench.features.backbones.registry import build_backbones
    from mlfsic_bench.features.extract import extract as run
    from mlfsic_bench.features.store.manifest import default_cache, store_folder

    opened = dataset_of(split.dataset, data_root, dataset)
    require_images(opened, ids, f"split {split.id!r}")
    for network in build_backbones(backbone, weights):
        folder = store_folder(cache or default_cache(), opened, network, precision)
        yield run(opened, ids, network, folder, precision=precision, log=say, **options)


def _echo_measured(manifest: PackManifest) -> None:
    """How far rounding moved every metric, in points."""
    measured = manifest.measured
    if measured is None:
        return
    echo(f"{measured.method} on {measured.episodes} episodes, exact and {manifest.kept}:")
    for name, change in measured.metrics.items():
        if change.exact is not None and change.packed is not None:
            exact, packed = 100 * change.exact, 100 * change.packed
            echo(f"  {name:<16}{exact:>9.3f}{packed:>9.3f}{packed - exact:>+9.3f}")


@features.command()
@click.argument("store", required=False, type=PATH)
@text_form("text", "json")
def info(store: Path | None, form: str) -> None:
    """Show a feature store, a pack, or the stores of a cache.

    Without STORE, the stores in the default cache (MLFSIC_CACHE, else ~/.cache/mlfsic-bench).
    """
    from mlfsic_bench.features.store.manifest import MANIFEST, default_cache
    from mlfsic_bench.features.store.store import FeatureStore

    named, store = store, store or default_cache()
    if is_file(store):
        from mlfsic_bench.features.packs.pack import Pack

        pack = Pack(store)
        _show(pack.manifest.model_dump(mode="json"), len(pack), size_of(store), form)
        if form == "text":
            _echo_measured(pack.manifest)
        return
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
    _show({**manifest.as_json(), "key": manifest.key}, len(opened), _bytes_in(store), form)


def _show(about: dict[str, Any], images: int, size: int, form: str) -> None:
    """What a manifest says, with the number of images and bytes; parts of it below their names."""
    about |= {"images": images, "bytes": size}
    if form == "json":
        echo_json(about)
        return
    about.pop("measured", None)  # in text a table of its own
    lines = list(_lines(about))
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        echo(f"{for_terminal(name):<{width}}  {for_terminal(value)}")


def _lines(about: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in about.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{above}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for number, one in enumerate(value):
                yield from _lines(one, f"{above}{name}.{number}.")
        else:
            shown = " x ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield above + name, shown


@features.command()
@click.argument("store", type=PATH)
@with_options(DATASET, DATA_ROOT, optional(BACKBONE))
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
    backbone: str | None,
    weights: str,
    sample: int | None,
    device: str,
    form: str,
) -> None:
    """Compute features again and compare them with STORE.

    The backbone is the one that STORE names; --backbone is for one that is in a file.

    Of a feature pack the hashes are checked; with --sample, so many rows are computed again too.
    Imported features can't be computed again: their hash is checked. Exit code 1 when values or
    images differ.
    """
    from mlfsic_bench.features.store.store import FeatureStore

    packed = is_file(store)
    checked, found = 0, list[dict[str, str]]()
    stores: list[FeatureStore] = []
    if packed:
        from mlfsic_bench.features.packs.pack import Pack

        pack = Pack(store)
        stores, images = list(pack.networks), len(pack)
        found = [{"file": name, "reason": "another SHA-256"} for name in pack.wrong_hashes()]
        again = sample is not None and not found
        if again and pack.manifest.kept == "int8":
            again = False
            say("values of eight bits are not compared with the images: hashes only")
        elif not again:
            say("not compared with the images: name --sample N (and --data-root) for that")
    else:
        stores, again = [FeatureStore(store)], True
        images = len(stores[0])
    for one in stores:
        if one.manifest.made_by:
            from mlfsic_bench.features.imported import wrong_content

            say(f"{one.manifest.backbone} is imported: there is no network to compare it with")
            wrong = None if packed else wrong_content(one)
            found += [{"file": str(store), "reason": wrong}] if wrong else []
            checked = images
        elif again:
            checked, differences = _verified(
                one, data_root, backbone, weights, sample, device, dataset
            )
            found += differences
        else:
            checked = images
    if form == "json":
        echo_json({"images": images, "checked": checked, "differences": found})
        context.exit(1 if found else 0)
    for row in found:
        echo(for_terminal(f"{row.get('image_id') or row.get('file')}: {row['reason']}"))
    differing = len({row["image_id"] for row in found if "image_id" in row})
    if differing:
        echo(f"{differing} of {checked} images differ")
    if found:
        context.exit(1)
    echo(f"{checked} of {images} images checked: equal")


def _verified(
    store: FeatureStore,
    data_root: Path | None,
    backbone: str | None,
    weights: str,
    sample: int | None,
    device: str,
    dataset: str | None,
) -> tuple[int, list[dict[str, str]]]:
    """How many images were computed again, and where they differ from the store."""
    from mlfsic_bench.data.registry import dataset_of
    from mlfsic_bench.evaluation.known_names import known_backbone
    from mlfsic_bench.features.backbones.registry import build_backbone
    from mlfsic_bench.features.extract import verify_store

    opened = dataset_of(store.manifest.dataset, data_root, dataset)
    network = build_backbone(backbone or known_backbone(store.manifest.backbone), weights)
    checked, differences = verify_store(
        store, opened, network, sample=sample, device=device, log=say
    )
    return checked, [asdict(difference) for difference in differences]


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

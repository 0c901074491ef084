"""`mlfsic-bench data`: list, download, verify and find data sets, label embeddings and weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlfsic_bench.cli import complete
from mlfsic_bench.cli.echo import echo, echo_json
from mlfsic_bench.cli.options import DATA_ROOT, text_form
from mlfsic_bench.cli.streams import say
from mlfsic_bench.text import for_terminal

if TYPE_CHECKING:
    from mlfsic_bench.downloads.items import Item


def _names(ctx: click.Context) -> list[str]:
    from mlfsic_bench.downloads.items import GROUPS, ITEMS

    return [*GROUPS, *ITEMS]


ITEM = complete.Known("item", _names)


@click.group()
def data() -> None:
    """Download data sets, label embeddings and weights, and check what is there."""


@data.command("list")
@DATA_ROOT
@text_form("text", "json")
def list_command(data_root: Path | None, form: str) -> None:
    """List what can be downloaded: size, terms, and what is there."""
    from mlfsic_bench.downloads.items import GROUPS, find_items, in_bytes

    rows = [_row(name, item, data_root) for name, item in find_items().items()]
    if form == "json":
        echo_json(rows)
        return
    for row in rows:
        echo(f"{row['name']:<18} {in_bytes(row['size']):>12}  {row['state']}")
        echo(f"{'':18} {row['about']}\n{'':18} terms: {row['terms']}")
    for group, names in GROUPS.items():
        echo(f"{group} is short for {' and '.join(names)}")


@data.command()
@click.argument("items", nargs=-1, type=ITEM, metavar="[ITEM]...")
@DATA_ROOT
@text_form("text", "json")
def where(items: tuple[str, ...], data_root: Path | None, form: str) -> None:
    """Say where each ITEM lies or is looked for.

    Also how many of its files are there. Without ITEM, all of them.
    """
    from mlfsic_bench.downloads.items import find_items

    rows = [_row(name, item, data_root) for name, item in find_items(items).items()]
    if form == "json":
        echo_json(rows)
        return
    for row in rows:
        echo(for_terminal(f"{row['name']:<18} {row['folder'] or 'no data root is named'}"))
        for pattern, (found, expected) in row["files"].items():
            echo(f"{'':18} {pattern}: {found:,} of {expected:,}")


@data.command()
@click.argument("items", nargs=-1, required=True, type=ITEM, metavar="ITEM...")
@DATA_ROOT
@click.option("--mirror", envvar="MLFSIC_MIRROR", metavar="URL",
              help="A host that has the files by their names, tried first "
              "(default: MLFSIC_MIRROR).")  # fmt: skip
@click.option("--keep-archives", is_flag=True, help="Keep archives after they are unpacked.")
@click.option("--dry-run", is_flag=True, help="Only say what would be downloaded, and how much.")
def download(
    items: tuple[str, ...],
    data_root: Path | None,
    mirror: str | None,
    keep_archives: bool,
    dry_run: bool,
) -> None:
    """Download each ITEM that is not there, check it and unpack it.

    `data list` has the items. What was cut off is resumed by the same command. Wrong sizes and
    checksums are refused. Data go into the data root, weights to where torch keeps them.
    """
    from mlfsic_bench.downloads import download as work
    from mlfsic_bench.downloads.items import find_items, in_bytes, needed_folder
    from mlfsic_bench.errors import BenchError

    if mirror and not mirror.startswith(("http://", "https://")):
        raise BenchError(
            f"the mirror {mirror} can't be used",
            expected="a URL that begins with http:// or https://",
            found=repr(mirror),
            remedy="correct --mirror or MLFSIC_MIRROR",
        )
    wanted = find_items(items)
    lacking = []
    for name, item in wanted.items():
        folder = needed_folder(name, item, data_root)
        files = work.lacking(item, folder)
        lacking += files
        if not files:
            echo(for_terminal(f"{name}: already there, in {folder}"))
        for file in files:
            unpacked = f", {in_bytes(file.unpacked)} unpacked" if file.unpacked else ""
            known = "" if file.checksum else ", no checksum known"
            size = f"{in_bytes(file.size)}{unpacked}{known}"
            echo(for_terminal(f"{name}: {file.name}, {size}, to {folder}"))
    if len(lacking) > 1:
        echo(f"in all: {in_bytes(sum(file.size or 0 for file in lacking))} to download")
    work.check_space(wanted, data_root, keep_archives)
    if dry_run:
        return
    for name, item in wanted.items():
        if work.lacking(item, needed_folder(name, item, data_root)):
            work.download(name, item, data_root, mirror, keep_archives, say)
            echo(for_terminal(f"{name}: complete, in {item.folder(data_root)}"))


@data.command()
@click.argument("items", nargs=-1, type=ITEM, metavar="[ITEM]...")
@DATA_ROOT
@click.option("--quick", is_flag=True, help="Compare counts and sizes only, read no file.")
@text_form("text", "json")
@click.pass_context
def verify(
    ctx: click.Context, items: tuple[str, ...], data_root: Path | None, quick: bool, form: str
) -> None:
    """Compare each ITEM with the official counts, sizes and checksums.

    Without ITEM, all that are there or partly there. Says what it compared, and what it could not
    compare. Exit code 1 when something differs.
    """
    from mlfsic_bench.downloads.download import Verdict
    from mlfsic_bench.downloads.download import verify as compare
    from mlfsic_bench.downloads.items import find_items, needed_folder

    found: dict[str, Verdict] = {}
    for name, item in find_items(items).items():
        if items or _row(name, item, data_root)["state"] in ("there", "partly there"):
            found[name] = compare(item, needed_folder(name, item, data_root), quick, say)
    if form == "json":
        echo_json({name: asdict(verdict) for name, verdict in found.items()})
    else:
        for name, verdict in found.items():
            lines = [f"as it should be: {text}" for text in verdict.checked]
            lines += [f"not compared: {text}" for text in verdict.unchecked]
            lines += [f"differs: {text}" for text in verdict.differences]
            for line in lines:
                echo(for_terminal(f"{name}: {line}"))
        if not found:
            echo("nothing is there to compare")
    ctx.exit(1 if any(verdict.differences for verdict in found.values()) else 0)


def _row(name: str, item: Item, root: Path | None) -> dict[str, Any]:
    """What `list` and `where` show of an item."""
    from mlfsic_bench.downloads.download import counts, lacking

    folder = item.folder(root)
    found = counts(item, folder) if folder is not None else {}
    state = "partly there" if any(found.values()) else "not there"
    if folder is None:
        state = "no data root is named"
    elif not lacking(item, folder):
        state = "there"
    sizes = [file.size for file in item.files]
    return {
        "name": name,
        "about": item.about,
        "terms": item.terms,
        "size": None if None in sizes else sum(size or 0 for size in sizes),
        "urls": [[host + file.name for host in file.hosts] for file in item.files],
        "state": state,
        "folder": None if folder is None else str(folder),
        "files": {pattern: (found.get(pattern, 0), n) for pattern, n in item.holds.items()},
    }

"""`mlfsic-bench splits`: list, show, make, build, verify and audit splits."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlfsic_bench.cli import complete
from mlfsic_bench.cli.echo import echo, echo_json
from mlfsic_bench.cli.options import (
    DATA_ROOT,
    DATASET,
    PARTIAL,
    refuse_input,
    say_next,
    text_form,
    with_options,
)
from mlfsic_bench.cli.streams import say, say_always
from mlfsic_bench.errors import BenchError
from mlfsic_bench.text import for_terminal

if TYPE_CHECKING:
    from mlfsic_bench.splits.files import SplitFile
    from mlfsic_bench.splits.propose import RuleName

SPLIT = click.argument("split", type=complete.SPLIT)
EXCLUDE = click.option(
    "--exclude", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Leave out the images in this list; the split is then partial, and results say so.",
)  # fmt: skip


@click.group()
def splits() -> None:
    """List, show, make, build, verify and audit splits."""


@splits.command("list")
@text_form("text", "json")
def list_splits(form: str) -> None:
    """List the shipped splits."""
    from mlfsic_bench.data.registry import needs_root
    from mlfsic_bench.splits.names import shipped_ids
    from mlfsic_bench.splits.resolve import shipped_file

    rows = [_summary(shipped_file(split_id)) for split_id in shipped_ids()]
    if form == "json":
        echo_json(rows)
        return
    for row in rows:
        sizes = row["images"]
        images = (
            f"{sizes['base']:,} / {sizes['val']:,} / {sizes['novel']:,} images"
            if sizes
            else "images built from your data root"
            if needs_root(row["dataset"])
            else "synthetic images, made when the split is used"
        )
        labels = "/".join(str(n) for n in row["labels"].values())
        echo(f"{row['id']:<24} {row['dataset']:<10} {row['rule']:<7} {labels:<9} {images}")


@splits.command()
@SPLIT
@text_form("text", "json")
def show(split: str, form: str) -> None:
    """Show labels, rule, provenance and counts of SPLIT.

    SPLIT is an id or a split file.
    """
    from mlfsic_bench.data.dataset import PART_NAMES
    from mlfsic_bench.splits.names import unofficial
    from mlfsic_bench.splits.resolve import split_file

    content = split_file(split)
    if form == "json":
        echo_json(content.model_dump(mode="json", exclude={"images"}))
        return
    echo(for_terminal(f"{content.id}: {content.dataset}, rule {content.rule.name}"))
    echo(f"hash {content.hash or '(none: a definition written by hand)'}")
    folders = content.rule.images_from
    for part in PART_NAMES:
        excluded = " or ".join(content.rule.excluded_by.of(part))
        line = (
            f"{part}: images with a label below"
            + (f" that show no {excluded} label" if excluded else ", whatever else they show")
            + (f", of {' and '.join(folders.of(part))}" if folders else "")
            if content.labels.of(part)
            else f"{part}: no label and no image"
        )
        echo("\n" + for_terminal(line))
        if content.labels.of(part):
            echo(_part_lines(content, part))
    for key, text in content.provenance.model_dump().items():
        echo("\n" + for_terminal(f"{key}: {text}"))
    for line in unofficial(content.id, content.differs_from_official):
        echo("\n" + for_terminal(line))
    if content.subset:
        echo(f"\nsubset: {json.dumps(content.subset.model_dump(mode='json'))}")


@splits.command()
@click.option("--dataset", required=True, type=complete.DATASET, metavar="SPEC",
              help="A registered name, a table of images, or FILE.py:CLASS.")  # fmt: skip
@DATA_ROOT
@click.option("--labels", "sizes", type=(int, int, int), metavar="BASE VAL NOVEL",
              help="How many labels each class split gets, such as 8 6 6.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), metavar="N",
              help="Another draw of the labels.  [default: 0]")  # fmt: skip
@click.option("--balanced", is_flag=True,
              help="Deal labels out by frequency, not at random.")  # fmt: skip
@click.option("--lists", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help='Your own lists: JSON with "base", "val" and "novel".')  # fmt: skip
@click.option("--rule", type=click.Choice(["open", "strict"]), default="open", show_default=True,
              help="Which images a class split has.")  # fmt: skip
@click.option("--need", type=click.IntRange(1), default=5, show_default=True, metavar="N",
              help="Warn of labels with fewer images, as an episode needs them.")  # fmt: skip
@click.option("--id", "split_id", metavar="ID",
              help="The split's id.  [default: DATASET-BASE-VAL-NOVEL[-strict]-v1]")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="File to write.  [default: ID.json here]")  # fmt: skip
def new(
    dataset: str,
    data_root: Path | None,
    sizes: tuple[int, int, int] | None,
    seed: int | None,
    balanced: bool,
    lists: Path | None,
    rule: RuleName,
    need: int,
    split_id: str | None,
    out: Path | None,
) -> None:
    """Make a split of a data set; choose its labels.

    Shows the lists and what each rule leaves to them, and writes the split file. The file is
    complete: it has the images. Name it wherever a split is asked for.
    """
    from mlfsic_bench.data.dataset import PART_NAMES
    from mlfsic_bench.data.registry import open_dataset
    from mlfsic_bench.splits import propose
    from mlfsic_bench.splits.build import build_file
    from mlfsic_bench.splits.files import write_split
    from mlfsic_bench.splits.names import shipped_ids

    if (sizes is None) == (lists is None):
        raise click.UsageError("Name one of --labels and --lists.")
    if seed is not None and (balanced or lists is not None):
        raise click.UsageError("--seed is for labels drawn at random.")
    opened = open_dataset(dataset, data_root)
    annotations = opened.annotations()
    known, number = annotations.labels, seed or 0
    if lists is not None:
        chosen, origin = propose.read_lists(lists, known), f"The lists in {lists.name}."
    elif balanced:
        assert sizes is not None
        chosen = propose.balanced_lists(annotations, sizes)
        origin = f"The {len(known)} labels dealt out by frequency with `splits new --balanced`."
    else:
        assert sizes is not None
        chosen = propose.random_lists(opened.name, known, sizes, number)
        origin = f"Drawn from the {len(known)} labels with `splits new`, seed {number}."
    definition = propose.define(opened.name, chosen, rule, origin, split_id)
    if definition.id in shipped_ids():
        raise BenchError(
            f"a split {definition.id} is shipped",
            expected="an id of its own",
            found=repr(definition.id),
            remedy="name another with --id, such as my-split-v1",
        )
    echo(for_terminal(f"{opened.name}: {len(annotations.image_ids):,} images, "
                      f"{len(known)} labels, {sum(map(len, chosen.values()))} used"))  # fmt: skip
    for part in PART_NAMES:
        echo(for_terminal(f"  {part}: {', '.join(chosen[part]) or '(no label)'}"))
    rows = propose.outlook(definition, annotations)
    for name in propose.RULES:
        of_rule = [row for row in rows if row.rule == name]
        images = " / ".join(f"{row.images:,}" for row in of_rule)
        echo(f"rule {name}: {images} images (base / val / novel)")
        for row in of_rule:
            if few := row.too_few(need):
                echo(f"  fewer than {need} images in {row.part}: {_pairs(few)}")
    content = build_file(definition, opened)
    path = out if out is not None else Path(f"{content.id}.json")
    refuse_input(path)
    write_split(content, path)
    echo(for_terminal(f"{path}: {content.id}, rule {rule}, hash {content.hash}"))
    if any(row.too_few(need) for row in rows if row.rule == rule and row.part != "base"):
        say_always(f"warning: some labels have too few images; --min-pool {need} leaves them out")
    words = ("run", "METHOD", "--split", path, "--backbone", "NAME")
    say_next(*words, again=("dataset", "data_root"))


@splits.command()
@SPLIT
@with_options(DATASET, DATA_ROOT)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="File to write.  [default: ID.json here; "
              "ID.subset.json for a subset]")  # fmt: skip
@with_options(*PARTIAL)
@EXCLUDE
def build(
    split: str,
    dataset: str | None,
    data_root: Path | None,
    out: Path | None,
    exclude: Path | None,
    **partial: Any,
) -> None:
    """Build SPLIT from the annotations in the data root.

    SPLIT is an id or a definition file.
    """
    from mlfsic_bench.data.dataset import PART_NAMES
    from mlfsic_bench.data.official import in_short
    from mlfsic_bench.data.registry import dataset_of
    from mlfsic_bench.splits.build import build_file
    from mlfsic_bench.splits.files import render, write_split
    from mlfsic_bench.splits.names import plain_id, shipped_ids
    from mlfsic_bench.splits.resolve import shipped_bytes, shipped_file, split_file

    definition = split_file(split).definition()
    opened = dataset_of(definition.dataset, data_root, dataset)
    content = build_file(definition, opened, exclude=_excluded(exclude), **partial)
    differs, anchors = content.differs_from_official, opened.anchors
    name = f"{content.id}.subset.json" if content.subset else f"{content.id}.json"
    path = out if out is not None else Path(name)
    refuse_input(path)
    write_split(content, path)
    echo(for_terminal(f"{path}: {content.id}, hash {content.hash}"))
    for part in PART_NAMES:
        echo(_part_lines(content, part))
    if anchors is not None and not differs:
        echo(f"compared with {anchors.title}: all agree")
    elif anchors is not None and differs:
        named = plain_id(content.id) != content.id
        say_always(
            f"warning: of {anchors.title}, {len(differs)} differ: {in_short(differs)} "
            f"({anchors.source})"
            + (f"; so the split is named {content.id}" if named else "")
            + f". {anchors.remedy[0].upper()}{anchors.remedy[1:]} and build again."
        )
    if content.subset:
        echo("a partial split; results made on it say so")
    elif content.id in shipped_ids() and shipped_file(content.id).images is not None:
        if render(content).encode() == shipped_bytes(content.id):
            echo("identical to the shipped file, byte for byte")
        else:
            say_always(
                f"warning: differs from the shipped {content.id}; "
                f"`mlfsic-bench splits verify {path}` says where"
            )
    words = ("run", "METHOD", "--split", path, "--backbone", "NAME")
    say_next(*words, again=("dataset", "data_root"))


@splits.command()
@SPLIT
@with_options(DATASET, DATA_ROOT)
@EXCLUDE
@text_form("text", "json")
@click.pass_context
def verify(
    ctx: click.Context,
    split: str,
    dataset: str | None,
    data_root: Path | None,
    exclude: Path | None,
    form: str,
) -> None:
    """Compare SPLIT with the shipped one and with the data root.

    SPLIT is an id or a split file. Compares schema and hash, the shipped split of the same id, and,
    given a data root, the split built again from it, and the annotations there with the official
    counts. Says what it compared with, and whether that is official. Exit code 1 when something
    differs.
    """
    from mlfsic_bench.splits.verify import verify_split

    verdict = verify_split(split, data_root, _excluded(exclude), dataset)
    if form == "json":
        echo_json({"split": split, **asdict(verdict)})
        ctx.exit(1 if verdict.differences else 0)
    for compared in verdict.compared:
        echo(for_terminal(f"compared with {compared}"))
    for difference in verdict.differences:
        echo(for_terminal(f"differs: {difference}"))
    kind = "unofficial" if verdict.official == "no" else "not compared with the official split"
    for reason in verdict.reasons:
        echo(for_terminal(f"{kind}: {reason}"))
    if verdict.differences:
        echo(f"{split}: {len(verdict.differences)} differences")
        ctx.exit(1)
    agrees = f"{split}: agrees with what is named above; "
    said = {
        "yes": f"{split}: no differences",
        "no": f"{agrees}its annotations are not the official ones",
        "not compared": f"{agrees}nothing official to compare with",
    }
    echo(said[verdict.official])


@splits.command()
@SPLIT
@with_options(DATASET, DATA_ROOT)
@click.option(
    "--quick", is_flag=True, help="Read only the first and last bytes of each image; decode none."
)
@click.option("--exclusions", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Also write a list of the bad and the duplicate images, for `splits build "
              "--exclude`.")  # fmt: skip
@text_form("text", "json")
@click.pass_context
def audit(
    ctx: click.Context,
    split: str,
    dataset: str | None,
    data_root: Path | None,
    quick: bool,
    exclusions: Path | None,
    form: str,
) -> None:
    """Report leaks, small pools, bad and duplicate images of SPLIT.

    SPLIT is an id or a split file. Nothing is changed and nothing deleted. Without a data root
    only the content of the file is audited. Exit code 1 when there is a leak or a bad image.
    """
    from mlfsic_bench.data.registry import ROOT_VARIABLE, dataset_of, needs_root, registered
    from mlfsic_bench.splits.audit import audit_split
    from mlfsic_bench.splits.build import build_file
    from mlfsic_bench.splits.exclusions import write_exclusions
    from mlfsic_bench.splits.resolve import split_file

    content = split_file(split, check=False)
    opened = None
    has_root = data_root is not None or bool(os.environ.get(ROOT_VARIABLE))
    can_open = dataset is not None or (has_root and registered(content.dataset) is not None)
    if can_open or content.images is None or not needs_root(content.dataset):
        opened = dataset_of(content.dataset, data_root, dataset)
    elif exclusions is not None:
        raise BenchError(
            "no image was audited, so there is nothing to list",
            expected=f"--data-root (or {ROOT_VARIABLE}), or --dataset, with --exclusions",
            found="neither",
            remedy="name the folder with the data sets",
        )
    if content.images is None and opened is not None:
        content = build_file(content.definition(), opened)
    result, files = audit_split(content, opened, full=not quick, log=say)
    listed = files.exclusions() if files is not None else {}
    if exclusions is not None:
        write_exclusions(exclusions, listed, content.id)
    if form == "json":
        echo_json({**result, "files": files.as_json() if files else None})
    else:
        echo(f"audit of {content.id}, hash {content.hash}")
        for key, value in result.items():
            if value is not None:
                _print_finding(key, value)
        if files is None:
            echo(
                "no --data-root and no --dataset: labels shown, unannotated images and image "
                "files not audited"
            )
        else:
            for line in files.lines():
                echo(for_terminal(line))
        if exclusions is not None:
            echo(for_terminal(f"{exclusions}: {len(listed)} images to exclude"))
    ctx.exit(1 if result["leaks"] or (files is not None and files.bad) else 0)


def _excluded(path: Path | None) -> frozenset[str]:
    from mlfsic_bench.splits.exclusions import read_exclusions

    return frozenset() if path is None else read_exclusions(path)


def _summary(content: SplitFile) -> dict[str, Any]:
    from mlfsic_bench.data.dataset import PART_NAMES

    return {
        "id": content.id,
        "dataset": content.dataset,
        "rule": content.rule.name,
        "labels": {part: len(content.labels.of(part)) for part in PART_NAMES},
        "images": {part: content.counts.of(part).images for part in PART_NAMES}
        if content.counts
        else None,
        "hash": content.hash,
    }


def _part_lines(content: SplitFile, part: Any) -> str:
    if content.counts is None:
        return "  " + ", ".join(map(for_terminal, content.labels.of(part)))
    counts = content.counts.of(part)
    labels = ", ".join(f"{for_terminal(label)} {n:,}" for label, n in counts.labels.items())
    left = content.subset.labels_left.of(part) if content.subset else {}
    gone = (
        "; left: " + ", ".join(f"{for_terminal(label)} {n}" for label, n in left.items())
        if left
        else ""
    )
    return f"  {part}: {counts.images:,} images ({labels}{gone})"


def _pairs(counts: dict[str, Any]) -> str:
    return ", ".join(f"{for_terminal(str(name))} {n}" for name, n in counts.items())


def _print_finding(key: str, value: Any, indent: str = "") -> None:
    title = for_terminal(f"{indent}{key.replace('_', ' ')}:")
    if isinstance(value, dict) and any(isinstance(inner, dict | list) for inner in value.values()):
        echo(title)
        for name, inner in value.items():
            _print_finding(str(name), inner, indent + "  ")
    elif isinstance(value, dict):
        echo(f"{title} {_pairs(value) or 'none'}")
    elif isinstance(value, list):
        some = "; ".join(" = ".join(x) if isinstance(x, list) else str(x) for x in value[:20])
        echo(
            f"{title} {len(value)}"
            + (f" ({for_terminal(some)}{' ...' if len(value) > 20 else ''})" if value else "")
        )
    else:
        said = "yes" if value is True else "no" if value is False else for_terminal(str(value))
        echo(f"{title} {said}")

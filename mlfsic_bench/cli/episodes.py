"""`mlfsic-bench episodes`: sample, import, verify and show episodes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlfsic_bench.cli import complete
from mlfsic_bench.cli.echo import echo, echo_json
from mlfsic_bench.cli.options import (
    DATA_ROOT,
    DATASET,
    PARTIAL,
    PROTOCOL,
    refuse_input,
    say_next,
    text_form,
    with_options,
)
from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import exists, is_file
from mlfsic_bench.text import for_terminal

if TYPE_CHECKING:
    from mlfsic_bench.episodes.protocol import Protocol
    from mlfsic_bench.splits.split import Split

SPLIT = click.argument("split", type=complete.SPLIT)
# How a split's images are found and limited.
IMAGES = (DATASET, DATA_ROOT, *PARTIAL)
PART = click.option("--part", type=click.Choice(["val", "novel"]), default="novel",
                    show_default=True, help="The class split to draw from.")  # fmt: skip
OF_SPLIT = click.option("--split", type=complete.SPLIT, metavar="ID|FILE",
                        help="The split of a file, if not the one it names.")  # fmt: skip


@click.group()
def episodes() -> None:
    """Sample, import, verify and show episodes."""


@episodes.command()
@SPLIT
@PART
@with_options(*PROTOCOL)
@click.option("--count", type=click.IntRange(min=1),
              help="How many.  [default: novel 200, val 100; disjoint_per_label all there "
              "are; laso_k_shot 10]")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="File to write.  [default: SPLIT-ID.PART-episodes.json here, with K and Q "
              "in the name where they are chosen]")  # fmt: skip
@with_options(*IMAGES)
def sample(
    split: str,
    part: str,
    count: int | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Draw the episodes of SPLIT and write them to a file.

    SPLIT is an id or a split file.
    """
    from mlfsic_bench.episodes.files import draw_episodes
    from mlfsic_bench.files import write_bytes
    from mlfsic_bench.splits.resolve import resolve_split

    images, chosen = _images(options), _protocol(options)
    resolved = resolve_split(split, **images)
    drawn = draw_episodes(chosen, resolved, part, count)
    path = out if out is not None else Path(chosen.file_name(resolved.plain_id, part))
    write_bytes(path, drawn.format())
    n = len(drawn.episodes)
    echo(f"{path}: {n} {part} episodes of {resolved.id}, {chosen.title}, hash {drawn.hash}")
    sizes = list(dict.fromkeys(str(len(episode.support)) for episode in drawn.episodes))
    echo(f"support images: {', '.join(sizes)}; query images: {len(drawn.episodes[0].query):,}")
    if resolved.subset is not None:
        echo("the split is partial; results on these episodes say so")
    if part == "novel":
        words = ("run", "METHOD", "--split", split, "--episodes-file", path, "--backbone", "NAME")
        say_next(*words, again=("dataset", "data_root", "available_only", "min_pool"))


@episodes.command("import")
@SPLIT
@click.argument("indices", type=click.Path(path_type=Path), metavar="INDICES.json")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              required=True, help="Episode file to write, for `run --episodes-file`.")  # fmt: skip
@click.option("--protocol", type=click.Choice(["laso_k_shot", "laso_k_shot_balanced"]),
              default="laso_k_shot", show_default=True,
              help="Tested on all val2014 images, or on LaSO's balanced pass.")  # fmt: skip
@with_options(*IMAGES)
def import_published(split: str, indices: Path, out: Path, protocol: str, **images: Any) -> None:
    """Make an episode file of LaSO's published support sets.

    INDICES.json has indices into train2014 (docs/episodes.md); the official annotations are needed.
    """
    from mlfsic_bench.data.coco import Coco
    from mlfsic_bench.data.registry import dataset_of
    from mlfsic_bench.episodes.k_shot import import_indices
    from mlfsic_bench.files import write_bytes
    from mlfsic_bench.splits.resolve import resolve_split

    refuse_input(out)
    resolved = resolve_split(split, **images)
    dataset = dataset_of(resolved.dataset, images["data_root"], images["dataset"])
    if not isinstance(dataset, Coco):
        raise BenchError(
            f"indices into an annotation file say nothing about {resolved.dataset}",
            expected="a split of coco",
            found=f"split {resolved.id!r} of {resolved.dataset}",
            remedy="name a split of COCO 2014, such as coco-64-16-laso-v1",
        )
    given = import_indices(indices, resolved, dataset, protocol)
    write_bytes(out, given.format())
    echo(f"{out}: {len(given.episodes)} episodes of {resolved.id}, {given.protocol.title}")


@episodes.command()
@click.argument("targets", nargs=-1, metavar="[FILE|SPLIT-ID]...")
@OF_SPLIT
@with_options(*IMAGES)
@text_form("text", "json")
def verify(targets: tuple[str, ...], split: str | None, form: str, **images: Any) -> None:
    """Draw the episodes of files again and compare the bytes.

    A SPLIT-ID means the shipped files of that split; without an argument, all shipped files are
    verified. If a split needs a data root and none is named, its files are only checked for errors,
    and the output says so. Exit code 1 when something differs.
    """
    from mlfsic_bench.episodes.files import verify_file
    from mlfsic_bench.splits.resolve import resolve_split

    rows: list[dict[str, Any]] = []
    resolved: dict[str, Split | None] = {}
    for path in _files_to_verify(targets):
        name = _split_of(path, split)
        if name not in resolved:
            unread = not images["dataset"] and _needs_data(name, images["data_root"])
            resolved[name] = None if unread else resolve_split(name, **images)
        verdict = verify_file(path, resolved[name])
        rows.append(
            {
                "file": path.name,
                "said": verdict.said,
                "differences": list(verdict.differences),
                "compared_with_split": resolved[name] is not None,
            }
        )
        if form == "text":
            echo(for_terminal(f"{path.name}: {verdict.said}"))
            for line in verdict.differences:
                echo(for_terminal(f"  {line}"))
    total, failed = len(rows), sum(bool(row["differences"]) for row in rows)
    alone = sum(not row["compared_with_split"] for row in rows)
    if form == "json":
        echo_json(rows)
        raise click.exceptions.Exit(1 if failed else 0)
    echo(f"{total} {'file' if total == 1 else 'files'}: {failed} differ; "
         f"{alone} not compared with the split they name")  # fmt: skip
    if failed:
        raise click.exceptions.Exit(1)


@episodes.command()
@click.argument("source", metavar="SPLIT|FILE")
@click.argument("index", type=click.IntRange(min=0))
@PART
@with_options(*PROTOCOL)
@OF_SPLIT
@with_options(*IMAGES)
@text_form("text", "json")
def show(source: str, index: int, part: str, split: str | None, form: str, **options: Any) -> None:
    """Print an episode: each image with its labels.

    INDEX counts from 0; the episode is that of a split, or of an episode file.
    """
    from mlfsic_bench.episodes.files import read_file
    from mlfsic_bench.episodes.protocol import episode_set
    from mlfsic_bench.splits.resolve import resolve_split

    limits = _images(options)
    path, note = Path(source), ""
    if is_file(path) and not _is_split_file(path):
        content = read_file(path)
        resolved = resolve_split(split or content.split_id, **limits)
        kept = content.on(resolved, source)
        if index >= len(kept.episodes):
            raise BenchError(
                f"{source} has no episode {index}",
                expected=f"0 to {len(kept.episodes) - 1}",
                found=str(index),
                remedy="name one of the file's episodes",
            )
        episode = kept.episodes[index]
    else:
        chosen = _protocol(options)
        resolved = resolve_split(source, **limits)
        drawn = chosen.draw(resolved, part, [index])
        kept = episode_set(chosen, resolved, part, drawn)
        (episode,) = kept.episodes
        official = chosen.default_count(resolved, part)
        if index >= official:
            note = f"not among the {official} official episodes (0 to {official - 1})"
    content_of_part = resolved.parts[kept.part]  # type: ignore[index]
    labels = content_of_part.labels
    if form == "json":
        shown_as = {
            what: {
                image: [label for label, yes in zip(labels, row, strict=True) if yes]
                for image, row in zip(ids, content_of_part.targets_of(ids), strict=True)
            }
            for what, ids in (("support", episode.support), ("query", episode.query))
        }
        about = {"split": resolved.id, "part": kept.part, "episode": index, "note": note or None}
        echo_json({**about, "protocol": kept.protocol.title, "labels": list(labels), **shown_as})
        return
    title = f"{resolved.id}, {kept.part} episode {index} of {kept.protocol.title}"
    echo(for_terminal(f"{title}: {len(labels)} labels"))
    if note:
        echo(f"note: {note}")
    for what, images, each in (
        ("support", episode.support, kept.protocol.shots),
        ("query", episode.query, kept.protocol.queries),
    ):
        if what == "query" and each is None:
            echo(f"\nquery: {len(images):,} images, the same in all episodes")
            continue
        drawn_for = kept.protocol.queries is not None
        columns = "image, drawn for, all" if drawn_for else "image, all"
        echo(f"\n{what} ({len(images)} images; {columns} its labels of the part)")
        targets = content_of_part.targets_of(images)
        wide, broad = max(map(len, images)), max(map(len, labels))
        for i, image in enumerate(images):
            has = ", ".join(label for label, yes in zip(labels, targets[i], strict=True) if yes)
            label = f"  {labels[i // (each or 1)]:<{broad}}" if drawn_for else ""
            echo(for_terminal(f"  {image:<{wide}}{label}  {has}"))
        if not drawn_for:
            counts = zip(labels, targets.sum(axis=0), strict=True)
            shown = ", ".join(f"{for_terminal(label)} {n}" for label, n in counts)
            echo(f"\nimages of each label: {shown}")


def _protocol(options: dict[str, Any]) -> Protocol:
    from mlfsic_bench.episodes.protocol import find_protocol

    return find_protocol(options.pop("protocol"), **options)


def _images(options: dict[str, Any]) -> dict[str, Any]:
    """How the split's images are found and limited, taken out of all options."""
    return {
        name: options.pop(name) for name in ("dataset", "data_root", "available_only", "min_pool")
    }


def _files_to_verify(targets: tuple[str, ...]) -> list[Path]:
    """The files named, those shipped for the ids named, or all shipped ones."""
    from mlfsic_bench.episodes.files import shipped_files

    shipped = shipped_files()
    if not targets:
        return shipped
    chosen: list[Path] = []
    for target in targets:
        of_split = [path for path in shipped if path.name.partition(".")[0] == target]
        if of_split:
            chosen += of_split
        elif exists(Path(target)):
            chosen.append(Path(target))
        else:
            ids = sorted({path.name.partition(".")[0] for path in shipped})
            raise BenchError(
                f"nothing to verify under the name {target!r}",
                expected="an episode file, or a split id with shipped episodes: " + ", ".join(ids),
                found="neither",
                remedy="check the path, or draw the episodes with `mlfsic-bench episodes sample`",
            )
    return chosen


def _split_of(path: Path, named: str | None) -> str:
    """The split of an episode file: the one that is named, else the one it names."""
    from mlfsic_bench.files import read_json

    raw = read_json(path, kind="episode file")
    name = named or (raw.get("split_id") if isinstance(raw, dict) else None)
    if not isinstance(name, str):
        raise BenchError(
            f"{path} does not name its split",
            expected="the key 'split_id'",
            found=repr(raw)[:80],
            remedy="name the split with --split, or an episode file",
        )
    return name


def _needs_data(split: str, data_root: Path | None) -> bool:
    """Whether a split has no images without a data root, and none is named."""
    from mlfsic_bench.data.registry import needs_root
    from mlfsic_bench.splits.resolve import split_file

    if data_root is not None:
        return False
    content = split_file(split)
    return content.images is None and needs_root(content.dataset)


def _is_split_file(path: Path) -> bool:
    """Whether a file holds a split, not episodes (what can't be read counts as episodes)."""
    from mlfsic_bench.files import read_json

    try:
        raw = read_json(path, kind="split file")
    except BenchError:
        return False
    return isinstance(raw, dict) and "protocol" not in raw

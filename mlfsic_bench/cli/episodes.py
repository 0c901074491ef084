"""`mlfsic-bench episodes`: sample, verify and show episodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlfsic_bench.errors import BenchError

if TYPE_CHECKING:
    from mlfsic_bench.splits.split import Split

F = TypeVar("F", bound=Callable[..., Any])


def _split_options(function: F) -> F:
    """The options that say how a split's images are found and limited."""
    for option in (
        click.option("--min-pool", type=click.IntRange(min=1), metavar="N",
                     help="Let labels with fewer than N images leave each part."),
        click.option("--available-only", is_flag=True,
                     help="Limit the split to the images on disk; the result is a subset."),
        click.option("--data-root", type=click.Path(path_type=Path), envvar="MLFSIC_DATA",
                     help="Folder with the data sets.  [env: MLFSIC_DATA]"),
    ):  # fmt: skip
        function = option(function)
    return function


@click.group()
def episodes() -> None:
    """Sample, verify and show episodes: a few support images and the queries to label."""


@episodes.command()
@click.argument("split")
@click.option("--part", type=click.Choice(["val", "novel"]), default="novel", show_default=True,
              help="The part to draw from.")  # fmt: skip
@click.option(
    "--count", type=click.IntRange(min=1), help="How many.  [default: novel 200, val 100]"
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="File to write.  [default: SPLIT-ID.PART-episodes.json here]")  # fmt: skip
@_split_options
def sample(
    split: str,
    part: str,
    count: int | None,
    out: Path | None,
    data_root: Path | None,
    available_only: bool,
    min_pool: int | None,
) -> None:
    """Draw the episodes of SPLIT (an id or a split file) and write them to a file."""
    from mlfsic_bench.episodes.files import (
        OFFICIAL_COUNTS,
        sample_episode_set,
        shipped_name,
        write_episode_set,
    )

    resolved = _resolve(split, data_root, available_only, min_pool)
    drawn = sample_episode_set(resolved, part, count or OFFICIAL_COUNTS[part])
    path = out if out is not None else Path(shipped_name(resolved.id, part))
    write_episode_set(drawn, path)
    click.echo(f"{path}: {len(drawn.episodes)} {part} episodes of {resolved.id}, hash {drawn.hash}")
    if resolved.subset is not None:
        click.echo("the split is a subset of its images; results on these episodes say so")


@episodes.command()
@click.argument("targets", nargs=-1, metavar="[FILE|SPLIT-ID]...")
@click.option(
    "--split",
    metavar="SPLIT",
    help="The split the files were drawn from, when not the one of that id.",
)
@_split_options
def verify(
    targets: tuple[str, ...],
    split: str | None,
    data_root: Path | None,
    available_only: bool,
    min_pool: int | None,
) -> None:
    """Draw the episodes of each file anew and compare byte for byte; exits with 1 on a difference.

    A SPLIT-ID stands for the files that come with the package for that split; without an argument,
    all files that come with the package are verified.
    """
    from mlfsic_bench.episodes.verify import differences
    from mlfsic_bench.files import read_json

    failed = False
    resolved: dict[str, Split] = {}
    for path in _files_to_verify(targets):
        raw = read_json(path, kind="episode file")
        name = split or (raw.get("split_id") if isinstance(raw, dict) else None)
        if not isinstance(name, str):
            raise BenchError(
                f"{path} does not name its split",
                expected="the key 'split_id'",
                found=repr(raw)[:80],
                remedy="name the split with --split, or an episode file",
            )
        if name not in resolved:
            resolved[name] = _resolve(name, data_root, available_only, min_pool)
        lines = differences(path.read_bytes(), raw, resolved[name], str(path))
        click.echo(f"{path.name}: {'differs' if lines else 'regenerates byte for byte'}")
        for line in lines:
            click.echo(f"  {line}")
        failed = failed or bool(lines)
    if failed:
        raise click.exceptions.Exit(1)


@episodes.command()
@click.argument("source", metavar="SPLIT|FILE")
@click.argument("index", type=click.IntRange(min=0))
@click.option("--part", type=click.Choice(["val", "novel"]), default="novel", show_default=True,
              help="The part to draw from, when a split is named.")  # fmt: skip
@click.option(
    "--split", metavar="SPLIT", help="The split a file was drawn from, when not the one of that id."
)
@_split_options
def show(
    source: str,
    index: int,
    part: str,
    split: str | None,
    data_root: Path | None,
    available_only: bool,
    min_pool: int | None,
) -> None:
    """Print episode INDEX of a split or of an episode file: each image with its labels."""
    from mlfsic_bench.episodes.files import OFFICIAL_COUNTS, read_episode_set
    from mlfsic_bench.episodes.one_per_label import QUERY_PER_LABEL, EpisodeSampler

    path, note = Path(source), ""
    if path.is_file() and not _is_split_file(path):
        from mlfsic_bench.episodes.files import check_belongs

        kept = read_episode_set(path)
        resolved = _resolve(split or kept.split_id, data_root, available_only, min_pool)
        check_belongs(kept, resolved, source)
        if index >= len(kept.episodes):
            raise BenchError(
                f"{source} has no episode {index}",
                expected=f"0 to {len(kept.episodes) - 1}",
                found=str(index),
                remedy="name one of the file's episodes",
            )
        episode, part = kept.episodes[index], kept.part
    else:
        resolved = _resolve(source, data_root, available_only, min_pool)
        episode = EpisodeSampler(resolved.parts[part], resolved.hash, part).draw_one(index)  # type: ignore[index]
        official = OFFICIAL_COUNTS[part]
        if index >= official:
            note = f"not among the {official} official episodes (0 to {official - 1})"
    labels = resolved.parts[part].labels  # type: ignore[index]
    click.echo(f"{resolved.id}, {part} episode {index}: {len(labels)} labels")
    if note:
        click.echo(f"note: drawn by the same law, but {note}")
    for title, images, each in (
        ("support", episode.support, 1),
        ("query", episode.query, QUERY_PER_LABEL),
    ):
        click.echo(
            f"\n{title} ({len(images)} images; image, drawn for, all its labels of the part)"
        )
        targets = resolved.parts[part].targets_of(images)  # type: ignore[index]
        wide, broad = max(map(len, images)), max(map(len, labels))
        for i, image in enumerate(images):
            has = ", ".join(label for label, yes in zip(labels, targets[i], strict=True) if yes)
            click.echo(f"  {image:<{wide}}  {labels[i // each]:<{broad}}  {has}")


def _resolve(
    name: str, data_root: Path | None, available_only: bool, min_pool: int | None
) -> Split:
    from mlfsic_bench.splits.resolve import resolve_split

    return resolve_split(
        name, data_root=data_root, available_only=available_only, min_pool=min_pool
    )


def _files_to_verify(targets: tuple[str, ...]) -> list[Path]:
    """The files named, those shipped for the ids named, or all shipped ones."""
    from mlfsic_bench.episodes.files import shipped_files, shipped_name

    shipped = {path.name: path for path in shipped_files()}
    if not targets:
        return list(shipped.values())
    chosen: list[Path] = []
    for target in targets:
        of_split = [shipped_name(target, part) for part in ("novel", "val")]
        if any(name in shipped for name in of_split):
            chosen += [shipped[name] for name in of_split if name in shipped]
        elif Path(target).exists():
            chosen.append(Path(target))
        else:
            ids = sorted({name.rsplit(".", 2)[0] for name in shipped})
            raise BenchError(
                f"nothing to verify under the name {target!r}",
                expected="an episode file, or a split id with shipped episodes: " + ", ".join(ids),
                found="neither",
                remedy="check the path, or draw the episodes with `mlfsic-bench episodes sample`",
            )
    return chosen


def _is_split_file(path: Path) -> bool:
    """Whether a file holds a split, not episodes (what can't be read counts as episodes)."""
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(raw, dict) and "episodes" not in raw

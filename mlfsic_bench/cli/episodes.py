"""`mlfsic-bench episodes`: sample, verify and show episodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlfsic_bench.cli.echo import echo
from mlfsic_bench.cli.episode_files import files_to_verify, is_split_file
from mlfsic_bench.cli.episode_runs import (
    check_shots,
    is_run_file,
    needs_data,
    show_run,
    write_imported_runs,
    write_sampled_runs,
)
from mlfsic_bench.cli.options import refuse_input
from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import is_file
from mlfsic_bench.text import for_terminal

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
@click.option("--protocol", type=click.Choice(["one_per_label", "laso_k_shot"]),
              default="one_per_label", show_default=True, help="The law to draw by.")  # fmt: skip
@click.option("--shots", type=click.IntRange(min=1), metavar="K",
              help="At least K support images of each label (laso_k_shot), any K from 1 on; "
              "runs come with the package for 1 and 5.")  # fmt: skip
@click.option("--count", type=click.IntRange(min=1),
              help="How many.  [default: novel 200, val 100; laso_k_shot 10]")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="File to write.  [default: SPLIT-ID.PART-episodes.json here; "
              "SPLIT-ID.K-shot-runs.json for laso_k_shot]")  # fmt: skip
@_split_options
def sample(
    split: str,
    part: str,
    protocol: str,
    shots: int | None,
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

    check_shots(protocol, shots, part)
    resolved = _resolve(split, data_root, available_only, min_pool)
    if shots is not None:
        write_sampled_runs(resolved, shots, count, out)
    else:
        drawn = sample_episode_set(resolved, part, count or OFFICIAL_COUNTS[part])
        path = out if out is not None else Path(shipped_name(resolved.id, part))
        write_episode_set(drawn, path)
        size = len(drawn.episodes)
        echo(f"{path}: {size} {part} episodes of {resolved.id}, hash {drawn.hash}")
    if resolved.subset is not None:
        echo("the split is a subset of its images; results on these episodes say so")


@episodes.command("import")
@click.argument("split")
@click.argument("indices", type=click.Path(path_type=Path), metavar="INDICES.json")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              required=True, help="File of runs to write, for `run --episodes-file`.")  # fmt: skip
@_split_options
def import_runs(
    split: str,
    indices: Path,
    out: Path,
    data_root: Path | None,
    available_only: bool,
    min_pool: int | None,
) -> None:
    """Turn published laso_k_shot runs of SPLIT, given as indices into train2014, into a file.

    The file of indices is described in docs/episodes.md; it needs the official annotations.
    """
    refuse_input(out)
    resolved = _resolve(split, data_root, available_only, min_pool)
    write_imported_runs(resolved, indices, data_root, out)


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
    all files that come with the package are verified. Runs of laso_k_shot are drawn anew when the
    data root holds the annotations they were drawn from. Without a data root they can't be held
    against their split; that is said, counted at the end, and no difference.
    """
    from mlfsic_bench.episodes.verify import differences
    from mlfsic_bench.episodes.verify_runs import verify_runs
    from mlfsic_bench.files import read_json, read_regular

    failed = 0
    unheld = total = 0
    resolved: dict[str, Split] = {}
    for path in files_to_verify(targets):
        raw = read_json(path, kind="episode file")
        name = split or (raw.get("split_id") if isinstance(raw, dict) else None)
        if not isinstance(name, str):
            raise BenchError(
                f"{path} does not name its split",
                expected="the key 'split_id'",
                found=repr(raw)[:80],
                remedy="name the split with --split, or an episode file",
            )
        runs = is_run_file(path)
        unread = runs and needs_data(name, data_root)
        if name not in resolved and not unread:
            resolved[name] = _resolve(name, data_root, available_only, min_pool)
        if runs:
            verdict = verify_runs(path, None if unread else resolved[name])
            lines, said = verdict.differences, verdict.said
        else:
            lines = differences(read_regular(path), raw, resolved[name], str(path))
            said = "differs" if lines else "regenerates byte for byte"
        echo(for_terminal(f"{path.name}: {said}"))
        for line in lines:
            echo(for_terminal(f"  {line}"))
        total, failed, unheld = total + 1, failed + bool(lines), unheld + unread
    echo(f"{total} {'file' if total == 1 else 'files'}: {failed} differ; "
               f"{unheld} not held against the split they name")  # fmt: skip
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
    if is_file(path) and not is_split_file(path):
        from mlfsic_bench.episodes.files import check_belongs

        if is_run_file(path):
            from mlfsic_bench.episodes.run_files import read_runs

            name = split or read_runs(path).split_id
            show_run(path, _resolve(name, data_root, available_only, min_pool), index)
            return
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
    echo(for_terminal(f"{resolved.id}, {part} episode {index}: {len(labels)} labels"))
    if note:
        echo(f"note: drawn by the same law, but {note}")
    for title, images, each in (
        ("support", episode.support, 1),
        ("query", episode.query, QUERY_PER_LABEL),
    ):
        echo(f"\n{title} ({len(images)} images; image, drawn for, all its labels of the part)")
        targets = resolved.parts[part].targets_of(images)  # type: ignore[index]
        wide, broad = max(map(len, images)), max(map(len, labels))
        for i, image in enumerate(images):
            has = ", ".join(label for label, yes in zip(labels, targets[i], strict=True) if yes)
            echo(for_terminal(f"  {image:<{wide}}  {labels[i // each]:<{broad}}  {has}"))


def _resolve(
    name: str, data_root: Path | None, available_only: bool, min_pool: int | None
) -> Split:
    from mlfsic_bench.splits.resolve import resolve_split

    return resolve_split(
        name, data_root=data_root, available_only=available_only, min_pool=min_pool
    )

"""What `mlfsic-bench episodes` does for the protocol `laso_k_shot`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlfsic_bench.cli.echo import echo
from mlfsic_bench.errors import BenchError
from mlfsic_bench.text import for_terminal

if TYPE_CHECKING:
    from mlfsic_bench.splits.split import Split


def check_shots(protocol: str, shots: int | None, part: str) -> None:
    """BenchError unless --protocol, --shots and --part fit together."""
    laso = protocol == "laso_k_shot"
    if laso != (shots is not None):
        raise BenchError(
            f"--protocol {protocol} and --shots do not fit together",
            expected="--protocol laso_k_shot with --shots K, or neither",
            found="no --shots" if laso else f"--shots {shots}",
            remedy="add --shots K, any K from 1 on (runs come with the package for 1 and 5)"
            if laso
            else "add --protocol laso_k_shot, or leave --shots out",
        )
    if laso and part != "novel":
        raise BenchError(
            "laso_k_shot has runs of the novel part alone",
            expected="--part novel, or no --part",
            found=f"--part {part}",
            remedy="leave --part out",
        )


def write_sampled_runs(split: Split, shots: int, count: int | None, out: Path | None) -> None:
    """Draw runs, write their file and say so."""
    from mlfsic_bench.episodes.laso import RUNS, run_set
    from mlfsic_bench.episodes.run_files import sampled_file, shipped_runs_name, write_runs

    content = sampled_file(split, shots, count or RUNS)
    drawn = run_set(split, shots, content.runs)
    path = out if out is not None else Path(shipped_runs_name(split.id, shots))
    write_runs(content, path)
    sizes = ", ".join(str(len(run)) for run in content.runs)
    echo(
        f"{path}: {len(content.runs)} runs with K = {shots} of {split.id}, hash {content.hash}\n"
        f"{sizes} support images; each is tested on {len(drawn.episodes[0].query):,} query images"
    )


def write_imported_runs(split: Split, indices: Path, data_root: Path | None, out: Path) -> None:
    """Turn a file of indices into a file of runs and say so."""
    from mlfsic_bench.data.coco import Coco
    from mlfsic_bench.data.registry import open_dataset
    from mlfsic_bench.episodes.published_runs import import_runs
    from mlfsic_bench.episodes.run_files import write_runs

    dataset = open_dataset(split.dataset, data_root)
    if not isinstance(dataset, Coco):
        raise BenchError(
            f"indices into an annotation file say nothing about {split.dataset}",
            expected="a split of coco",
            found=f"split {split.id!r} of {split.dataset}",
            remedy="name a split of COCO 2014, such as coco-64-16-laso-v1",
        )
    content = import_runs(indices, split, dataset)
    write_runs(content, out)
    echo(
        f"{out}: {len(content.runs)} runs with K = {content.shots} of {split.id}, "
        f"hash {content.hash}"
    )


def is_run_file(path: Path) -> bool:
    """Whether a file holds runs (what can't be read does not)."""
    from mlfsic_bench.episodes.run_files import SCHEMA
    from mlfsic_bench.errors import BenchError
    from mlfsic_bench.files import read_json

    try:
        raw = read_json(path, kind="file of runs")
    except BenchError:
        return False
    return isinstance(raw, dict) and raw.get("schema") == SCHEMA


def needs_data(split: str, data_root: Path | None) -> bool:
    """Whether a split has no images without a data root, and none is named."""
    from mlfsic_bench.data.registry import is_synthetic
    from mlfsic_bench.splits.shipped import split_file

    content = split_file(split)
    return data_root is None and content.images is None and not is_synthetic(content.dataset)


def show_run(source: Path, split: Split, index: int) -> None:
    """Print run `index` (from 0) of a file: each support image with its labels."""
    from mlfsic_bench.episodes.run_files import read_runs, runs_for

    kept = runs_for(read_runs(source), split, str(source))
    if index >= len(kept.episodes):
        raise BenchError(
            f"{source} has no run {index}",
            expected=f"0 to {len(kept.episodes) - 1}",
            found=str(index),
            remedy="name one of the file's runs",
        )
    episode, part = kept.episodes[index], split.novel
    echo(
        f"{split.id}, run {index} with K = {kept.shots}: {len(part.labels)} labels, "
        f"{len(episode.query):,} query images (all of val2014 with a novel label)"
    )
    echo(f"\nsupport ({len(episode.support)} images; image, all its labels of the part)")
    targets = part.targets_of(episode.support)
    for image, row in zip(episode.support, targets, strict=True):
        has = ", ".join(label for label, yes in zip(part.labels, row, strict=True) if yes)
        echo(for_terminal(f"  {image}  {has}"))
    counts = zip(part.labels, targets.sum(axis=0), strict=True)
    echo(
        "\nimages of each label: " + ", ".join(f"{for_terminal(label)} {n}" for label, n in counts)
    )

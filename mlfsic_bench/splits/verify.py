"""Verifying a split file: against itself, the shipped split of its id, and a data root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlfsic_bench.data.registry import is_drawn, open_dataset
from mlfsic_bench.splits.build import build_file
from mlfsic_bench.splits.compare import definition_differences, image_differences
from mlfsic_bench.splits.content import problems
from mlfsic_bench.splits.shipped import shipped_file, shipped_ids, split_file


@dataclass(frozen=True)
class Verdict:
    """`checked`: what the file was held against; `differences`: what is wrong, and where."""

    checked: list[str]
    differences: list[str]


def verify_split(name_or_path: str, data_root: Path | None) -> Verdict:
    """Hold a split against everything at hand; a file that is no split file raises BenchError.

    Checked: hash, order, ranges and counts; the shipped split of the same id (its images
    too, when both have all of theirs); and, given a data root or for drawn images, the same split
    built again from it.
    """
    content = split_file(name_or_path, check=False)
    checked, differences = ["its own hash, order and counts"], problems(content)
    if content.id in shipped_ids():
        shipped = shipped_file(content.id)
        name = "the shipped split"
        differences += definition_differences(content, shipped, name)
        checked.append("labels and rule of the shipped split")
        if shipped.images and content.images and content.subset is None:
            differences += image_differences(content, shipped, name)
            checked.append("images of the shipped split")
    drawn = is_drawn(content.dataset)  # needs no data root
    if (data_root is not None or drawn) and content.images is not None:
        subset = content.subset
        rebuilt = build_file(
            content.definition(),
            open_dataset(content.dataset, data_root),
            available_only=subset.available_only if subset else False,
            min_pool=subset.min_pool if subset else None,
        )
        name = "the split built from " + ("the scenes" if drawn else str(data_root))
        differences += image_differences(content, rebuilt, name)
        checked.append(f"images of {name}")
    return Verdict(checked, differences)

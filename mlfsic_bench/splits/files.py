"""Reading and writing split files; one image per line, the same bytes for the same split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mlfsic_bench.data.dataset import PART_NAMES, PartName
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import read_json, write_text
from mlfsic_bench.schema import load
from mlfsic_bench.splits.content import content_hash, count_images, problems
from mlfsic_bench.splits.schema import SplitFile, Subset, per_part
from mlfsic_bench.splits.split import Part, Split

MAX_BYTES = 64 << 20  # the split of all of COCO has 8 MB


def parse_split(value: Any, where: str) -> SplitFile:
    """The JSON value as a SplitFile by schema alone; a BenchError naming the key otherwise."""
    remedy = "make the file with `mlfsic-bench splits build`"
    return load(SplitFile, value, where, page="docs/splits.md", remedy=remedy)


def read_split_file(path: Path, *, check: bool = True) -> SplitFile:
    """The split file at `path`; with `check`, a BenchError unless its content is sound too.

    Sound (`content.problems`): sorted distinct images, disjoint parts, targets in range, counts
    and hash those of the content.
    """
    content = parse_split(read_json(path, kind="split file", limit=MAX_BYTES), str(path))
    found = problems(content) if check else []
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise BenchError(
            f"{path} is not a sound split file",
            expected="an unchanged file made by `mlfsic-bench splits build`",
            found=found[0] + more,
            remedy="build the split again, or fetch the file again; "
            "`mlfsic-bench splits verify` lists all that is wrong",
        )
    return content


def read_split(path: Path) -> Split:
    """The complete split in the file at `path`, fully checked."""
    return to_split(read_split_file(path))


def write_split(content: SplitFile, path: Path) -> None:
    """Write a split file in its canonical form, atomically."""
    write_text(path, render(content))


def render(content: SplitFile) -> str:
    """The canonical text: keys in the schema's order, one image per line, no time or place."""
    head = content.model_dump(mode="json", exclude={"images"})
    text = json.dumps(head, indent=2, ensure_ascii=False, allow_nan=False)
    if content.images is None:
        return text[:-2] + ',\n  "images": null\n}\n'
    blocks = []
    for part in PART_NAMES:
        lines = (
            json.dumps(row, separators=(",", ":"), ensure_ascii=False)
            for row in content.images.of(part)
        )
        blocks.append(f'"{part}": [\n' + ",\n".join(lines) + "\n]")
    return text[:-2] + ',\n  "images": {\n' + ",\n".join(blocks) + "\n}}\n"


def compose(definition: SplitFile, parts: dict[PartName, Part], subset: Subset | None) -> SplitFile:
    """The complete file of a definition and its outcome, with counts and hash.

    The columns of each part's targets are the definition's label list, also in a subset.
    """
    images = {part: _rows(parts[part]) for part in PART_NAMES}
    content = definition.definition().model_copy(
        update={"subset": subset, "images": per_part(images)}
    )
    content = content.model_copy(update={"counts": count_images(content)})
    return content.model_copy(update={"hash": content_hash(content)})


def parts_of(content: SplitFile) -> dict[PartName, Part]:
    """The parts of a complete file; the columns of the targets are the whole label lists."""
    if content.images is None:
        raise BenchError(
            f"the split {content.id} is only defined: it has labels and a rule but no images",
            expected="a complete split",
            found="a definition",
            remedy=f"name the data root that holds {content.dataset} (--data-root or MLFSIC_DATA), "
            f"or build it once: `mlfsic-bench splits build {content.id} --data-root ROOT`",
        )
    parts: dict[PartName, Part] = {}
    for part in PART_NAMES:
        rows, labels = content.images.of(part), tuple(content.labels.of(part))
        targets = np.zeros((len(rows), len(labels)), np.bool_)
        flat = [(i, target) for i, (_, found) in enumerate(rows) for target in found]
        if flat:
            index = np.array(flat, np.int64)
            targets[index[:, 0], index[:, 1]] = True
        parts[part] = Part(labels, tuple(image for image, _ in rows), targets)
    return parts


def to_split(content: SplitFile) -> Split:
    """The Split of a complete file; labels that left a part are no longer among its labels."""
    parts: dict[PartName, Part] = {}
    for name, part in parts_of(content).items():
        kept = content.kept_labels(name)
        columns = [part.labels.index(label) for label in kept]
        parts[name] = Part(kept, part.image_ids, np.ascontiguousarray(part.targets[:, columns]))
    return Split(
        id=content.id,
        hash=content.hash or content_hash(content),
        dataset=content.dataset,
        rule=content.rule.name,
        parts=parts,
        subset=content.subset.model_dump(mode="json") if content.subset else None,
    )


def _rows(part: Part) -> list[tuple[str, list[int]]]:
    row, column = np.nonzero(part.targets)
    bounds = np.searchsorted(row, np.arange(1, len(part.image_ids)))
    groups = np.split(column, bounds) if part.image_ids else []
    return [(image, group.tolist()) for image, group in zip(part.image_ids, groups, strict=True)]

"""Datasets by name: `coco` and `voc` below a data root, `scenes` drawn on the spot."""

from __future__ import annotations

import os
from pathlib import Path

from mlfsic_bench.data.dataset import Dataset
from mlfsic_bench.errors import BenchError, unknown_name

ROOT_VARIABLE = "MLFSIC_DATA"


def dataset_names() -> tuple[str, ...]:
    """The names `open_dataset` knows."""
    return ("coco", "scenes", "voc")


def open_dataset(name: str, root: Path | None) -> Dataset:
    """The dataset of that name below `root`; None means the environment variable MLFSIC_DATA.

    COCO is looked for in ROOT/coco and ROOT, VOC in ROOT/VOCdevkit and ROOT; `scenes` needs no
    root. Raises BenchError for an unknown name, a missing root, or a root without the dataset.
    """
    if name not in dataset_names():
        raise unknown_name("dataset", name, dataset_names())
    if name == "scenes":
        from mlfsic_bench.data.scenes import Scenes

        scenes: Dataset = Scenes()
        return scenes
    folder = data_root(name, root)
    if name == "coco":
        from mlfsic_bench.data.coco import Coco

        return Coco(folder)
    from mlfsic_bench.data.voc import Voc

    return Voc(folder)


def data_root(name: str, root: Path | None) -> Path:
    """The folder given, or the one MLFSIC_DATA names; BenchError when there is neither."""
    chosen = str(root) if root is not None else os.environ.get(ROOT_VARIABLE, "")
    origin = "--data-root" if root is not None else f"the environment variable {ROOT_VARIABLE}"
    if not chosen:
        raise BenchError(
            f"the dataset {name!r} needs a data root and none was named",
            expected=f"--data-root FOLDER, or the environment variable {ROOT_VARIABLE}",
            found="neither",
            remedy="name the folder that holds coco/ or VOCdevkit/ (docs/splits.md)",
        )
    folder = Path(chosen)
    if not folder.is_dir():
        raise BenchError(
            f"the data root {chosen} (from {origin}) is not a folder",
            expected="a folder that holds coco/ or VOCdevkit/",
            found="a file" if folder.exists() else "nothing at that path",
            remedy="check the path",
        )
    return folder

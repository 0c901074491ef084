"""Datasets by name: `coco` and `voc` below a data root, and the synthetic `scenes`."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from mlfsic_bench.data.dataset import Dataset
from mlfsic_bench.data.official import Anchors
from mlfsic_bench.errors import BenchError, unknown_name
from mlfsic_bench.paths import exists, is_folder

ROOT_VARIABLE = "MLFSIC_DATA"


def dataset_names() -> tuple[str, ...]:
    """The names `open_dataset` knows."""
    return ("coco", "scenes", "scenes-20k", "voc")


def is_synthetic(name: str) -> bool:
    """Whether that dataset is synthetic: no data root, label embeddings of its own."""
    return name in ("scenes", "scenes-20k")


def anchors_of(name: str) -> Anchors | None:
    """The official counts of the dataset of that name; None for one without, or unknown here."""
    if name != "coco":
        return None
    from mlfsic_bench.data.coco import Coco

    return Coco.anchors


def open_dataset(name: str, root: Path | None) -> Dataset:
    """The dataset of that name below `root`; None means the environment variable MLFSIC_DATA.

    COCO is looked for in ROOT/coco and ROOT, VOC in ROOT/VOCdevkit and ROOT; synthetic ones need no
    root. Raises BenchError for an unknown name, a missing root, or a root without the dataset.
    """
    if name not in dataset_names():
        raise unknown_name("dataset", name, dataset_names())
    if is_synthetic(name):
        return _synthetic(name)
    folder = data_root(name, root).absolute()  # images are opened later, wherever one works then
    if name == "coco":
        from mlfsic_bench.data.coco import Coco

        return Coco(folder)
    from mlfsic_bench.data.voc import Voc

    return Voc(folder)


@cache
def _synthetic(name: str) -> Dataset:
    # Kept, because laying out 22,400 scenes takes longer than reading a split.
    from mlfsic_bench.data.scenes import Scenes, Scenes20k

    dataset: Dataset = Scenes() if name == "scenes" else Scenes20k()
    return dataset


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
    if not is_folder(folder):
        raise BenchError(
            f"the data root {chosen} (from {origin}) is not a folder",
            expected="a folder that holds coco/ or VOCdevkit/",
            found="a file" if exists(folder) else "nothing at that path",
            remedy="check the path",
        )
    return folder

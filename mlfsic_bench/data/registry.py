"""Finding datasets: by entry point name, in a file of their own, or as a table of images."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from mlfsic_bench.data.dataset import DATASET_NAME, Dataset
from mlfsic_bench.data.official import Anchors
from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import exists, is_folder, note, resolved
from mlfsic_bench.plugins.doors import Door, Listed
from mlfsic_bench.plugins.files import names_a_file
from mlfsic_bench.plugins.source import OWN
from mlfsic_bench.schema import is_plain

ROOT_VARIABLE = "MLFSIC_DATA"
_ATTRIBUTES = {
    "title": "one line of plain text",
    "bibtex": "text, empty for none",
    "needs_root": "True or False",
    "anchors": "an object of mlfsic_bench.data.official.Anchors, or None",
}
TABLES = (".csv", ".jsonl", ".json")  # endings of files that are datasets themselves


def _is_dataset(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Dataset) and value is not Dataset


DATASETS = Door(
    "mlfsic_bench.datasets", "dataset", _is_dataset, also="a table of images by its .csv or .jsonl"
)


def dataset_names() -> tuple[str, ...]:
    """The names of all registered datasets, sorted, whether they load or not."""
    return DATASETS.names()


def list_datasets() -> list[Listed[type[Dataset]]]:
    """Every registered dataset; one that can't be loaded says why and harms no other."""
    return DATASETS.listed(_accepted)


def find_dataset(spec: str) -> type[Dataset]:
    """The dataset class that `spec` names: a registered name, or `path/to/file.py:Class`.

    Raises BenchError when there is no such name, file or class, when the file can't be imported
    (the line is shown), when the class is not a complete dataset, and when it calls itself what
    another dataset is registered as.
    """
    return _accepted(DATASETS.find(spec), spec)


@cache
def registered(name: str) -> type[Dataset] | None:
    """The dataset registered under this name; None where none is, or it can't be loaded.

    Remembered: a board asks for the same few names hundreds of times.
    """
    if name not in dataset_names():
        return None
    try:
        return find_dataset(name)
    except BenchError:
        return None


def needs_root(name: str) -> bool:
    """Whether the images of the dataset that a split names can be had only with files of the user.

    Also of a dataset that is not registered: only its user knows where it is.
    """
    found = registered(name)
    return found is None or found.needs_root


def anchors_of(name: str) -> Anchors | None:
    """The official counts of the dataset of that name; None for one without, or unknown here."""
    found = registered(name)
    return found.anchors if found else None


def file_of(spec: str) -> Path | None:
    """The file that `spec` names, as for `open_dataset`; None for a registered name.

    >>> [str(file_of(spec)) for spec in ("coco", "a/b.csv", "birds=b.csv", "my.py:Birds")]
    ['None', 'a/b.csv', 'b.csv', 'my.py']
    """
    table = Path(_named(spec)[1])
    if table.suffix.lower() in TABLES:
        return table
    return Path(spec.rpartition(":")[0]) if names_a_file(spec) else None


def _named(spec: str) -> tuple[str | None, str]:
    """The name and the file of `NAME=FILE`; None and `spec` for one without a name."""
    name, equals, file = spec.partition("=")
    return (name, file) if equals and "/" not in name else (None, spec)


def from_root(spec: str) -> str:
    """`spec` with its file named from the root, so that it means the same in another folder."""
    file = file_of(spec)
    if file is None:
        return spec
    at = spec.rindex(str(file)) if str(file) in spec else 0
    return f"{spec[:at]}{resolved(file)}{spec[at + len(str(file)) :]}"


def open_dataset(spec: str | Path | Dataset, root: Path | None) -> Dataset:
    """The dataset that `spec` names, or is.

    Parameters
    ----------
    spec: a registered name; `path/to/file.py:Class`; a file `.csv`, `.jsonl` or `.json` (COCO's
        format), or `NAME=FILE` where its name is not that of the file; or a dataset.
    root: the folder with the data; None: the environment variable MLFSIC_DATA. For a table: the
        folder its file names start from; None, or what MLFSIC_DATA says: its own.

    Raises BenchError for an unknown name, a missing root, and a root without the dataset. Errors in
    a plug-in's code, and annotations that break the contract, become BenchErrors (`Guarded`).
    """
    if isinstance(spec, Dataset):
        return _guarded(spec)
    if file_of(str(spec)) is None or names_a_file(str(spec)):
        found = find_dataset(str(spec))
        if not found.needs_root:
            return _made_once(found)
    return make_dataset(str(spec), root)


def make_dataset(spec: str, root: Path | None) -> Dataset:
    """As `open_dataset`, and made anew each time."""
    table, name = file_of(spec), _named(spec)[0]
    if table is not None and table.suffix.lower() in TABLES:
        note(table)  # what is kept of a file is read in its place
        from mlfsic_bench.data.tables import open_table

        if root is not None and str(root) == os.environ.get(ROOT_VARIABLE):
            root = None  # that is where the registered datasets are
        return open_table(table, root, _table_name(name, table))
    found = find_dataset(spec)
    return _made(found, data_root(found.name, root).absolute() if found.needs_root else None)


def dataset_of(name: str, root: Path | None, spec: str | Path | Dataset | None = None) -> Dataset:
    """The dataset that a split names `name`, opened as `spec` says (None: by that name).

    BenchError when the dataset that `spec` names has another name.
    """
    if spec is None and name not in dataset_names():
        raise BenchError(
            f"no dataset {name!r} is registered",
            expected=f"--dataset with a file or class whose dataset is named {name!r}",
            found=f"registered: {', '.join(dataset_names())}",
            remedy="give --dataset as `splits new` was given it, such as --dataset "
            f"{name}.csv or {name}=FILE.csv (docs/datasets.md)",
        )
    opened = open_dataset(name if spec is None else spec, root)
    if opened.name != name:
        raise BenchError(
            f"--dataset {spec} is not the dataset of the split",
            expected=f"the dataset {name!r}",
            found=repr(opened.name),
            remedy=f"name the split's dataset; that of a table is named by --dataset {name}=FILE",
        )
    return opened


def data_root(name: str, root: Path | None) -> Path:
    """The folder given, or the one MLFSIC_DATA names; BenchError when there is neither."""
    variable = os.environ.get(ROOT_VARIABLE, "")
    chosen = variable if root is None else str(root)
    if not chosen:
        raise BenchError(
            f"the dataset {name!r} needs a data root and none was named",
            expected=f"--data-root FOLDER, or the environment variable {ROOT_VARIABLE}",
            found="neither",
            remedy="name the folder that holds the data sets, such as coco/ or VOCdevkit/ "
            "(docs/splits.md)",
        )
    folder = Path(chosen)
    if not is_folder(folder):
        # an option takes the variable's value where it is not given
        origin = (
            f"the environment variable {ROOT_VARIABLE}" if chosen == variable else "--data-root"
        )
        raise BenchError(
            f"the data root {chosen} (from {origin}) is not a folder",
            expected="a folder that holds data sets, such as coco/ or VOCdevkit/",
            found="a file" if exists(folder) else "nothing at that path",
            remedy="check the path",
        )
    return folder


@cache
def _made_once(found: type[Dataset]) -> Dataset:
    # Kept, because laying out 22,400 scenes takes longer than reading a split.
    return _made(found, None)


def _made(found: type[Dataset], root: Path | None) -> Dataset:
    if _is_own(found):
        return found(root)  # type: ignore[call-arg]
    from mlfsic_bench.data.guard import make_guarded

    return make_guarded(found, root)


def _guarded(dataset: Dataset) -> Dataset:
    from mlfsic_bench.data.guard import Guarded

    own = isinstance(dataset, Guarded) or _is_own(type(dataset))
    return dataset if own else Guarded(dataset)


def _is_own(found: type[Dataset]) -> bool:
    return found.__module__.partition(".")[0] in OWN


def _accepted(loaded: object, spec: str) -> type[Dataset]:
    """`loaded`, complete, and not under another dataset's name."""
    if not isinstance(loaded, type) or not issubclass(loaded, Dataset):
        raise BenchError(
            f"{spec} is not a dataset",
            expected="a subclass of mlfsic_bench.data.dataset.Dataset",
            found=repr(loaded)[:200],
            remedy="derive the class from Dataset (docs/datasets.md)",
        )
    lacking = sorted(getattr(loaded, "__abstractmethods__", ()))
    if lacking:
        raise BenchError(
            f"the dataset {spec} lacks {', '.join(lacking)}",
            expected="annotations, available, image_bytes and open_image",
            found=f"a class {loaded.__name__} without {', '.join(lacking)}",
            remedy="write them (docs/datasets.md; `mlfsic-bench datasets new` writes a template)",
        )
    check_name(getattr(loaded, "name", None), spec)
    _check_attributes(loaded, spec)
    in_file = names_a_file(spec)
    if (in_file and loaded.name in dataset_names()) or (not in_file and loaded.name != spec):
        raise BenchError(
            f"{spec} calls itself {loaded.name!r}"
            + (", which is the name of a registered dataset" if in_file else ""),
            expected="a name of its own" if in_file else f"name = {spec!r}",
            found=f"name = {loaded.name!r}",
            remedy=f"change `name` in {loaded.__name__}"
            + (f", for example to 'my-{loaded.name}'" if in_file else ""),
        )
    return loaded


def _check_attributes(found: type[Dataset], spec: str) -> None:
    """BenchError for what a class says of itself that tables and splits can't use."""
    said: dict[str, Any] = {name: getattr(found, name) for name in _ATTRIBUTES}
    sound = {
        "title": said["title"] == "" or is_plain(said["title"]),
        "bibtex": isinstance(said["bibtex"], str),
        "needs_root": isinstance(said["needs_root"], bool),
        "anchors": said["anchors"] is None or isinstance(said["anchors"], Anchors),
    }
    for name, fine in sound.items():
        if not fine:
            raise BenchError(
                f"the dataset {spec} has no usable {name}",
                expected=_ATTRIBUTES[name],
                found=f"{name} = {said[name]!r:.80}",
                remedy=f"correct {name} in {found.__name__} (docs/datasets.md)",
            )


def check_name(name: object, spec: str) -> None:
    """BenchError when a dataset's name can't stand in a split file."""
    if not isinstance(name, str) or not re.fullmatch(DATASET_NAME, name):
        raise BenchError(
            f"the dataset {spec} has no usable name",
            expected="name = 1 to 50 of the characters a-z 0-9 _ -",
            found="no name" if name is None else f"name = {name!r:.80}",
            remedy="give it a name such as my-birds",
        )


def _table_name(given: str | None, file: Path) -> str:
    """The name of a table's dataset: the one given, else that of its file."""
    name = re.sub(r"[^a-z0-9_]+", "-", file.stem.lower()).strip("-") if given is None else given
    if not re.fullmatch(DATASET_NAME, name):
        check_name(name, str(file))
    if name in dataset_names():
        raise BenchError(
            f"{file} would be the dataset {name!r}, which is registered",
            expected="a name of its own",
            found=repr(name),
            remedy=f"name it: --dataset my-{name}={file}",
        )
    return name

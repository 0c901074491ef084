"""Datasets whose annotations name the file of each image, and the image ids of such names."""

from __future__ import annotations

import re
from abc import abstractmethod
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from mlfsic_bench.data.dataset import IMAGE_ID
from mlfsic_bench.data.images import ImageFiles, read_image_file
from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import is_folder, names_in

ENDINGS = (".jpg", ".jpeg", ".png")


def id_problem(value: object) -> str:
    """What `value` would have to be for an image id of a split file; empty when it can be one.

    >>> id_problem("train/000012"), bool(id_problem("a b")), bool(id_problem("../a"))
    ('', True, True)
    """
    if not isinstance(value, str):
        return "text"
    if not re.fullmatch(IMAGE_ID, value):
        return "1 to 200 of the characters A-Z a-z 0-9 _ . / - that begin with a letter, digit or _"
    return "" if ".." not in value.split("/") else "a path without '..'"


def image_id_of(file_name: Any) -> str:
    """The image id of a file name: without its ending.

    ValueError saying what is wrong with a name that gives none.

    >>> image_id_of("birds/0001.jpg")
    'birds/0001'
    """
    if not isinstance(file_name, str) or not file_name:
        raise ValueError(f"the file name is {file_name!r:.200}, not text")
    path = PurePosixPath(file_name)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(
            f"the file name {file_name!r:.200} does not end in {', '.join(ENDINGS[:2])} or .png"
        )
    found = file_name[: -len(path.suffix)]
    problem = id_problem(found)
    if problem:
        raise ValueError(
            f"the file name {file_name!r:.200} gives the image id {found!r:.200}, which is not "
            f"{problem}; rename the file"
        )
    if str(path) != file_name:
        raise ValueError(f"the file name {file_name!r:.200} is not written as {str(path)!r:.200}")
    return found


class ListedImages(ImageFiles):
    """A dataset whose annotations name the file of each image, below one folder.

    Parameters
    ----------
    root: the folder that the file names start from.
    """

    needs_root = False
    unpack = "put the image"

    def __init__(self, root: Path) -> None:
        super().__init__({})
        self.root = root.absolute()  # images are opened later, wherever one works then

    @abstractmethod
    def _paths(self) -> dict[str, str]:
        """Image id -> the name of its file, from `root`."""

    @cached_property
    def _files(self) -> dict[str, str]:
        return self._paths()

    def image_bytes(self, image_id: str) -> bytes:
        """The file of the image."""
        if image_id not in self._files:
            raise BenchError(
                f"the dataset {self.name!r} has no image {image_id!r}",
                expected="the id of one of its images",
                found=repr(image_id),
                remedy="check which dataset the split was made of",
            )
        remedy = "put the image there, name another --data-root, or use --available-only"
        return read_image_file(Path(self._path(image_id)), image_id, remedy)

    def _path(self, image_id: str) -> str:
        return f"{self.root}/{self._files[image_id]}"

    def files(self) -> frozenset[str]:
        """The ids of its images whose files are there, whatever they hold."""
        if self._named is None:
            by_folder: dict[str, list[tuple[str, str]]] = {}
            for image_id, file in self._files.items():
                folder, _, name = file.rpartition("/")
                by_folder.setdefault(folder, []).append((image_id, name))
            named: set[str] = set()
            for folder, images in by_folder.items():
                place = self.root / folder
                there = set(names_in(place)) if is_folder(place) else set()
                named.update(image_id for image_id, name in images if name in there)
            self._named = frozenset(named)
        return self._named

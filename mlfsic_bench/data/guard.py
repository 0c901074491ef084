"""Datasets from plug-ins: what they return is checked, and an exception in them is one error."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.dataset import Annotations, Dataset
from mlfsic_bench.data.listed import id_problem
from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import hash_bytes, hash_json
from mlfsic_bench.schema import label_problem

if TYPE_CHECKING:
    from PIL.Image import Image

CLASS_ATTRIBUTES = ("title", "bibtex", "needs_root", "anchors")


def require_sound(annotations: object, name: str) -> Annotations:
    """`annotations`, when split files can be made of them; BenchError for the first fault."""
    if not isinstance(annotations, Annotations):
        raise _fault(name, "annotations() returns", "Annotations", type(annotations).__name__)
    labels, ids = annotations.labels, annotations.image_ids
    for what, value in (("labels", labels), ("image_ids", ids)):
        if not isinstance(value, tuple):
            raise _fault(name, f"its {what} are", "a tuple of texts", type(value).__name__)
        if not value:
            raise _fault(name, f"its {what} are", "at least one", "none")
    for label in labels:
        problem = label_problem(label)
        if problem:
            raise _fault(name, "a label is", problem, repr(label))
    double = _first_double(labels)
    if double is not None:
        raise _fault(name, "a label stands twice:", "each label once", repr(double))
    for image_id in ids:
        problem = id_problem(image_id)
        if problem:
            raise _fault(name, "an image id can't stand in a split file:", problem, repr(image_id))
    double = _first_double(ids)
    if double is not None:
        raise _fault(name, "an image id stands twice:", "each image once", repr(double))
    for before, after in itertools.pairwise(ids):
        if not before < after:
            found = f"{after!r} after {before!r}"
            raise _fault(name, "the image ids are not sorted:", "sorted(image_ids)", found)
    for what, table in (("present", annotations.present), ("shown", annotations.shown)):
        if not isinstance(table, np.ndarray) or table.dtype != np.bool_:
            found = (
                f"dtype {table.dtype}" if isinstance(table, np.ndarray) else type(table).__name__
            )
            raise _fault(name, f"`{what}` is", "a numpy array of dtype bool", found)
        if table.shape != (len(ids), len(labels)):
            expected = f"the shape ({len(ids)}, {len(labels)}): images by labels"
            raise _fault(name, f"`{what}` has", expected, f"the shape {table.shape}")
    odd = np.argwhere(annotations.present & ~annotations.shown)
    if odd.size:
        row, column = odd[0]
        raise _fault(
            name,
            "`present` does not imply `shown`:",
            "`shown` True wherever `present` is",
            f"{len(odd)} that are not, such as {labels[column]!r} in {ids[row]}",
        )
    return annotations


def _first_double(values: Sequence[str]) -> str | None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _fault(name: str, what: str, expected: str, found: str) -> BenchError:
    return BenchError(
        f"the dataset {name!r} is faulty: {what} {found}",
        expected=expected,
        found=found,
        remedy="correct the class; `mlfsic-bench datasets check` tests all of the contract",
    )


@contextmanager
def dataset_call(name: str, stage: str) -> Iterator[None]:
    """Turn any exception of a plug-in in the block into a BenchError that names the dataset.

    An exit is one too. In the main thread the state of the process is put back afterwards.
    """
    from mlfsic_bench.plugins.foreign import last_frames, passes
    from mlfsic_bench.plugins.surroundings import exits_refused, preserved
    from mlfsic_bench.text import exception_text

    alone = threading.current_thread() is threading.main_thread()
    try:
        with preserved() if alone else exits_refused():
            yield
    except BaseException as error:
        if passes(error):
            raise
        raise BenchError(
            f"the dataset {name!r} failed {stage}",
            expected="no exception",
            found=f"{exception_text(error)}\n{last_frames(error)}".rstrip(),
            remedy="correct the class; `mlfsic-bench datasets check` tests all of the contract",
        ) from error


def make_guarded(found: type[Dataset], root: Path | None) -> Guarded:
    """An instance of a plug-in's class, guarded; BenchError when it can't be made."""
    with dataset_call(found.name, f"while {found.__name__}(root) was called"):
        made: object = found(root)  # type: ignore[call-arg]
    if not isinstance(made, found):
        raise _fault(found.name, f"{found.__name__}(root) returns", "an instance", repr(made)[:80])
    return Guarded(made)


def fingerprint(annotations: Annotations) -> str:
    """SHA-256 of all that annotations say."""
    said = hash_json({"labels": annotations.labels, "image_ids": annotations.image_ids})
    tables = [np.packbits(table).tobytes() for table in (annotations.present, annotations.shown)]
    return hash_bytes(said.encode() + b"".join(tables))


class Guarded(Dataset):
    """A plug-in's dataset, each call of which is checked.

    Attributes
    ----------
    inner: the dataset.
    """

    def __init__(self, inner: Dataset) -> None:
        self.inner = inner
        self.name = inner.name
        self.__dict__.update({name: getattr(inner, name) for name in CLASS_ATTRIBUTES})
        self._annotations: Annotations | None = None

    def annotations(self) -> Annotations:
        """Those of the dataset, checked; asked for once and kept."""
        if self._annotations is None:
            with dataset_call(self.name, "in annotations()"):
                found: object = self.inner.annotations()
            self._annotations = require_sound(found, self.name)
        return self._annotations

    def counts(self) -> dict[str, int]:
        """How many there are of what `anchors` counts."""
        with dataset_call(self.name, "in counts()"):
            return dict(self.inner.counts())

    def available(self, image_ids: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """bool [n], as the dataset says."""
        ids = tuple(image_ids)
        with dataset_call(self.name, "in available()"):
            found: Any = self.inner.available(ids)
        if not isinstance(found, np.ndarray) or found.dtype != np.bool_:
            raise _fault(self.name, "available() returns", "a numpy array of dtype bool",
                         f"{getattr(found, 'dtype', type(found).__name__)}")  # fmt: skip
        if found.shape != (len(ids),):
            raise _fault(self.name, "available() returns", f"one value for each of {len(ids)} ids",
                         f"the shape {found.shape}")  # fmt: skip
        return found

    def damaged(self) -> dict[str, str]:
        """What the dataset says lies in the place of images."""
        with dataset_call(self.name, "in damaged()"):
            return dict(self.inner.damaged())

    def image_bytes(self, image_id: str) -> bytes:
        """The bytes that make the image."""
        with dataset_call(self.name, f"in image_bytes({image_id!r})"):
            found: object = self.inner.image_bytes(image_id)
        if not isinstance(found, bytes):
            raise _fault(self.name, "image_bytes() returns", "bytes", type(found).__name__)
        return found

    def open_image(self, image_id: str) -> Image:
        """The image, which must be an RGB one."""
        with dataset_call(self.name, f"in open_image({image_id!r})"):
            found: Any = self.inner.open_image(image_id)
        mode = getattr(found, "mode", type(found).__name__)
        if mode != "RGB" or min(found.size) < 1:
            raise _fault(self.name, f"open_image({image_id!r}) returns",
                         "a PIL image of the mode RGB", f"the mode {mode}")  # fmt: skip
        return found  # type: ignore[no-any-return]

    def masks(self, image_id: str) -> dict[str, npt.NDArray[np.bool_]]:
        """Label -> bool [H, W], of the size of the image."""
        with dataset_call(self.name, f"in masks({image_id!r})"):
            found: dict[str, Any] = dict(self.inner.masks(image_id))
        if not found:
            return {}
        width, height = self.open_image(image_id).size
        for label, mask in found.items():
            shape, dtype = getattr(mask, "shape", ()), getattr(mask, "dtype", type(mask).__name__)
            if shape != (height, width) or dtype != np.bool_:
                raise _fault(
                    self.name,
                    f"the mask of {label!r} in {image_id} has",
                    f"the shape ({height}, {width}) of the image and dtype bool",
                    f"the shape {shape} and dtype {dtype}",
                )
            if label not in self.annotations().labels:
                raise _fault(self.name, f"masks({image_id!r}) names", "labels of the dataset",
                             repr(label))  # fmt: skip
        return found

    def label_embeddings(self, labels: Sequence[str]) -> npt.NDArray[np.float32] | None:
        """The dataset's own vectors of these labels, or None."""
        with dataset_call(self.name, "in label_embeddings()"):
            found: Any = self.inner.label_embeddings(labels)
        if found is None:
            return None
        vectors = np.asarray(found)
        sound = vectors.ndim == 2 and len(vectors) == len(labels) and vectors.dtype == np.float32
        if not sound or not np.isfinite(vectors).all():
            raise _fault(self.name, "label_embeddings() returns",
                         f"finite float32 [{len(labels)}, d]",
                         f"{vectors.dtype} {list(vectors.shape)}")  # fmt: skip
        return vectors

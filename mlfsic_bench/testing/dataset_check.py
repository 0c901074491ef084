"""The contract tests of a dataset: `check_dataset(spec, root)` gives one result a test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from mlfsic_bench.data.dataset import Annotations, Dataset
from mlfsic_bench.data.guard import Guarded, fingerprint
from mlfsic_bench.data.registry import make_dataset
from mlfsic_bench.errors import BenchError
from mlfsic_bench.testing.contract import (
    CheckFailedError,
    CheckNotMadeError,
    Checks,
    CheckWarningError,
    run_check,
)
from mlfsic_bench.testing.process import CheckResult

SAMPLE = 20  # images that are opened, spread over the dataset
HASH_SEEDS = ("1", "2")  # of the processes that read the annotations anew
SECONDS = 600.0  # that one of them may take
UNKNOWN = "no/such-image"
T = TypeVar("T")
CHECKS = Checks()
_FINGERPRINT = (
    "import sys; sys.path[:] = sys.argv[3:]; from pathlib import Path; "
    "from mlfsic_bench.data.guard import fingerprint; "
    "from mlfsic_bench.data.registry import make_dataset; "
    "made = make_dataset(sys.argv[1], Path(sys.argv[2]) if sys.argv[2] else None); "
    "print('\\n' + fingerprint(made.annotations()))"
)


@dataclass
class Trial:
    """The dataset under test; what several tests need of it is asked for once."""

    spec: str
    root: Path | None
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    def make(self) -> Dataset:
        """A fresh one. A plug-in's is checked at each call (`Guarded`)."""
        return make_dataset(self.spec, self.root)

    @cached_property
    def dataset(self) -> Dataset:
        """The one that most tests ask; CheckNotMadeError when it can't be made."""
        return _or_not_made(self.make, "constructor")

    @cached_property
    def annotations(self) -> Annotations:
        """Its annotations; CheckNotMadeError when they are faulty."""
        return _or_not_made(self.dataset.annotations, "annotations")

    @cached_property
    def there(self) -> list[str]:
        """Up to SAMPLE images that it says are there, spread over all of them."""
        ids = self.annotations.image_ids
        found = _or_not_made(lambda: self.dataset.available(ids), "available")
        rows = np.flatnonzero(found)
        if not len(rows):
            raise CheckNotMadeError("no image is there; see the test `available`")
        chosen = np.unique(np.linspace(0, len(rows) - 1, SAMPLE).astype(int))
        return [ids[row] for row in rows[chosen]]

    def start_processes(self) -> list[subprocess.Popen[str]]:
        """Processes with other hash seeds, which read the annotations and print a hash of them."""
        root = str(self.root) if self.root is not None else ""
        for seed in HASH_SEEDS:
            self.children.append(
                subprocess.Popen(
                    [sys.executable, "-c", _FINGERPRINT, self.spec, root, *sys.path],
                    env={**os.environ, "PYTHONHASHSEED": seed},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        return self.children


def _or_not_made(ask: Callable[[], T], test: str) -> T:
    try:
        return ask()
    except BenchError as error:
        raise CheckNotMadeError(f"see the test `{test}`") from error


def check_dataset(spec: str, root: Path | None) -> Iterator[CheckResult]:
    """Run all contract tests on the dataset that `spec` names, as `open_dataset` takes it.

    Each test runs by itself: one that raises is a failure, and the next one runs. Nothing is
    written.
    """
    trial = Trial(spec, root)
    try:
        for check in CHECKS:
            yield run_check(check, trial, "dataset")
    finally:
        for child in trial.children:
            child.kill()
            child.communicate()


@CHECKS.add("constructor", "the class can be called with a data root alone")
def _constructor(trial: Trial) -> None:
    trial.make()


@CHECKS.add("annotations", "labels, image ids and both tables are as split files need them")
def _annotations(trial: Trial) -> None:
    trial.dataset.annotations()


@CHECKS.add("again", "the annotations are the same each time")
def _again(trial: Trial) -> None:
    first = fingerprint(trial.annotations)
    dataset = trial.make()
    inner = dataset.inner if isinstance(dataset, Guarded) else dataset
    found = [fingerprint(inner.annotations()) for _ in range(2)]
    if found != [first, first]:
        raise CheckFailedError(
            "annotations() was called on an object, and twice on a fresh one.",
            expected="the same labels, images and tables",
            came="different ones",
            cause="random numbers, a list that is changed in place, or the order of a set",
            remedy="read the annotations once, sort them, and keep them",
        )


@CHECKS.add("available", "available() answers for each id by itself")
def _available(trial: Trial) -> None:
    ids, dataset = trial.annotations.image_ids, trial.dataset
    found = dataset.available(ids)
    back = dataset.available(ids[::-1])
    alone = dataset.available(ids[:1])
    if len(dataset.available(())) or alone[0] != found[0] or (back[::-1] != found).any():
        raise CheckFailedError(
            "available() was asked for all ids, for them in reverse, for one and for none.",
            expected="the same answer for each id, and none for none",
            came="other answers",
            cause="it answers for all images of the dataset, not for those it is asked for",
            remedy="return one value for each id that is given, in their order",
        )
    if not found.any():
        raise CheckWarningError(
            "available() was asked for all ids.",
            expected="at least one image that is there",
            came="none",
            cause="a wrong data root, or images that were not fetched",
            remedy="name the folder of the images with --data-root",
        )


@CHECKS.add("images", "what available() calls there can be opened, as RGB")
def _images(trial: Trial) -> None:
    for image_id in trial.there:
        try:
            image = trial.dataset.open_image(image_id)
        except BenchError as error:
            if "RGB" in error.expected:
                raise
            raise CheckFailedError(
                f"The image {image_id!r}, which available() says is there, was opened.",
                expected="an image",
                came=f"{error.what}: {error.found}",
                cause="available() is True for images that can't be opened",
                remedy="let available() look at the file of each id",
            ) from error
        image.load()
    ids = trial.annotations.image_ids
    gone = [ids[row] for row in np.flatnonzero(~trial.dataset.available(ids))[:3]]
    for image_id in gone:
        try:
            trial.dataset.open_image(image_id)
        except BenchError:
            continue
        raise CheckFailedError(
            f"The image {image_id!r}, which available() says is not there, was opened.",
            expected="a BenchError",
            came="an image",
            cause="available() is False for images that can be opened",
            remedy="let available() look at the file of each id",
        )


@CHECKS.add("bytes", "image_bytes() gives the same bytes each time")
def _bytes(trial: Trial) -> None:
    ids, other = trial.there, trial.make()
    for image_id in ids:
        found = [trial.dataset.image_bytes(image_id) for _ in range(2)]
        found.append(other.image_bytes(image_id))
        if found[0] != found[1] or found[0] != found[2] or not found[0]:
            raise CheckFailedError(
                f"image_bytes({image_id!r}) was called twice, and on a fresh object.",
                expected="the same bytes, at least one",
                came=f"{', '.join(f'{len(data)} bytes' for data in found)}, not the same",
                cause="an image that is made or encoded anew each time",
                remedy="return the bytes of the file, or make the image from its id alone",
            )


@CHECKS.add("pixels", "an image has the same pixels in any order of calls, and in threads")
def _pixels(trial: Trial) -> None:
    def pixels(dataset: Dataset, image_id: str) -> bytes:
        image = dataset.open_image(image_id)
        return repr(image.size).encode() + image.tobytes()

    ids = trial.there
    first = _or_not_made(lambda: [pixels(trial.dataset, i) for i in ids], "images")
    other = trial.make()
    back = [pixels(other, image_id) for image_id in ids[::-1]][::-1]
    with ThreadPoolExecutor(4) as threads:
        apart = list(threads.map(lambda image_id: pixels(trial.dataset, image_id), ids))
    for how, found in (("in reverse order on a fresh object", back), ("in four threads", apart)):
        odd = [i for i, a, b in zip(ids, first, found, strict=True) if a != b]
        if odd:
            raise CheckFailedError(
                f"{len(ids)} images were opened in order, then {how}.",
                expected="the same pixels",
                came=f"others in {len(odd)}, such as {odd[0]}",
                cause="random augmentation, or a file or counter that the calls share",
                remedy="make open_image depend on the image id alone; transforms belong to the "
                "backbone",
            )


@CHECKS.add("masks", "masks have the size of their image and name labels that it has")
def _masks(trial: Trial) -> None:
    annotations = trial.annotations
    row_of = {image_id: row for row, image_id in enumerate(annotations.image_ids)}
    for image_id in trial.there:
        width, height = trial.dataset.open_image(image_id).size
        for label, mask in trial.dataset.masks(image_id).items():
            if mask.shape != (height, width):
                raise CheckFailedError(
                    f"masks({image_id!r}) was called.",
                    expected=f"bool [{height}, {width}], the size of the image",
                    came=f"{list(mask.shape)} for {label!r}",
                    cause="masks at the size of the annotations, or width before height",
                    remedy="stretch the mask to the image as open_image gives it",
                )
            if not annotations.present[row_of[image_id], annotations.labels.index(label)]:
                raise CheckFailedError(
                    f"masks({image_id!r}) was called.",
                    expected="masks of labels that are present in the image",
                    came=f"one of {label!r}, which is not",
                    cause="masks of difficult objects, or of another image",
                    remedy="leave labels out that the image does not have",
                )


@CHECKS.add("unknown", "an id that the data set lacks is an error, and not there")
def _unknown(trial: Trial) -> None:
    def told(ask: Callable[[], object]) -> bool:
        try:
            ask()
        except BenchError:
            return True
        return False

    dataset = trial.dataset
    try:
        there = bool(dataset.available((UNKNOWN,))[0])
    except BenchError:
        there = False
    if there or not told(lambda: dataset.image_bytes(UNKNOWN)):
        raise CheckFailedError(
            f"The dataset was asked for the image {UNKNOWN!r}, which is none of its own.",
            expected="available() False, and a BenchError from image_bytes()",
            came="available() True" if there else "bytes",
            cause="an id that is turned into a number or path without a look",
            remedy="look the id up among the dataset's ids",
        )


@CHECKS.add("damaged", "what lies in the place of images is told of images that are not there")
def _damaged(trial: Trial) -> None:
    bad: Sequence[str] = sorted(trial.dataset.damaged())
    known = set(trial.annotations.image_ids)
    ids = tuple(image_id for image_id in bad if image_id in known)
    there = trial.dataset.available(ids)
    if there.any():
        raise CheckFailedError(
            "damaged() was called, and available() for what it names.",
            expected="available() False for damaged images",
            came=f"True for {ids[int(there.argmax())]!r}",
            cause="the two look at different things",
            remedy="let both look at the file of the image",
        )


@CHECKS.add("embeddings", "label embeddings, where there are some, belong to each label by itself")
def _embeddings(trial: Trial) -> None:
    labels = trial.annotations.labels
    found = trial.dataset.label_embeddings(labels)
    if found is None:
        return
    back = trial.dataset.label_embeddings(labels[::-1])
    if back is None or not np.array_equal(back[::-1], found):
        raise CheckFailedError(
            "label_embeddings() was called for all labels, and for them in reverse.",
            expected="the same vector for each label",
            came="other vectors",
            cause="vectors in the order of the dataset, not of the labels asked for",
            remedy="look each label up by its name",
        )


@CHECKS.add("fresh-process", "the annotations are the same in another process")
def _fresh_process(trial: Trial) -> None:
    first = fingerprint(trial.annotations)
    for child, seed in zip(trial.start_processes(), HASH_SEEDS, strict=True):
        try:
            out, said = child.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            out, said = "", f"no end within {SECONDS:g} s"
        if child.returncode:
            raise CheckFailedError(
                "The annotations were read in a fresh process.",
                expected="an end without an error",
                came=(said.strip().splitlines() or ["no message"])[-1],
                cause="something that only this process has: a folder, a variable, a file",
                remedy="name files by paths that mean the same everywhere",
            )
        found = (out.strip().splitlines() or [""])[-1]
        if found != first:
            raise CheckFailedError(
                f"The annotations were read in a process with PYTHONHASHSEED={seed}.",
                expected="the same labels and images in the same order",
                came="others, or another order",
                cause="labels or images in the order of a set (or of a folder's listing)",
                remedy="sort them: labels = tuple(sorted(found))",
            )

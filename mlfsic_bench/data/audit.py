"""The audit of images: all that can't be used, all that are unusual, all that are there twice.

Nothing is changed and nothing deleted. docs/audit.md explains each kind of finding.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image, UnidentifiedImageError

from mlfsic_bench.data.dataset import Dataset
from mlfsic_bench.data.images import (
    PNG_END,
    PNG_START,
    ImageFiles,
    TooLargeError,
    check_png,
    load_image,
    to_rgb,
)
from mlfsic_bench.data.jpeg import START, TAIL, Jpeg
from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import hash_bytes
from mlfsic_bench.progress import progress
from mlfsic_bench.text import exception_text

Severity = Literal["bad", "duplicate", "mismatch", "odd"]
# Each kind of finding with its severity, in the order of a report.
KINDS: dict[str, Severity] = {
    "missing": "bad",
    "empty": "bad",
    "dangling-link": "bad",
    "lfs-pointer": "bad",
    "not-an-image": "bad",
    "unreadable": "bad",
    "too-large": "bad",
    "truncated": "bad",
    "half-grey": "bad",
    "corrupt": "bad",
    "duplicate": "duplicate",
    "wrong-folder": "mismatch",
    "unlisted": "mismatch",
    "no-end": "odd",
    "cmyk": "odd",
    "grey": "odd",
    "16-bit": "odd",
    "rotated": "odd",
    "small": "odd",
}
SHOWN = 3  # images of each kind in a table
SMALL = 32  # pixels of the shorter side; the grids of backbones have cells of 32
_ORIENTATION = 0x0112  # of EXIF
_AT_ONCE = 2048  # images handed to the threads in one go
# What `damaged` says of a file, and the kind of finding that is; what is not here is unreadable.
_KIND_OF = {
    "an empty file": "empty",
    "a link that leads nowhere": "dangling-link",
    "a link that leads back to itself": "dangling-link",
    "a Git LFS pointer; run git lfs pull": "lfs-pointer",
    "an image file that is cut off or damaged": "truncated",
    "a GIF": "not-an-image",
    "a BMP": "not-an-image",
    "a WebP or other RIFF file": "not-an-image",
    "a web page": "not-an-image",
    "not a JPEG or PNG": "not-an-image",
}
_Found = list[tuple[str, str]]  # kinds and details


@dataclass(frozen=True)
class Finding:
    """One thing that is to be known of an image: its kind (of `KINDS`), and a few words."""

    image_id: str
    kind: str
    detail: str

    @property
    def severity(self) -> Severity:
        """`bad`: stops or silently spoils a run. `odd`: usable. See `KINDS`."""
        return KINDS[self.kind]


@dataclass(frozen=True)
class ImageAudit:
    """What an audit of images found.

    Attributes
    ----------
    images: how many were asked about.
    on_disk: how many of them have a file that begins and ends as an image.
    decoded: how many were decoded in full; None at the quick level.
    findings: in the order of `KINDS`, then by image id.
    groups: the ids of images with the same pixels, two or more in a group.
    """

    images: int
    on_disk: int
    decoded: int | None
    findings: tuple[Finding, ...]
    groups: tuple[tuple[str, ...], ...]

    @property
    def bad(self) -> int:
        """How many findings stop or silently spoil a run."""
        return sum(finding.severity == "bad" for finding in self.findings)

    def counts(self) -> dict[str, int]:
        """How many findings there are of each kind that occurs, in the order of `KINDS`."""
        return dict(Counter(finding.kind for finding in self.findings))

    def exclusions(self) -> dict[str, str]:
        """Image id -> why it is better left out: bad images, and of equal ones all but the first.

        Files that belong to no image need not be left out.
        """
        reasons: dict[str, list[str]] = defaultdict(list)
        for finding in self.findings:
            if finding.severity in ("bad", "duplicate"):
                reasons[finding.image_id].append(f"{finding.kind}: {finding.detail}")
        return {image: "; ".join(reasons[image]) for image in sorted(reasons)}

    def lines(self) -> Iterator[str]:
        """A table: severity, kind and number of the findings, and the first few images of each."""
        read = "first and last bytes read" if self.decoded is None else f"{self.decoded:,} decoded"
        yield f"image files: {self.images:,} needed, {self.on_disk:,} on disk, {read}"
        counts = self.counts()
        for kind, count in counts.items():
            some = [finding for finding in self.findings if finding.kind == kind][:SHOWN]
            shown = "; ".join(f"{finding.image_id} ({finding.detail})" for finding in some)
            more = "; ..." if count > SHOWN else ""
            yield f"  {KINDS[kind]:<9}  {kind:<13} {count:>7,}  {shown}{more}"
        if not counts:
            yield "  nothing found"
        elif max(counts.values()) > SHOWN:
            yield "  all of them: --format json"

    def as_json(self) -> dict[str, Any]:
        """All of it, made of JSON values."""
        return {
            "images": self.images,
            "on_disk": self.on_disk,
            "decoded": self.decoded,
            "counts": self.counts(),
            "findings": [
                {
                    "image": finding.image_id,
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "detail": finding.detail,
                }
                for finding in self.findings
            ],
            "groups": [list(group) for group in self.groups],
        }


def audit_images(
    dataset: Dataset,
    image_ids: Sequence[str] | None = None,
    *,
    full: bool = True,
    log: Callable[[str], None] | None = None,
) -> ImageAudit:
    """Everything that is wrong or unusual with these images (None: all that are annotated).

    The quick level (`full=False`) reads the first and last bytes of each file. The full level
    decodes every image, in threads, looks at what decoders keep silent (`data/jpeg.py`), and
    compares the pixels; a few images per thread are in memory. `log` is told how far it is.
    Files that belong to no annotated image are reported in any case.
    """
    listed = dataset.annotations().image_ids
    ids = tuple(listed if image_ids is None else sorted(set(image_ids)))
    here = dataset.available(ids)
    wrong = dataset.damaged()
    files = dataset.files() if isinstance(dataset, ImageFiles) else frozenset()
    findings, places = _unlisted(files, listed)
    for image, is_here in zip(ids, here, strict=True):
        if not is_here and image in wrong:
            kind = _KIND_OF.get(wrong[image], "unreadable")
            findings.append(Finding(image, kind, wrong[image]))
        elif not is_here:
            place = places.get(image)
            detail = f"no such file; one of this name lies in {place}" if place else "no such file"
            findings.append(Finding(image, "missing", detail))
    present = [image for image, is_here in zip(ids, here, strict=True) if is_here]
    groups: tuple[tuple[str, ...], ...] = ()
    decoded = 0
    if full:
        alike: dict[str, list[str]] = defaultdict(list)
        for image, (found, digest) in _examined(dataset, present, log):
            findings += [Finding(image, kind, detail) for kind, detail in found]
            decoded += digest is not None
            if digest is not None:
                alike[digest].append(image)
        groups = tuple(sorted(tuple(group) for group in alike.values() if len(group) > 1))
        findings += [
            Finding(image, "duplicate", f"the same pixels as {group[0]}")
            for group in groups
            for image in group[1:]
        ]
    order = {kind: place for place, kind in enumerate(KINDS)}
    findings.sort(key=lambda finding: (order[finding.kind], finding.image_id))
    return ImageAudit(
        len(ids), len(present), decoded if full else None, tuple(findings), groups
    )  # fmt: skip


def _unlisted(files: frozenset[str], listed: Sequence[str]) -> tuple[list[Finding], dict[str, str]]:
    """Files that are no annotated image; and, of images that lie in another folder, that folder."""
    extra = sorted(files.difference(listed))
    image_of = {image.rpartition("/")[2]: image for image in listed} if extra else {}
    findings, places = [], {}
    for file in extra:
        folder, _, name = file.rpartition("/")
        image = image_of.get(name)
        if image is None:
            findings.append(Finding(file, "unlisted", "no annotation names this file"))
        else:
            places[image] = folder
            findings.append(Finding(file, "wrong-folder", f"the annotations name it {image}"))
    return findings, places


def _examined(
    dataset: Dataset, image_ids: Sequence[str], log: Callable[[str], None] | None
) -> Iterator[tuple[str, tuple[_Found, str | None]]]:
    """Each image with what `examine` says of it."""

    def look(image_id: str) -> tuple[_Found, str | None]:
        try:
            data = dataset.image_bytes(image_id)
            if data.startswith((START, PNG_START)):
                return examine(data)
            return [], _digest(dataset.open_image(image_id))  # a synthetic image
        except BenchError as error:
            return [("unreadable", error.found)], None

    bar = progress("decoding", len(image_ids), log)
    with bar as advance, ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(0, len(image_ids), _AT_ONCE):
            some = image_ids[start : start + _AT_ONCE]
            for image_id, found in zip(some, threads.map(look, some), strict=True):
                yield image_id, found
                advance(1)


def examine(data: bytes) -> tuple[_Found, str | None]:
    """Kinds and details of what is wrong or unusual with an image file (a JPEG or PNG).

    Also the SHA-256 of its size and RGB pixels, None for a bad one. Equal files have equal pixels,
    so this finds copies of files and pictures that were stored twice; resized and re-compressed
    copies are not found.
    """
    jpeg = Jpeg.parse(data) if data.startswith(START) else None
    ended = jpeg.ended if jpeg else PNG_END in data[-TAIL:]
    try:
        image = load_image(data)
        if jpeg is None:
            check_png(data)
    except TooLargeError as error:
        return [("too-large", str(error))], None
    except Exception as error:  # Pillow's plugins raise whatever their parsing runs into
        unknown = isinstance(error, UnidentifiedImageError)  # its text is the address of a stream
        detail = "no readable header" if unknown else exception_text(error)
        return [("corrupt" if ended else "truncated", detail)], None
    found: _Found = []
    if jpeg is not None:
        row = jpeg.first_missing_row(image)
        if row is not None:
            kind = "half-grey" if ended else "truncated"
            return [(kind, f"no data from row {row} of {image.height} on")], None
        if jpeg.has_unused_data(image):
            kind = "corrupt" if ended else "truncated"
            return [(kind, "damaged data: no pixel depends on the last bytes")], None
    if not ended:
        found.append(("no-end", "no end marker, but every pixel is there"))
    return found + _unusual(image), _digest(to_rgb(image))


def _unusual(image: Image.Image) -> _Found:
    found: _Found = []
    if image.mode == "CMYK":
        found.append(("cmyk", "four inks, converted to RGB"))
    elif image.mode in ("1", "L", "LA"):
        found.append(("grey", "one channel, copied to three"))
    elif image.mode.startswith("I"):
        found.append(("16-bit", "the upper 8 bits are used"))
    try:
        turned = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block says nothing, and nobody needs it
        turned = 1
    if turned in range(2, 9):
        found.append(("rotated", f"EXIF orientation {turned}, which is not applied"))
    if min(image.size) < SMALL:
        found.append(("small", f"{image.width} x {image.height} pixels"))
    return found


def _digest(rgb: Image.Image) -> str:
    return hash_bytes(repr(rgb.size).encode() + rgb.tobytes())

"""Image files: which are on disk, and decoding untrusted ones: all of it, into RGB, up to a size.

To see whether an image is there, its file is opened and its first and last bytes are read. A file
that begins as an image and does not end as one (cut off, or with something behind its end) is
decoded, and that decides.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from mlfsic_bench.data import jpeg
from mlfsic_bench.data.dataset import Dataset
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import LFS_POINTER, read_limited
from mlfsic_bench.kept_answers import keep, recall
from mlfsic_bench.paths import cannot_use, is_folder, names_in

if TYPE_CHECKING:
    from PIL import Image  # imported where an image is decoded: a table of results needs none

MAX_PIXELS = 64 * 1024 * 1024
MAX_BYTES = 256 << 20
FORMATS = ("JPEG", "PNG")
_FILLED = (128, 128, 128)  # what libjpeg puts in place of data that are lacking


def decode_rgb(data: bytes, name: str) -> Image.Image:
    """The image in `data` (a JPEG or PNG file) as RGB, every pixel decoded; `name` is for errors.

    Grey, palette, CMYK and 16-bit images are converted; an alpha channel is dropped. An EXIF
    orientation is not applied: pixels stay as stored, which is how the annotations of COCO and
    VOC see them. Raises BenchError when the bytes are truncated, corrupt, no image, or declare more
    than MAX_PIXELS pixels (read from the header, before anything is decoded); also when the last
    rows of a JPEG are grey because its data end before them.
    """
    from PIL import UnidentifiedImageError

    try:
        image = load_image(data)
    except TooLargeError as error:
        raise BenchError(
            f"the image {name} is too large to decode",
            expected=f"at most {MAX_PIXELS} pixels",
            found=str(error),
            remedy="remove the file, or fetch it again",
        ) from error
    except Exception as error:  # Pillow's plugins raise whatever their parsing runs into
        unknown = isinstance(error, UnidentifiedImageError)  # its text is the address of a stream
        why = " that are not a JPEG or PNG" if unknown else f"; {type(error).__name__}: {error}"
        raise _undecodable(name, f"{len(data)} bytes{why}") from error
    rgb = to_rgb(image)
    last = (rgb.width - 1, rgb.height - 1)
    if rgb.getpixel(last) == _FILLED and data.startswith(jpeg.START):
        row = jpeg.Jpeg.parse(data).first_missing_row(image)
        if row is not None:
            found = f"no data from row {row} of {rgb.height} on, which decoders fill with grey"
            raise _undecodable(name, found)
    return rgb


class TooLargeError(Exception):
    """An image of more than MAX_PIXELS pixels; the text says how many."""


def load_image(data: bytes) -> Image.Image:
    """The image in `data` in its own mode, every pixel decoded.

    TooLargeError for more than MAX_PIXELS pixels; else whatever Pillow raises.
    """
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise TooLargeError(f"{image.width * image.height} pixels")
        image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLargeError("more than Pillow's own limit") from error
    return image


def check_png(data: bytes) -> None:
    """Raise what Pillow raises when a checksum in a PNG file is wrong."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        image.verify()


def _undecodable(name: str, found: str) -> BenchError:
    return BenchError(
        f"the image {name} cannot be decoded",
        expected="a whole JPEG or PNG file",
        found=found,
        remedy="fetch the file again; `mlfsic-bench splits audit` lists all such images of a split",
    )


def read_image_file(path: Path, name: str, remedy: str) -> bytes:
    """The bytes of an image file; BenchError naming the image when missing or over MAX_BYTES."""
    try:
        return read_limited(path, MAX_BYTES)
    except OSError as error:
        raise BenchError(
            f"the image {name} cannot be read",
            expected=f"a file of at most {MAX_BYTES} bytes at {path}",
            found=f"{error.strerror} at {path}",
            remedy=remedy,
        ) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded image as 8-bit RGB."""
    if image.mode == "RGB":
        return image.copy()
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips at 255
        from PIL import Image

        grey = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


NOTHING = "no such file"
THREADS = 8  # a network disk answers many at once; on a local one they do no harm
SLICE = 512  # files a thread looks at in one go
MANY = 1000  # images that are looked at together; what was found of them is kept
MOST_MORE = 4  # times as many are looked at so that it can be said of all
KIND = "images"  # a folder of the cache folder: whether all files of some folders are sound
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_ENDS = {jpeg.START: jpeg.END, PNG_START: PNG_END}  # first bytes -> last ones
_OTHERS = {LFS_POINTER: "a Git LFS pointer; run git lfs pull", b"GIF8": "a GIF",
           b"BM": "a BMP", b"RIFF": "a WebP or other RIFF file", b"<": "a web page"}  # fmt: skip
# Without waiting: a pipe has no writer.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class ImageFiles(Dataset):
    """A dataset whose images are files in some folders, each looked at once.

    Attributes
    ----------
    image_id, example: what its image ids look like.
    unpack: how to come by its images.

    Parameters
    ----------
    folders: the first part of an image id -> the folder of its files; the image `a/b` lies in
        folders["a"] as b.jpg.
    """

    image_id: ClassVar[re.Pattern[str]]
    example: ClassVar[str]
    unpack: ClassVar[str]

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)
        self._named: frozenset[str] | None = None  # ids of all files that are named as images
        self._found: dict[str, str] = {}  # image id -> what is wrong, empty for an image

    def available(self, image_ids: Sequence[str]) -> npt.NDArray[np.bool_]:
        """bool [n]: which images are there; BenchError when a folder can't be looked into."""
        self._look_at(image_ids)
        return np.array([not self._found[image_id] for image_id in image_ids], np.bool_)

    def damaged(self) -> dict[str, str]:
        """Image id -> what lies there instead, of all files named as images that are none."""
        ids = sorted(self.files())
        self._look_at(ids)
        return {image_id: self._found[image_id] for image_id in ids if self._found[image_id]}

    def image_bytes(self, image_id: str) -> bytes:
        """The file of the image."""
        if not self.image_id.fullmatch(image_id):
            raise BenchError(
                f"{image_id!r} is not the id of a {self.title} image",
                expected=f"an id such as {self.example}",
                found=repr(image_id),
                remedy="check which dataset the split was made of",
            )
        remedy = f"{self.unpack} there, or use --available-only"
        return read_image_file(Path(self._path(image_id)), image_id, remedy)

    def open_image(self, image_id: str) -> Image.Image:
        """The image, decoded to RGB."""
        return decode_rgb(self.image_bytes(image_id), image_id)

    def _path(self, image_id: str) -> str:
        name, _, stem = image_id.partition("/")
        return f"{self._folders[name]}/{stem}.jpg"

    def files(self) -> frozenset[str]:
        """The ids of all files in its folders that are named as images, whatever they hold."""
        if self._named is None:
            self._named = frozenset(
                f"{name}/{file[:-4]}"
                for name, folder in self._folders.items()
                if is_folder(folder)
                for file in names_in(folder)
                if file.endswith(".jpg")
            )
        return self._named

    def _look_at(self, image_ids: Sequence[str]) -> None:
        # Of COCO's 123,287 images few may be there; what is in no list needs no look.
        named = self.files()
        self._found.update({image_id: NOTHING for image_id in image_ids if image_id not in named})
        new = [image_id for image_id in image_ids if image_id not in self._found]
        many = len(new) >= MANY and bool(self._folders)
        question = [type(self).__name__, {k: str(v.absolute()) for k, v in self._folders.items()}]
        if many and recall(KIND, question) is True:
            self._found.update(dict.fromkeys(new, ""))
            return
        if many and MOST_MORE * len(new) >= len(named):
            new = sorted(named.difference(self._found))
        since = time.time_ns()
        with ThreadPoolExecutor(THREADS) as threads:
            starts = range(0, len(new), SLICE)
            for found in threads.map(lambda at: self._look(new[at : at + SLICE]), starts):
                self._found.update(found)
        if many and not any(self._found.get(image_id, NOTHING) for image_id in named):
            # as long as the folders stay as they are, and only where all of them are sound: a file
            # that may not be read can become readable without a trace
            places = {str(folder.absolute()): True for folder in self._folders.values()}
            keep(KIND, question, True, places, since)

    def _look(self, image_ids: Sequence[str]) -> dict[str, str]:
        return {image_id: what_is_wrong(self._path(image_id)) for image_id in image_ids}


def what_is_wrong(path: str) -> str:
    """Why no image can be read from a file its folder lists, in a few words; empty where one can.

    BenchError when the folder of the file can't be looked into.
    """
    try:
        handle = os.open(path, _FLAGS)
    except FileNotFoundError:
        return "a link that leads nowhere"
    except (OSError, ValueError) as error:
        return _not_opened(path, error)
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            return "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe, device or socket"
        first = os.read(handle, jpeg.TAIL)
        os.lseek(handle, max(0, about.st_size - jpeg.TAIL), os.SEEK_SET)
        last = os.read(handle, jpeg.TAIL)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        os.close(handle)
    if not first:
        return "an empty file"
    for start, end in _ENDS.items():
        if first.startswith(start):
            return "" if end in last else _decoded(path)
    other = next((what for start, what in _OTHERS.items() if first.lstrip().startswith(start)), "")
    return other or "not a JPEG or PNG"


def require_images(dataset: Dataset, image_ids: Sequence[str], of: str) -> None:
    """BenchError now rather than after hours of work unless all of these images are there.

    `of` says whose images they are. All that are not are counted, by what lies in their place; the
    first few are named, and the command that lists them.
    """
    ids = tuple(image_ids)
    there = dataset.available(ids)
    if there.all():
        return
    damaged = dataset.damaged()
    missing = [name for name, found in zip(ids, there, strict=True) if not found]
    wrong = {name: damaged.get(name, NOTHING) for name in missing}
    shown = [f"{name} ({what})" for name, what in list(wrong.items())[:3]]
    raise BenchError(
        f"{len(wrong)} of the {len(ids)} images needed are not in the data root",
        expected=f"the images of {of} on disk",
        found=f"{', '.join(shown)}{', ...' if len(wrong) > 3 else ''}"
        + (f"; {in_kinds(list(wrong.values()))}" if len(wrong) > 1 else ""),
        remedy=("fetch the files again" if damaged.keys() & wrong.keys() else "download the images")
        + ", or add --available-only to work on a marked subset; "
        "`mlfsic-bench splits audit SPLIT --quick --exclusions FILE` lists them all",
    )


def in_kinds(found: Sequence[str]) -> str:
    """How many there are of each kind, the most frequent first.

    >>> in_kinds(["a GIF", "no such file", "no such file"])
    'no such file: 2, a GIF: 1'
    """
    return ", ".join(f"{kind}: {count}" for kind, count in Counter(found).most_common())


def _not_opened(path: str, error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else 0
    if number == errno.ELOOP:
        return "a link that leads back to itself"
    if number == errno.ENXIO:
        return "a pipe, device or socket"
    if number in (errno.EACCES, errno.EPERM):
        try:
            about = os.lstat(path)
        except OSError as closed:  # the folder is: nothing can be said of any image in it
            raise cannot_use(path, closed) from closed
        if stat.S_ISDIR(about.st_mode):
            return "a folder"
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _decoded(path: str) -> str:
    try:
        decode_rgb(read_image_file(Path(path), path, ""), path)
    except BenchError:
        return "an image file that is cut off or damaged"
    return ""

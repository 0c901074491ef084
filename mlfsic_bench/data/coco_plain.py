"""The fast way to read annotation files in COCO's format: with types, and in pieces.

It is for plain files, as the official ones are. In the list of annotations such a file has only
the known keys, none of them twice in an object, and only numbers and lists of them in their values
(of a run length, an object of them). Whether that is so is seen by counting: each known key brings
two quotes, and nothing else may bring any; no brace but those of annotations and run lengths; no
letter of null, true or false. Whatever is not plain, or wrong in any way, is left to the careful
way (`coco_reader`), which also finds what to say of it.

The file is read a block at a time, so memory is that of a block and of the arrays that are made.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from mlfsic_bench.data.coco_reader import (
    LARGEST_SIDE,
    MAX_BYTES,
    NO_BOX,
    Layout,
    Rows,
    categories_of,
)
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular, parse_json
from mlfsic_bench.progress import progress

BLOCK = 1 << 19  # bytes that are read at once
_LIST = re.compile(rb'"annotations"\s*:\s*\[')
_TABLE = 1 << 20  # more than the largest image id of COCO
_OVERLAP = 64  # bytes of the text before a block in which that may begin
_BETWEEN = re.compile(rb"\}\s*(,)\s*\Z")  # what stands before every object of a list but the first
_END = re.compile(rb"\}\s*(?=\])")  # how a list of objects ends


# The keys are in the order of the official files: msgspec looks for the next one first. A default
# is a value that no file can write there, so that what was not said can be counted.
class _Entry(msgspec.Struct, gc=False, kw_only=True):
    segmentation: list[msgspec.Raw] | dict[str, msgspec.Raw] | None = None
    area: float = math.nan
    iscrowd: int = -1
    image_id: int
    bbox: list[float] | None = None
    category_id: int
    id: int = -1


class _Image(msgspec.Struct, gc=False, kw_only=True):
    file_name: str
    height: int | msgspec.UnsetType = msgspec.UNSET
    width: int | msgspec.UnsetType = msgspec.UNSET
    id: int


# Null, true and false each have a letter from here on; so are braces, and all beyond ASCII.
_HIGH = "l"


class _Images(msgspec.Struct):
    images: msgspec.Raw


class _Columns(NamedTuple):
    """What annotations say, each an array [n]: as in `Rows`, but with the image's id."""

    number: npt.NDArray[np.int64]
    image: npt.NDArray[np.int64]
    category: npt.NDArray[np.int64]
    positive: npt.NDArray[np.bool_]
    box: npt.NDArray[np.float64]
    outlined: npt.NDArray[np.bool_]


def read_plain(path: Path, layout: Layout) -> Rows | None:
    """What a plain annotation file says; None for any other, and for one that can't be read."""
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > MAX_BYTES:
                return None
            decode = msgspec.json.Decoder(list[_Entry]).decode
            pieces: list[_Columns] = []
            done = 0
            with progress(f"reading {path.name}", size >> 20, unit="MiB") as advance:

                def take(text: memoryview) -> None:
                    nonlocal done
                    pieces.append(_columns(decode(text), np.frombuffer(text, np.uint8)))
                    done, before = stream.tell(), done
                    advance((done >> 20) - (before >> 20))

                head = _head(stream)
                tail = _in_pieces(stream, take)
        columns = _Columns(*(np.concatenate(column) for column in zip(*pieces, strict=True)))
        head += tail
        return _rows(path, layout, columns, head)
    except (msgspec.MsgspecError, OSError, BenchError, ValueError, OverflowError, RecursionError):
        return None


def _head(stream: IO[bytes]) -> bytearray:
    """The text of the file to the bracket that begins the annotations; the stream is behind it."""
    head, start = bytearray(), None
    while start is None:
        block = stream.read(BLOCK)
        if not block:
            raise ValueError("no list of annotations")
        head += block
        start = _LIST.search(head, max(0, len(head) - len(block) - _OVERLAP))
    stream.seek(start.end())
    del head[start.end() :]
    return head


def _in_pieces(stream: IO[bytes], take: Callable[[memoryview], None]) -> bytes:
    """Give `take` the objects of a list, some at a time, each time the text of a list of its own.

    The stream is behind the bracket that begins the list; the text from the one that ends it is
    given back. ValueError where the list is not plain, or `take` finds it so.

    The buffer holds a bracket, then text of the file. The comma behind the last whole object is
    made the other bracket; the text behind it then goes to the front.
    """
    buffer, size = bytearray(b"[" + bytes(BLOCK)), 1

    def take_to(end: int) -> None:
        buffer[end] = ord("]")
        take(memoryview(buffer)[: end + 1])

    while True:
        read = stream.readinto(memoryview(buffer)[size:])  # type: ignore[attr-defined]
        size += read
        comma = _last_comma(buffer, size)
        if not read or comma < 0:
            break
        rest = bytes(buffer[comma + 1 : size])
        try:
            take_to(comma)
        except (msgspec.MsgspecError, ValueError):  # the list ends in this text, if at all
            buffer[comma] = ord(",")
            break
        size = 1 + len(rest)
        buffer[1:size] = rest
    end = _END.search(buffer, 0, size)
    if end is None:
        raise ValueError("no end of the list")
    tail = bytes(buffer[end.end() : size]) + stream.read()
    take_to(end.end())
    return tail


def _last_comma(text: bytearray, size: int) -> int:
    """Where the last comma between two annotations stands; -1 where none does."""
    at = size
    while (at := text.rfind(b"{", 0, at)) > 0:
        if found := _BETWEEN.search(text, max(0, at - _OVERLAP), at):
            return found.start(1)
    return -1


def _columns(entries: list[_Entry], text: npt.NDArray[np.uint8]) -> _Columns:
    """The columns of annotations; ValueError unless their text is plain."""
    n = len(entries)
    number = np.array([entry.id for entry in entries], np.int64)
    crowd = np.array([entry.iscrowd for entry in entries], np.int64)
    area = np.array([entry.area for entry in entries], np.float64)
    boxes = [entry.bbox for entry in entries]
    outlines = [entry.segmentation for entry in entries]
    outlined = np.array([outline is not None for outline in outlines], np.bool_)
    runs = [outline for outline in outlines if type(outline) is dict]
    sure = [box or NO_BOX for box in boxes]  # some exporters write [] for none
    said = Counter(chain.from_iterable(runs))
    said["image_id"] = said["category_id"] = n
    said["id"], said["iscrowd"] = int((number >= 0).sum()), int((crowd >= 0).sum())
    said["area"], said["segmentation"] = int((~np.isnan(area)).sum()), int(outlined.sum())
    said["bbox"] = len([box for box in boxes if box is not None])
    high = sum(count * sum(map(_HIGH.__le__, key)) for key, count in said.items())
    plain = (
        np.count_nonzero(text == ord('"')) == 2 * sum(said.values())
        and np.count_nonzero(text >= ord(_HIGH)) == high + 2 * (n + len(runs))  # and the braces
        and number.min() >= -1
        and crowd.min() >= -1
        and crowd.max() <= 1
        and set(map(len, sure)) == {4}
    )
    if not plain:
        raise ValueError("not plain")
    box = np.fromiter(chain.from_iterable(sure), np.float64, 4 * n).reshape(-1, 4)
    # NaN is smaller than nothing
    flat = np.where(np.isnan(box[:, 0]), area <= 0, box[:, 2:].min(axis=1) <= 0)
    return _Columns(
        number=number,
        image=np.array([entry.image_id for entry in entries], np.int64),
        category=np.array([entry.category_id for entry in entries], np.int64),
        positive=(crowd < 1) & ~flat,
        box=box,
        outlined=outlined,
    )


def _rows(path: Path, layout: Layout, found: _Columns, rest: bytearray) -> Rows:
    """The rows of columns and of the text without annotations; ValueError or BenchError if odd."""
    text = memoryview(msgspec.json.decode(rest, type=_Images).images)
    at = rest.find(text)
    small = b"".join((rest[:at], b"[]", rest[at + len(text) :])).decode("utf-8")
    if not rest.isascii():
        rest.decode("utf-8")
    others = parse_json(small)
    listed = others.get("categories")
    if others.get("images") or others.get("annotations") != [] or not isinstance(listed, list):
        raise ValueError("other lists")
    categories = categories_of(path, listed, layout)
    images = _images(text)
    files = tuple(image.file_name for image in images)
    names = {layout.name_of(file): row for row, file in enumerate(files)}
    ids = np.array([image.id for image in images], np.int64)
    row = _rows_of(ids, found.image)
    known = np.fromiter(categories, np.int64)
    sound = (
        len(names) == len(files)
        and _distinct(ids)
        and ids.min() >= 0
        and (ids[row] == found.image).all()
        and np.isin(found.category, known).all()
        and _distinct(found.number[found.number >= 0])
    )
    if not sound:
        raise ValueError("an id that stands twice, or that the file lacks")
    return Rows(
        categories=categories,
        names=names,
        files=files,
        sizes=_sizes(images),
        number=found.number,
        row=row,
        category=found.category,
        positive=found.positive,
        box=found.box,
        outlined=found.outlined,
    )


def _rows_of(ids: npt.NDArray[np.int64], images: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64 [n]: the row of each image in `ids`, any row where it is none of them."""
    if ids.min() >= 0 and ids.max() < _TABLE:  # a look into a table is faster than a search
        table = np.zeros(_TABLE, np.int64)
        table[ids] = np.arange(len(ids))
        return np.take(table, images, mode="clip")
    order = np.argsort(ids)
    return np.take(order, np.searchsorted(ids[order], images), mode="clip")


def _distinct(ids: npt.NDArray[np.int64]) -> bool:
    ordered = np.sort(ids)
    return not (ordered[1:] == ordered[:-1]).any()


def _sizes(images: list[_Image]) -> npt.NDArray[np.int64]:
    """int64 [images, 2]: height and width; 0 where neither is said."""
    unsaid = (msgspec.UNSET, msgspec.UNSET)
    found = [(image.height, image.width) for image in images]
    if any((a is msgspec.UNSET) != (b is msgspec.UNSET) for a, b in found):
        raise ValueError("one side and not the other")
    said = np.array([pair != unsaid for pair in found], np.bool_)
    sides = np.array([(0, 0) if pair == unsaid else pair for pair in found], np.int64)
    if ((sides[said] <= 0) | (sides[said] > LARGEST_SIDE)).any():
        raise ValueError("an impossible size")
    return sides


def _images(text: memoryview) -> list[_Image]:
    """The images; ValueError where one may have a key twice, or holds an object with keys."""
    images: list[_Image] = []
    decode = msgspec.json.Decoder(list[_Image]).decode
    decode_all = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode

    def take(piece: memoryview) -> None:
        letters = np.frombuffer(piece, np.uint8)
        keys = np.count_nonzero((letters[:-1] == ord('"')) & (letters[1:] == ord(":")))
        if keys != sum(map(len, decode_all(piece))):
            raise ValueError("a key that stands twice")
        images.extend(decode(piece))

    _in_pieces(io.BytesIO(text[1:]), take)
    return images

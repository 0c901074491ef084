"""Reading the objects of a VOC annotation without trusting the XML."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular

MAX_BYTES = 4 << 20
MAX_DEPTH = 32
# What is read: below annotation/object, annotation/object/bndbox and annotation/size. Each may
# stand once: of two, neither is the right one.
_READ = {
    ("object",): ("name", "difficult", "bndbox"),
    ("object", "bndbox"): ("xmin", "ymin", "xmax", "ymax"),
    ("size",): ("width", "height"),
}


class _RefusedError(Exception):
    """The XML has something no VOC annotation has."""


@dataclass(frozen=True)
class VocAnnotation:
    """What a VOC XML file says.

    Attributes
    ----------
    objects: (name, difficult) of each object, in the file's order.
    boxes: the text of each object's xmin, ymin, xmax, ymax; without those that it lacks.
    size: the text of the image's width and height; without those that are lacking.
    """

    objects: list[tuple[str, bool]] = field(default_factory=list)
    boxes: list[dict[str, str]] = field(default_factory=list)
    size: dict[str, str] = field(default_factory=dict)


def read_objects(path: Path) -> list[tuple[str, bool]]:
    """(name, difficult) of each object in a VOC XML file, in the file's order.

    Names of an object's parts (head, hand, foot) are not objects. Document types, entities,
    files above 4 MiB, malformed XML, a field that stands twice and a `difficult` other than 0
    and 1 raise BenchError.
    """
    return read_annotation(path).objects


def read_annotation(path: Path) -> VocAnnotation:
    """All that is used of a VOC XML file; BenchError as `read_objects`.

    Boxes of an object's parts are not the object's.
    """
    try:
        with open_regular(path) as stream:
            text = stream.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise _RefusedError(f"more than {MAX_BYTES} bytes")
        reader = _Reader()
        reader.parser.Parse(text, True)
    except (OSError, expat.ExpatError, LookupError, ValueError, _RefusedError) as error:
        raise BenchError(
            f"{path} is not a readable VOC annotation",
            expected="well-formed XML <annotation> without document type or entities, "
            "each object with a name",
            found=f"{type(error).__name__.strip('_')}: {error}",
            remedy="unpack the official VOC archives again",
        ) from error
    return reader.found


class _Reader:
    """Collects annotation/object/{name,difficult,bndbox} and annotation/size as expat walks."""

    def __init__(self) -> None:
        self.found = VocAnnotation()
        self._path: list[str] = []
        self._fields: dict[str, str] = {}
        self._box: dict[str, str] = {}
        self._size = self.found.size
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.EntityDeclHandler = self._refuse

    def _refuse(self, *_: Any) -> None:
        raise _RefusedError("a document type or entity declaration")

    def _start(self, tag: str, _: dict[str, str]) -> None:
        self._path.append(tag)
        if self._path[0] != "annotation" or len(self._path) > MAX_DEPTH:
            raise _RefusedError(f"the element {'/'.join(self._path)[:200]}")
        if self._path == ["annotation", "object"]:
            self._fields, self._box = {}, {}
        fields = self._open()
        if fields is not None:
            if tag in fields:
                raise _RefusedError(f"the element {'/'.join(self._path)} twice")
            fields[tag] = ""

    def _text(self, text: str) -> None:
        fields = self._open()
        if fields is not None:
            fields[self._path[-1]] += text

    def _open(self) -> dict[str, str] | None:
        """Where the text of the innermost open element belongs; None when it is not read."""
        above = tuple(self._path[1:-1])
        if self._path[-1] not in _READ.get(above, ()):
            return None
        return {1: self._fields, 2: self._box}[len(above)] if above[0] == "object" else self._size

    def _end(self, _: str) -> None:
        if self._path == ["annotation", "object"]:
            name = self._fields.get("name", "").strip()
            difficult = self._fields.get("difficult", "0").strip()
            if not name or difficult not in ("0", "1"):
                raise _RefusedError(f"an object with name {name!r}, difficult {difficult!r}")
            self.found.objects.append((name, difficult == "1"))
            self.found.boxes.append(self._box)
        self._path.pop()

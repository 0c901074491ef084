"""Datasets that are a table of images and labels: CSV, JSON Lines, a column of 0 and 1 per label.

docs/datasets.md shows one of each. Every fault is one error that names the line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mlfsic_bench.data.dataset import Annotations, Dataset
from mlfsic_bench.data.listed import ListedImages, image_id_of
from mlfsic_bench.errors import BenchError, nearest
from mlfsic_bench.files import no_file, parse_json, read_limited
from mlfsic_bench.schema import label_problem

MAX_BYTES = 256 << 20
MAX_CELLS = 1 << 32  # images times labels
SEPARATORS = re.compile(r"[;|]")
_MISSING = ("nan", "none", "null", "na", "n/a")  # what programs write for nothing
_COLUMNS = "image and labels; image and label; or image and a column of 0 and 1 for each label"


def open_table(path: Path, root: Path | None, name: str) -> Dataset:
    """The dataset of a table, or of an annotation file in COCO's format (`.json`).

    Parameters
    ----------
    root: the folder that its file names start from; None: the table's own.
    name: the dataset's name.
    """
    if path.suffix.lower() == ".json":
        from mlfsic_bench.data.coco_format import CocoFormat

        return CocoFormat(path.absolute(), root, name)
    return TableDataset(path, root, name)


class _LineError(Exception):
    """What is wrong with a line: (number from 1, expected, found)."""


class _Rows:
    """What a table says, as it is read: images in their order, with labels present and shown."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}  # image id -> file name
        self.lines: dict[str, int] = {}  # image id -> where it stands
        self.labels: dict[str, None] = {}  # in the order in which they come
        self.present: list[tuple[str, str]] = []
        self.shown: list[tuple[str, str]] = []

    def image(self, file: object, line: int, *, again: bool = False) -> str:
        """The id of the image in a line; `again`: whether it may stand in several lines."""
        try:
            found = image_id_of(file)
        except ValueError as error:
            raise _LineError(line, "the name of a .jpg, .jpeg or .png file", str(error)) from error
        if found not in self.files:
            self.files[found], self.lines[found] = str(file), line
        elif not again or self.files[found] != file:
            raise _LineError(
                line,
                "each image in one line",
                f"{file!r}, which is the image {found!r} of line {self.lines[found]}",
            )
        return found

    def label(self, label: object, line: int) -> str:
        """A label of a line."""
        problem = label_problem(label)
        if not problem and str(label).lower() in _MISSING:
            problem = "a label, not what a program writes for a missing value"
        if problem:
            raise _LineError(line, f"a label: {problem}", repr(label))
        self.labels.setdefault(str(label))
        return str(label)

    def add(self, image: str, present: list[object], difficult: list[object], line: int) -> None:
        """The labels of an image."""
        seen: set[str] = set()
        for labels, counts in ((present, True), (difficult, False)):
            for label in labels:
                known = self.label(label, line)
                if known in seen:
                    raise _LineError(line, "each label of an image once", f"{known!r} twice")
                seen.add(known)
                self.shown.append((image, known))
                if counts:
                    self.present.append((image, known))

    def annotations(self, labels: tuple[str, ...], path: Path) -> Annotations:
        """What was read; `labels` are the columns."""
        ids = tuple(sorted(self.files))
        if len(ids) * len(labels) > MAX_CELLS:
            raise _bad_table(path, f"at most {MAX_CELLS} images times labels",
                             f"{len(ids)} images, {len(labels)} labels")  # fmt: skip
        row_of = {image: row for row, image in enumerate(ids)}
        column_of = {label: column for column, label in enumerate(labels)}
        tables = []
        for pairs in (self.present, self.shown):
            table = np.zeros((len(ids), len(labels)), np.bool_)
            rows = [row_of[image] for image, _ in pairs]
            table[rows, [column_of[label] for _, label in pairs]] = True
            tables.append(table)
        return Annotations(labels, ids, present=tables[0], shown=tables[1])


class TableDataset(ListedImages):
    """The images and labels of a CSV or JSON Lines file, which is read at once.

    Labels are in alphabetical order, those that are columns in the order of the columns. Labels
    called difficult are shown and not present.

    Parameters
    ----------
    path: the table.
    root: the folder that its file names start from; None: its own.
    name: the dataset's name.
    """

    def __init__(self, path: Path, root: Path | None, name: str) -> None:
        super().__init__(root if root is not None else path.parent)
        self.name = name
        rows = _Rows()
        text = _text(path)
        try:
            read = _read_jsonl if path.suffix.lower() == ".jsonl" else _read_csv
            columns = read(text, rows)
        except _LineError as error:
            line, expected, found = error.args
            raise _bad_table(path, expected, found, line) from error
        labels = columns or tuple(sorted(rows.labels))
        if not rows.files or not labels:
            what = "no label" if rows.files else "no image"
            raise _bad_table(path, "at least one image and one label", what)
        self._read = rows.annotations(labels, path)
        self._names = rows.files

    def annotations(self) -> Annotations:
        """Every image of the table with its labels."""
        return self._read

    def _paths(self) -> dict[str, str]:
        return self._names


def _text(path: Path) -> str:
    try:
        data = read_limited(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise no_file("table of images", path) from error
    except OSError as error:
        raise _bad_table(path, "a readable file", str(error.strerror or error)) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        found = "UTF-16" if wide else f"the byte {data[error.start]:#04x}, not UTF-8"
        raise _bad_table(path, "text in UTF-8 (save it as such)", found, line) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise _bad_table(path, "text", "a NUL character", line)
    return text


def _read_csv(text: str, rows: _Rows) -> tuple[str, ...]:
    """Read all lines; the labels that are columns, if these are."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines = _lines_of(reader)
    first = next(lines, None)
    if first is None:
        raise _LineError(1, f"a header: {_COLUMNS}", "an empty file")
    header = first[1]
    _check_header(header, first[0])
    if "labels" not in header and "label" not in header:
        return _read_columns(header, lines, rows)
    at = {name: place for place, name in enumerate(header)}
    for line, cells in lines:
        fields = {name: cells[place] for name, place in at.items()}
        if "label" in at:
            difficult = fields.get("difficult", "0")
            if difficult not in ("0", "1"):
                raise _LineError(line, "0 or 1 in the column difficult", repr(difficult))
            image = rows.image(fields["image"], line, again=True)
            one: list[object] = [fields["label"]]
            rows.add(image, [] if difficult == "1" else one, one if difficult == "1" else [], line)
            continue
        image = rows.image(fields["image"], line)
        present, hard = _split(fields["labels"]), _split(fields.get("difficult", ""))
        rows.add(image, present, hard, line)
    if "label" in at:
        _refuse_doubles(rows)
    else:
        _refuse_commas(rows)
    return ()


def _refuse_commas(rows: _Rows) -> None:
    """Refuse `cat, dog` in a table that has the labels `cat` and `dog`: a list, not a label."""
    lists = {
        label
        for label in rows.labels
        if "," in label and all(part.strip() in rows.labels for part in label.split(","))
    }
    for image, label in rows.shown if lists else ():
        if label in lists:
            raise _LineError(
                rows.lines[image],
                "several labels separated by ; or |",
                f"{label!r}, separated by commas",
            )


def _refuse_doubles(rows: _Rows) -> None:
    seen: set[tuple[str, str]] = set()
    for image, label in rows.shown:
        if (image, label) in seen:
            raise _LineError(
                rows.lines[image],
                "each pair of image and label in one line",
                f"{label!r} twice for the image {image!r}, which first stands here",
            )
        seen.add((image, label))


def _read_columns(
    header: list[str], lines: Iterator[tuple[int, list[str]]], rows: _Rows
) -> tuple[str, ...]:
    labels = tuple(rows.label(label, 1) for label in header[1:])
    for line, cells in lines:
        image = rows.image(cells[0], line)
        for label, cell in zip(labels, cells[1:], strict=True):
            if cell not in ("0", "1"):
                raise _LineError(line, f"0 or 1 in the column {label!r}", repr(cell))
            if cell == "1":
                rows.present.append((image, label))
                rows.shown.append((image, label))
    return labels


def _lines_of(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of each line that is not blank, all as long as the first."""
    width = 0
    while True:
        line = reader.line_num + 1
        try:
            cells: list[str] = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _LineError(line, "a line of CSV", str(error)) from error
        if not cells or (len(cells) == 1 and not cells[0].strip()):
            continue
        width = width or len(cells)
        if len(cells) != width:
            raise _LineError(line, f"{width} cells, as in the header", f"{len(cells)} cells")
        yield line, cells


def _check_header(header: list[str], line: int) -> None:
    if len(header) == 1 and re.search(r"[;\t]", header[0]):
        raise _LineError(line, "cells separated by commas", f"{header[0]!r:.120}")
    double = next((name for name in header if header.count(name) > 1), None)
    if double is not None:
        raise _LineError(line, "each column once", f"{double!r} twice")
    if "image" not in header:
        close = nearest("image", header)
        found = f"{', '.join(map(repr, header))}" + (f" (is {close!r} the image?)" if close else "")
        raise _LineError(line, f"the columns {_COLUMNS}", found)
    named = [name for name in ("labels", "label") if name in header]
    others = [name for name in header if name not in ("image", "difficult", *named)]
    if len(named) == 2 or (named and others):
        raise _LineError(line, f"the columns {_COLUMNS}", ", ".join(map(repr, header)))
    if not named and (header[0] != "image" or len(header) < 2):
        raise _LineError(line, f"the columns {_COLUMNS}", ", ".join(map(repr, header)))


def _split(cell: str) -> list[object]:
    """The labels in a cell, separated by `;` or `|`; none in a blank one."""
    return [label.strip() for label in SEPARATORS.split(cell)] if cell.strip() else []


def _read_jsonl(text: str, rows: _Rows) -> tuple[str, ...]:
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            value = parse_json(content)
        except (ValueError, RecursionError) as error:
            raise _LineError(line, "an object in JSON", str(error)) from error
        known = {"image", "labels", "difficult"}
        if not isinstance(value, dict) or not {"image", "labels"} <= value.keys() <= known:
            raise _LineError(
                line, 'an object with "image", "labels" and perhaps "difficult"', content[:120]
            )
        image = rows.image(value["image"], line)
        lists = [value["labels"], value.get("difficult", [])]
        for found in lists:
            if not isinstance(found, list):
                raise _LineError(line, "a list of labels", repr(found)[:120])
        rows.add(image, lists[0], lists[1], line)
    return ()


def _bad_table(path: Path, expected: str, found: str, line: int = 0) -> BenchError:
    return BenchError(
        f"{path}{f', line {line}' if line else ''}: not a table of images and labels",
        expected=expected,
        found=found,
        remedy="correct the line (docs/datasets.md shows the forms that are read)"
        if line
        else "correct the file (docs/datasets.md shows the forms that are read)",
    )

"""Labels of annotation files are kept, checked when read, and made anew when anything is odd."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlfsic_bench import kept_arrays as kept
from mlfsic_bench.arrays import read_arrays, write_arrays
from mlfsic_bench.data import coco as coco_module
from mlfsic_bench.data import kept_labels
from mlfsic_bench.data.coco import FOLDERS, Coco
from mlfsic_bench.data.dataset import Annotations
from mlfsic_bench.data.registry import open_dataset
from tests.datasets.test_datasets_readers import birds
from tests.fakes.coco import write_coco


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "LEAST_BYTES", 0)
    return tmp_path / "cache" / "labels"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the annotation files that are read."""
    names: list[str] = []

    class Spy(coco_module.Instances):
        @staticmethod
        def read(path: Path, layout: Any) -> Any:
            names.append(path.name)
            return super(Spy, Spy).read(path, layout)

    monkeypatch.setattr(coco_module, "Instances", Spy)
    return names


def everything(dataset: Coco) -> tuple[Any, ...]:
    found = dataset.annotations()
    orders = tuple(dataset.file_order(folder) for folder in FOLDERS)
    content = (found.present.tolist(), found.shown.tolist(), orders, dataset.counts())
    return (found.labels, found.image_ids, *content)


def test_a_second_run_opens_no_annotation_file(
    tmp_path: Path, cache: Path, read: list[str]
) -> None:
    root = write_coco(tmp_path)
    first = everything(Coco(root))
    assert len(read) == 2
    assert everything(Coco(root)) == first
    assert len(read) == 2
    assert len(list(cache.iterdir())) == 1
    assert Coco(root).annotations().present.dtype == np.bool_


def test_a_changed_file_is_read_anew_and_its_table_replaced(
    tmp_path: Path, cache: Path, read: list[str]
) -> None:
    root = write_coco(tmp_path)
    first = everything(Coco(root))
    path = root / "coco/annotations/instances_val2014.json"
    data = json.loads(path.read_text())
    del data["annotations"][0]
    path.write_text(json.dumps(data))
    changed = everything(Coco(root))
    assert changed != first
    assert len(read) == 4
    assert everything(Coco(root)) == changed
    assert len(read) == 4
    about, text = path.stat(), path.read_text()
    path.write_text(text.replace("a fake", "A fake"))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert path.read_text() != text
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (about.st_size, about.st_mtime_ns)
    everything(Coco(root))
    assert len(read) == 6
    assert len(list(cache.iterdir())) == 1


def test_small_files_are_not_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "LEAST_BYTES", 1 << 20)
    Coco(write_coco(tmp_path)).annotations()
    assert not cache.is_dir()


def other(name: str, value: Any) -> Any:
    def change(arrays: dict[str, Any]) -> None:
        arrays[name] = value(arrays[name]) if callable(value) else value

    return change


def said(**values: Any) -> Any:
    def change(arrays: dict[str, Any]) -> None:
        content = json.loads(arrays["said"].tobytes()) | values
        arrays["said"] = np.frombuffer(json.dumps(content).encode(), np.uint8)

    return change


def ids(change: Any) -> Any:
    return other("ids", lambda a: np.frombuffer(change(a.tobytes()), np.uint8))


@pytest.mark.parametrize(
    "change",
    [
        other("order", lambda a: a * 0),
        other("order", lambda a: a + np.uint32(1 << 31)),
        other("order", lambda a: a.astype("<i8")),
        other("order", lambda a: a[:-1]),
        other("ending", lambda a: a + np.uint8(9)),
        other("present", lambda a: a[:, :-1]),
        other("present", lambda a: ~a),
        other("shown", lambda a: a * 0),
        other("shown", lambda a: a.astype(np.float64)),
        lambda arrays: arrays.pop("shown"),
        other("more", np.zeros(3)),
        other("said", np.frombuffer(b"[]", np.uint8)),
        other("said", np.frombuffer(b"{}", np.uint8)),
        other("said", np.frombuffer(b"\xff", np.uint8)),
        other("said", np.frombuffer(b"[" * 99999, np.uint8)),
        said(about=None),
        said(labels=["cat"]),
        said(labels=["cat"] * 80),
        said(labels=[" cat"]),
        said(labels=[]),
        said(labels=7),
        said(endings=[".py"]),
        said(endings=[7]),
        said(counts={"x": "7"}),
        said(counts=[]),
        ids(lambda text: text[:-1]),
        ids(lambda text: text.replace(b"train2014/", b"/../../..", 1)),
        ids(lambda text: text.replace(b"train2014/", b"/rain2014/", 1)),
        ids(lambda text: text.replace(b"train2014/", b"train\x1b[1m/", 1)),
        ids(lambda text: text.replace(b"train2014/", b"zzzzz2014/", 1)),
        ids(lambda text: text.replace(b"train2014/", b"\n/ain2014/", 1)),
        ids(lambda text: text.replace(b"_", b"_" * 300, 1)),
        ids(lambda text: b"\n" + text.replace(b"\n", b"", 1)),
        ids(lambda text: b""),
        other("ids", lambda a: np.stack([a, a])),
        other("ids", lambda a: a.astype("<u2")),
    ],
)
def test_a_damaged_table_is_made_anew(
    tmp_path: Path, cache: Path, read: list[str], change: Any
) -> None:
    root = write_coco(tmp_path)
    first = everything(Coco(root))
    (path,) = cache.iterdir()
    arrays = read_arrays(path, kind="table", required=["said", *kept_labels._ARRAYS])
    change(arrays)
    write_arrays(path, arrays)
    assert everything(Coco(root)) == first
    assert len(read) == 4
    assert everything(Coco(root)) == first
    assert len(read) == 4


@pytest.mark.parametrize("damage", ["cut", "bit", "folder", "link"])
def test_a_file_that_is_no_table_is_no_error(
    tmp_path: Path, cache: Path, read: list[str], damage: str
) -> None:
    root = write_coco(tmp_path)
    first = everything(Coco(root))
    (path,) = cache.iterdir()
    data = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(data[:-100])
    elif damage == "bit":
        path.write_bytes(data.replace(b"train2014", b"trail2014", 1))
    elif damage == "folder":
        path.mkdir()
    else:
        path.symlink_to(path)
    assert everything(Coco(root)) == first
    assert len(read) == 4


def test_a_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_coco(tmp_path)
    monkeypatch.setattr(kept, "LEAST_BYTES", 0)
    (tmp_path / "file").write_text("")
    for value in (str(tmp_path / "file" / "below"), "\0", "x" * 5000):
        monkeypatch.setattr(kept, "default_cache", lambda value=value: Path(value))
        assert Coco(root).annotations().image_ids


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "file"
    path.write_text("1")

    def make() -> kept_labels.LabelTable:
        path.write_text("12")
        table = np.ones((1, 1), np.bool_)
        return kept_labels.LabelTable.of(("cat",), ["a.jpg"], table, table)

    kept_labels.kept_table("test", [path], make)
    assert not cache.is_dir()


def test_what_cannot_be_written_is_not_kept(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "file"
    path.write_text("1")
    table = np.ones((1, 1), np.bool_)
    found = kept_labels.LabelTable.of(("cat",), ["\ud800.jpg"], table, table)
    assert kept_labels.kept_table("test", [path], lambda: found) is found
    assert not cache.is_dir()


def test_coco_format_is_kept_with_its_file_names(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "birds.json"
    path.write_text(json.dumps(birds()))

    def found() -> tuple[Annotations, dict[str, str]]:
        dataset: Any = open_dataset(str(path), None)
        return dataset.annotations(), dataset._paths()

    first, files = found()
    monkeypatch.setattr("mlfsic_bench.data.coco_format.Instances.read", None)
    again, files_again = found()
    assert files == files_again == {"set/a": "set/a.JPG", "set/b": "set/b.png"}
    assert (again.labels, again.image_ids) == (first.labels, first.image_ids)
    assert np.array_equal(again.present, first.present)
    assert np.array_equal(again.shown, first.shown)

"""Tables of images as data sets: what each form means, and one error for each fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlfsic_bench.data.dataset import Dataset
from mlfsic_bench.data.registry import dataset_of, file_of, from_root, open_dataset
from mlfsic_bench.errors import BenchError
from tests.fakes.jpeg import jpeg

CSV = "image,labels\na/2.jpg,dog;hot dog\na/1.jpeg,cat|dog\nb.PNG,\n"
# All say the same as CSV.
FORMS = {
    "images.csv": CSV,
    "bom.csv": "\ufeff" + CSV,
    "crlf.csv": CSV.replace("\n", "\r\n"),
    "blank.csv": CSV.replace("dog\na/1", "dog\n\na/1"),
    "quoted.csv": CSV.replace("dog;hot dog", '"dog; hot dog"'),
    "other-order.csv": "labels,image\ncat|dog,a/1.jpeg\n,b.PNG\ndog;hot dog,a/2.jpg\n",
    "images.jsonl": '{"image": "a/2.jpg", "labels": ["hot dog", "dog"]}\n'
    '{"image": "b.PNG", "labels": []}\n\n{"image": "a/1.jpeg", "labels": ["cat", "dog"]}\n',
    "columns.csv": "image,cat,dog,hot dog\na/1.jpeg,1,1,0\na/2.jpg,0,1,1\nb.PNG,0,0,0\n",
}


def opened(folder: Path, name: str, text: str | bytes, root: Path | None = None) -> Dataset:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_dataset(str(path), root)


def labels_of(dataset: Dataset) -> dict[str, list[str]]:
    found = dataset.annotations()
    return {
        image: [label for label, yes in zip(found.labels, row, strict=True) if yes]
        for image, row in zip(found.image_ids, found.present, strict=True)
    }


@pytest.mark.parametrize("name", FORMS)
def test_a_form(name: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "2.jpg").write_bytes(jpeg(2))
    (tmp_path / "b.PNG").write_bytes(b"no image")
    dataset = opened(tmp_path, name, FORMS[name])
    assert labels_of(dataset) == {"a/1": ["cat", "dog"], "a/2": ["dog", "hot dog"], "b": []}
    ids = dataset.annotations().image_ids
    assert dataset.available(ids).tolist() == [False, True, False]
    assert dataset.damaged() == {"b": "not a JPEG or PNG"}
    assert dataset.open_image("a/2").size == (16, 12)
    assert dataset.image_bytes("a/2") == jpeg(2)
    with pytest.raises(BenchError, match="cannot be read"):
        dataset.image_bytes("a/1")
    with pytest.raises(BenchError, match="has no image 'c'"):
        dataset.image_bytes("c")
    assert dataset.name == name.partition(".")[0]


def test_one_row_for_each_pair_and_difficult_labels(tmp_path: Path) -> None:
    pairs = "image,label,difficult\nx.jpg,cat,0\ny.jpg,cat,1\nx.jpg,dog,1\n"
    lists = "image,labels,difficult\nx.jpg,cat,dog\ny.jpg,,cat\n"
    lines = (
        '{"image": "x.jpg", "labels": ["cat"], "difficult": ["dog"]}\n'
        '{"image": "y.jpg", "labels": [], "difficult": ["cat"]}\n'
    )
    for name, text in (("a.csv", pairs), ("b.csv", lists), ("c.jsonl", lines)):
        found = opened(tmp_path, name, text).annotations()
        assert found.labels == ("cat", "dog")
        assert found.present.tolist() == [[True, False], [False, False]]
        assert found.shown.tolist() == [[True, True], [True, False]]


# name of the file, its content, the line that the error names (0: none), what it found
FAULTS: dict[str, tuple[str, str | bytes, int, str]] = {
    "empty": ("a.csv", "", 1, "an empty file"),
    "header alone": ("a.csv", "image,labels\n", 0, "no image"),
    "no label at all": ("a.csv", "image,labels\nx.jpg,\n", 0, "no label"),
    "no image column": ("a.csv", "images,labels\nx.jpg,cat\n", 1, "is 'images' the image?"),
    "no label column": ("a.csv", "image\nx.jpg\n", 1, "'image'"),
    "labels and another": ("a.csv", "image,labels,when\nx.jpg,cat,1\n", 1, "'when'"),
    "a column twice": ("a.csv", "image,cat,cat\nx.jpg,1,1\n", 1, "'cat' twice"),
    "semicolons": ("a.csv", "image;labels\nx.jpg;cat\n", 1, "'image;labels'"),
    "an image twice": ("a.csv", "image,labels\nx.jpg,cat\nx.jpg,dog\n", 3, "of line 2"),
    "two files, one id": ("a.csv", "image,labels\nx.jpg,cat\nx.png,dog\n", 3, "of line 2"),
    "a label twice": ("a.csv", "image,labels\nx.jpg,cat;cat\n", 2, "'cat' twice"),
    "a pair twice": ("a.csv", "image,label\nx.jpg,cat\ny.jpg,cat\nx.jpg,cat\n", 2, "twice"),
    "both kinds": ("a.csv", "image,labels,difficult\nx.jpg,cat,cat\n", 2, "'cat' twice"),
    "a list with commas": (
        "a.csv",
        'image,labels\nx.jpg,cat\ny.jpg,dog\nz.jpg,"cat, dog"\n',
        4,
        "commas",
    ),
    "an empty label": ("a.csv", "image,labels\nx.jpg,cat;;dog\n", 2, "''"),
    "an empty pair": ("a.csv", "image,label\nx.jpg,\n", 2, "''"),
    "nan": ("a.csv", "image,labels\nx.jpg,nan\n", 2, "'nan'"),
    "a control character": ("a.csv", "image,labels\nx.jpg,c\x1bat\n", 2, "'c\\x1bat'"),
    "too few cells": ("a.csv", "image,labels\nx.jpg\n", 2, "1 cells"),
    "an open quote": ("a.csv", 'image,labels\nx.jpg,"cat\n', 2, "unexpected end of data"),
    "no ending": ("a.csv", "image,labels\nx,cat\n", 2, "does not end in"),
    "another ending": ("a.csv", "image,labels\nx.gif,cat\n", 2, "does not end in"),
    "a blank in the name": ("a.csv", "image,labels\nx y.jpg,cat\n", 2, "rename the file"),
    "a path upwards": ("a.csv", "image,labels\n../x.jpg,cat\n", 2, "rename the file"),
    "an absolute path": ("a.csv", "image,labels\n/x.jpg,cat\n", 2, "rename the file"),
    "a backslash": ("a.csv", "image,labels\na\\x.jpg,cat\n", 2, "rename the file"),
    "a double slash": ("a.csv", "image,labels\na//x.jpg,cat\n", 2, "is not written as"),
    "latin-1": ("a.csv", "image,labels\nx.jpg,café\n".encode("latin-1"), 2, "the byte 0xe9"),
    "utf-16": ("a.csv", "image,labels\nx.jpg,cat\n".encode("utf-16"), 1, "UTF-16"),
    "a NUL": ("a.csv", "image,labels\nx.jpg,c\0at\n", 2, "a NUL"),
    "a number that is no 0 or 1": ("a.csv", "image,cat\nx.jpg,2\n", 2, "'2'"),
    "0 or 1 as a float": ("a.csv", "image,cat\nx.jpg,1.0\n", 2, "'1.0'"),
    "0 or 1 in words": ("a.csv", "image,cat\nx.jpg,true\n", 2, "'true'"),
    "a missing 0 or 1": ("a.csv", "image,cat\nx.jpg,\n", 2, "''"),
    "an empty column": ("a.csv", "image,cat,\nx.jpg,1,0\n", 1, "''"),
    "difficult in words": ("a.csv", "image,label,difficult\nx.jpg,cat,no\n", 2, "'no'"),
    "no JSON": ("a.jsonl", '{"image": "x.jpg", "labels": ["cat"]}\n{"image"\n', 2, "delimiter"),
    "JSON with NaN": ("a.jsonl", '{"image": "x.jpg", "labels": NaN}\n', 1, "NaN"),
    "a key twice": ("a.jsonl", '{"image": "x.jpg", "image": "y.jpg", "labels": []}', 1, "twice"),
    "a list": ("a.jsonl", '["x.jpg", "cat"]\n', 1, "x.jpg"),
    "no labels": ("a.jsonl", '{"image": "x.jpg"}\n', 1, "x.jpg"),
    "another key": ("a.jsonl", '{"image": "x.jpg", "labels": [], "when": 1}\n', 1, "when"),
    "labels as text": ("a.jsonl", '{"image": "x.jpg", "labels": "cat"}\n', 1, "'cat'"),
    "labels that are null": ("a.jsonl", '{"image": "x.jpg", "labels": null}\n', 1, "None"),
    "a label that is null": ("a.jsonl", '{"image": "x.jpg", "labels": [null]}\n', 1, "None"),
    "an image that is a number": ("a.jsonl", '{"image": 7, "labels": ["cat"]}\n', 1, "not text"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_error_with_the_line(fault: str, tmp_path: Path) -> None:
    name, content, line, found = FAULTS[fault]
    with pytest.raises(BenchError) as caught:
        opened(tmp_path, name, content)
    place = f"{name}, line {line}: " if line else f"{name}: "
    assert place in caught.value.what
    assert found in caught.value.found
    assert caught.value.expected
    assert "docs/datasets.md" in caught.value.remedy


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="there is no table of images"):
        open_dataset(str(tmp_path / "no.csv"), None)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(BenchError, match="not a table"):
        open_dataset(str(tmp_path / "folder.csv"), None)


def test_the_name_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "My Birds (2026).csv"
    path.write_text(CSV)
    assert open_dataset(str(path), None).name == "my-birds-2026"
    assert open_dataset(f"birds={path}", None).name == "birds"
    with pytest.raises(BenchError, match="no usable name"):
        open_dataset(f"Birds={path}", None)
    (tmp_path / "coco.csv").write_text(CSV)
    with pytest.raises(BenchError, match="'coco', which is registered"):
        open_dataset(str(tmp_path / "coco.csv"), None)


def test_where_the_images_of_a_table_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.jpg").write_bytes(jpeg(1))
    table = "image,labels\nx.jpg,cat\n"
    assert not opened(tmp_path, "a.csv", table).available(("x",)).any()
    assert opened(tmp_path, "a.csv", table, elsewhere).available(("x",)).all()
    monkeypatch.setenv("MLFSIC_DATA", str(elsewhere))
    assert not opened(tmp_path, "a.csv", table, elsewhere).available(("x",)).any()


def test_the_dataset_of_a_split(tmp_path: Path) -> None:
    path = tmp_path / "birds.csv"
    path.write_text(CSV)
    assert dataset_of("birds", None, str(path)).name == "birds"
    assert dataset_of("scenes", None).name == "scenes"
    with pytest.raises(BenchError, match="is not the dataset of the split") as caught:
        dataset_of("owls", None, str(path))
    assert "'owls'" in caught.value.expected
    with pytest.raises(BenchError, match="no dataset 'owls' is registered") as caught:
        dataset_of("owls", None)
    assert "--dataset owls.csv or owls=FILE.csv" in caught.value.remedy
    assert file_of(f"birds={path}") == path
    assert from_root(f"birds={path}") == f"birds={path.resolve()}"
    assert from_root("scenes") == "scenes"
    assert file_of("a=b/images.csv") == Path("b/images.csv")
    assert file_of("/a=b/images.csv") == Path("/a=b/images.csv")

"""What counts as an image on disk."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from mlfsic_bench.cli.main import main
from mlfsic_bench.data.coco import Coco
from mlfsic_bench.data.images import require_images
from mlfsic_bench.data.voc import Voc
from mlfsic_bench.errors import BenchError
from tests.fakes.coco import image_id, write_coco
from tests.fakes.jpeg import jpeg
from tests.fakes.voc import write_voc
from tests.files.test_files_lfs import POINTER


def as_format(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, kind)
    return stream.getvalue()


def no_image(path: Path, kind: str) -> None:
    """Put something that is no image in an image's place."""
    path.unlink()
    contents = {
        "empty": b"",
        "web page": b"\n<!DOCTYPE html><html></html>",
        "GIF": as_format("GIF"),
        "cut": jpeg(5)[:-30],
        "cut short": jpeg(5)[:20],
        "cut PNG": as_format("PNG")[:40],
        "LFS pointer": POINTER.encode(),
        "text": b"404 not found",
    }
    if kind in contents:
        path.write_bytes(contents[kind])
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "circle":
        path.symlink_to(path.name)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)


SAYS = {
    "dangling": "a link that leads nowhere",
    "circle": "a link that leads back to itself",
    "empty": "an empty file",
    "folder": "a folder",
    "pipe": "a pipe, device or socket",
    "web page": "a web page",
    "GIF": "a GIF",
    "cut": "an image file that is cut off or damaged",
    "cut short": "an image file that is cut off or damaged",
    "cut PNG": "an image file that is cut off or damaged",
    "LFS pointer": "a Git LFS pointer; run git lfs pull",
    "text": "not a JPEG or PNG",
}


@pytest.mark.parametrize("kind", SAYS)
def test_a11_what_is_no_image_is_not_available(kind, tmp_path):
    write_coco(tmp_path)
    write_voc(tmp_path)
    one, other = image_id("train", 9), image_id("train", 25)
    no_image(tmp_path / "coco" / f"{one}.jpg", kind)
    coco = Coco(tmp_path)
    assert coco.available((one, other, "train2014/missing")).tolist() == [False, True, False]
    assert coco.damaged() == {one: SAYS[kind]}
    no_image(tmp_path / "VOCdevkit/VOC2007/JPEGImages/000007.jpg", kind)
    voc = Voc(tmp_path)
    assert voc.available(("VOC2007/000007", "VOC2007/000005")).tolist() == [False, True]
    assert voc.damaged() == {"VOC2007/000007": SAYS[kind]}


def test_a11_what_a_reader_takes_is_available(tmp_path):
    write_voc(tmp_path)
    folder = tmp_path / "VOCdevkit/VOC2007/JPEGImages"
    behind = jpeg(3) + bytes(5000)  # some programs write more behind the end
    contents = {"000001": as_format("PNG"), "000002": behind, "000003": jpeg(3) + b"\n"}
    for name, data in contents.items():
        (folder / f"{name}.jpg").write_bytes(data)
    (folder / "000005.jpg").rename(tmp_path / "elsewhere")
    (folder / "000005.jpg").symlink_to(tmp_path / "elsewhere")
    voc = Voc(tmp_path)
    names = tuple(f"VOC2007/{name}" for name in (*contents, "000005"))
    assert voc.available(names).all()
    assert voc.damaged() == {}
    for name in names:
        voc.open_image(name)


def ended(args: list[object]) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    return int(end.value.code or 0)


def small_split(folder: Path) -> Path:
    """The split file of a definition that fits the tiny VOC, built below `folder`."""
    from tests.bad_input.data_cases import _built

    _built(folder)
    return folder / "built.json"


def test_a11_audit_and_work_name_what_is_no_image(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    split = small_split(tmp_path)
    images = tmp_path / "VOCdevkit/VOC2012/JPEGImages"
    no_image(images / "2008_000002.jpg", "LFS pointer")
    no_image(images / "2008_000003.jpg", "empty")
    capsys.readouterr()
    audit = ["splits", "audit", split, "--data-root", tmp_path, "--quick"]
    assert ended([*audit, "--format=json"]) == 1
    found = json.loads(capsys.readouterr().out)
    bad = {"VOC2012/2008_000002": SAYS["LFS pointer"], "VOC2012/2008_000003": SAYS["empty"]}
    used = {image: what for image, what in bad.items() if image in split.read_text()}
    assert used
    files = found["files"]
    assert {finding["image"]: finding["detail"] for finding in files["findings"]} == used
    assert files["on_disk"] == sum(found["images"].values()) - len(used)
    assert ended(audit) == 1
    assert "VOC2012/2008_000002 (a Git LFS pointer" in capsys.readouterr().out
    extract = ["features", "extract", "--split", split, "--data-root", tmp_path]
    assert ended([*extract, "--backbone", "scenes-small", "--cache", "cache"]) == 2
    error = capsys.readouterr().err
    assert "VOC2012/2008_000002 (a Git LFS pointer; run git lfs pull)" in error
    assert not Path("cache").exists()


def test_a11_kinds_are_counted(tmp_path):
    write_coco(tmp_path, without=(30,))
    for number, kind in ((9, "GIF"), (25, "GIF"), (36, "empty")):
        no_image(tmp_path / "coco" / f"{image_id('train', number)}.jpg", kind)
    ids = [image_id("train", number) for number in (9, 25, 30, 36, 49)]
    with pytest.raises(BenchError) as caught:
        require_images(Coco(tmp_path), ids, "the test")
    assert "4 of the 5 images" in caught.value.what
    assert "a GIF: 2, no such file: 1, an empty file: 1" in caught.value.found
    assert f"{ids[0]} (a GIF)" in caught.value.found


def test_a11_a_run_on_a_subset_says_what_it_left_out(tmp_path):
    from dataclasses import replace

    from mlfsic_bench.evaluation.record import notes_of
    from tests.fakes.world import fake_inputs

    inputs = replace(fake_inputs(episodes=3), damaged={"a/1": "a GIF", "a/2": "a GIF"})
    (note,) = [note for note in notes_of(inputs) if "no image" in note]
    assert "left out: 2 (a GIF: 2), such as a/1" in note


def test_a_run_says_how_many_images_an_exclusion_list_left_out():
    from mlfsic_bench.evaluation.record import notes_of
    from tests.fakes.world import fake_inputs, fake_split

    listed = {"hash": "0" * 64, "images": {"base": 0, "val": 1, "novel": 2}}
    inputs = fake_inputs(split=fake_split(subset={"excluded": listed}), episodes=3)
    note = "images left out by an exclusion list: base 0, val 1, novel 2"
    assert note in notes_of(inputs)

"""A Git LFS pointer in the place of a file: said so for every kind of file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlfsic_bench.cli.main import main
from mlfsic_bench.data.images import read_image_file
from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.store.store import LOCAL, FeatureStore
from mlfsic_bench.files import read_json
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.training.loop import load_checkpoint
from tests.fakes.coco import write_coco
from tests.fakes.voc import write_voc

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
SCENES = ["--split", "scenes-12-6-6-v1", "--backbone", "scenes-small", "--out", "out"]
COMMANDS = {
    "weights": ["run", "random", *SCENES, "--weights", "./pointer"],
    "label embeddings": ["run", "random", *SCENES, "--embeddings", "pointer"],
    "words": ["embeddings", "show", "pointer", "--labels", "dog"],
    "scores": ["score", "pointer"],
    "a split": ["splits", "show", "./pointer"],
    "episodes": ["episodes", "verify", "pointer"],
    "a record": ["table", "folder"],
    "an experiment": ["reproduce", "pointer.yaml", "--dataset", "scenes"],
    "a card": ["submit", "pack", "x", "--card", "pointer", "--out", "out"],
    "an entry": ["leaderboard", "check", "--results", "folder"],
    "a store": ["features", "info", "folder"],
    "a method": ["methods", "show", "pointer.py:M"],
    "COCO": ["splits", "build", "coco-52-12-16-v1", "--data-root", "coco data"],
    "VOC": ["splits", "build", "voc-8-6-6-v1", "--data-root", "voc data"],
}


@pytest.mark.parametrize("what", COMMANDS)
def test_a10_a_pointer_is_named(what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if what == "COCO":
        write_coco(Path("coco data"))
    elif what == "VOC":
        write_voc(Path("voc data"))
    entry = "folder/leaderboard/s/e.json"
    names = {
        "a record": ["folder/record.json"],
        "an entry": [entry],
        "a store": ["folder/manifest.json"],
        "COCO": ["coco data/coco/annotations/instances_train2014.json"],
        "VOC": ["voc data/VOCdevkit/VOC2007/ImageSets/Main/dog_trainval.txt"],
    }.get(what, ["pointer", "pointer.yaml", "pointer.py"])
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(POINTER)
    with pytest.raises(SystemExit, match="2"):
        main(COMMANDS[what])
    error = capsys.readouterr().err
    assert "is a Git LFS pointer, not the file itself" in error
    assert "a Git LFS pointer; run git lfs pull" in error
    assert not Path("out").exists()


def test_a10_readers_without_a_verb(tmp_path):
    readers = {
        "a.pt": load_checkpoint,
        "a.json": lambda path: read_json(path, kind="record"),
        "a.jpg": lambda path: read_image_file(path, "train2014/a", ""),
        "a.npz": hash_file,
    }
    for name, reader in readers.items():
        (tmp_path / name).write_text(POINTER)
        with pytest.raises(BenchError, match="is a Git LFS pointer"):
            reader(tmp_path / name)


def test_a10_one_file_of_a_store(tmp_path):
    from tests.features.test_features_store import filled

    filled(tmp_path)
    (tmp_path / LOCAL).write_text(POINTER)
    with pytest.raises(BenchError, match=r"local\.f16 is a Git LFS pointer"):
        FeatureStore(tmp_path)

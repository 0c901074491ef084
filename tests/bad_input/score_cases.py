"""Scores files that can't be scored."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np

from tests.bad_input.cases import as_file, case, shipped
from tests.bad_input.feature_cases import Payload
from tests.fakes.world import fake_run

SPLIT = "scenes-12-6-6-v1"


def _file(folder, scores=None, **changes):
    """A sound scores file of two episodes of scenes, with some keys of its meta changed."""
    split, drawn = shipped(f"{SPLIT}.json"), shipped(f"{SPLIT}.novel-episodes.json")
    meta = {
        "schema_version": 1,
        "kind": "mlfsic-bench scores",
        "labels": split["labels"]["novel"],
        "split": {"id": SPLIT, "hash": split["hash"], "dataset": "scenes", "rule": "open",
                  "subset": False},
        "episodes": {"protocol": drawn["protocol"], "part": "novel", "hash": drawn["hash"],
                     "total": drawn["count"], "count": 2},
        "method": {"name": "mine", "seed": 0, "trains": False, "uses_words": False,
                   "adapts_by_gradient": False},
    }  # fmt: skip
    scores = np.ones((2, 24, 6), np.float32) if scores is None else scores
    np.savez(folder / "a.npz", scores=scores, meta=np.array(json.dumps(meta | changes)))
    return ["score", "a.npz"]


@case("scores of a file that is not there", "there is nothing at a.npz")
def _nothing(folder, monkeypatch):
    return ["score", "a.npz"]


@case("scores in a folder that is no run", "a.npz/record.json")
def _folder(folder, monkeypatch):
    (folder / "a.npz").mkdir()
    return ["score", "a.npz"]


@case("scores that are text", "a.npz is not a readable scores file")
def _text(folder, monkeypatch):
    as_file(folder / "a.npz", "0.5,0.25")
    return ["score", "a.npz"]


@case("scores that are a malicious pickle", "a.npz", "objects are never read")
def _pickle(folder, monkeypatch):
    _file(folder)
    with zipfile.ZipFile(folder / "a.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    stream = io.BytesIO()
    np.save(stream, np.array([Payload()], object), allow_pickle=True)
    with zipfile.ZipFile(folder / "a.npz", "w") as archive:
        for name, data in (members | {"scores.npy": stream.getvalue()}).items():
            archive.writestr(name, data)
    return ["score", "a.npz"]


@case("scores that are not finite", "NaN or infinite")
def _nan(folder, monkeypatch):
    return _file(folder, np.full((2, 24, 6), np.nan, np.float32))


@case("scores in double precision", "float32 scores", "float64")
def _double(folder, monkeypatch):
    return _file(folder, np.ones((2, 24, 6)))


@case("scores of too few queries", "a score for every query image")
def _queries(folder, monkeypatch):
    return _file(folder, np.ones((2, 23, 6), np.float32))


@case("scores of another split than they say", "the split found is not the one")
def _hash(folder, monkeypatch):
    card = {"id": SPLIT, "hash": "0" * 64, "dataset": "scenes", "rule": "open", "subset": False}
    return _file(folder, split=card)


@case("scores whose split is a path", "unknown split in a file '/etc/passwd'")
def _path(folder, monkeypatch):
    card = {"id": "/etc/passwd", "hash": "0" * 64, "dataset": "scenes", "rule": "open"}
    return _file(folder, split=card | {"subset": False})


@case("scores with an unknown key", "'methods'", "'method'")
def _key(folder, monkeypatch):
    return _file(folder, methods={})


@case("scores of different episodes", "b can't be compared with a.npz: another split")
def _mixed(folder, monkeypatch):
    fake_run(folder / "b", episodes=3)
    return [*_file(folder), "b"]


@case("scores written onto a folder", "cannot write", "folder.md")
def _onto_folder(folder, monkeypatch):
    (folder / "folder.md").mkdir()
    return [*_file(folder), "--out", "folder.md"]


@case("stored answers taken apart by support", "--by pair needs the support", "--data-root")
def _support(folder, monkeypatch):
    fake_run(folder / "b", episodes=3)
    return ["score", "b", "--by", "pair"]

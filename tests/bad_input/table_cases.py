"""Tables of folders that are no runs, or not comparable ones."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np

from mlfsic_bench.hashing import hash_file
from tests.bad_input.cases import SCENES, as_file, case, main_ok
from tests.bad_input.feature_cases import Payload
from tests.bad_input.run_cases import PLUGIN
from tests.fakes.world import fake_run, fake_split


@case("a table of a folder that is no run", "empty/record.json")
def _no_run(folder, monkeypatch):
    (folder / "empty").mkdir()
    return ["table", "empty"]


@case("a table of a folder that is not there", "there is nothing at nowhere")
def _nowhere(folder, monkeypatch):
    return ["table", "nowhere"]


@case("a comparison of runs on different splits", "b can't be compared with a", "content of")
def _splits(folder, monkeypatch):
    fake_run(folder / "a")
    fake_run(folder / "b", split=fake_split(base=30))
    return ["compare", "a", "b"]


@case("a comparison of different numbers of episodes", "number of episodes")
def _counts(folder, monkeypatch):
    fake_run(folder / "a")
    fake_run(folder / "b", count=20)
    return ["compare", "a", "b"]


@case("a table of one run twice", "b holds the same scores as a")
def _twice(folder, monkeypatch):
    fake_run(folder / "a")
    fake_run(folder / "b")
    return ["table", "a", "b"]


@case("a table of changed scores", "scores.npz", "SHA-256")
def _changed(folder, monkeypatch):
    path = fake_run(folder / "a") / "scores.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    return ["table", "a"]


@case("a table of scores that are a malicious pickle", "scores.npz", "objects are never read")
def _pickle(folder, monkeypatch):
    path = fake_run(folder / "a") / "scores.npz"
    stream = io.BytesIO()
    np.save(stream, np.array([Payload()], object), allow_pickle=True)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["scores.npy"] = stream.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    record = json.loads((folder / "a/record.json").read_text())
    record["outputs"]["scores.npz"] = hash_file(path)  # whoever tampers can do this as well
    as_file(folder / "a/record.json", record)
    return ["table", "a"]


@case("a table of a run without targets", "targets.npz", "no such file")
def _no_answers(folder, monkeypatch):
    (fake_run(folder / "a") / "targets.npz").unlink()
    return ["table", "a"]


@case("a table of a run whose scores are a folder", "scores.npz", "no such file")
def _scores_folder(folder, monkeypatch):
    path = fake_run(folder / "a") / "scores.npz"
    path.unlink()
    path.mkdir()
    return ["table", "a"]


@case("a table of a run whose targets are a folder", "targets.npz", "no such file")
def _answers_folder(folder, monkeypatch):
    path = fake_run(folder / "a") / "targets.npz"
    path.unlink()
    path.mkdir()
    return ["table", "a"]


@case(
    "a table of a folder of runs",
    "all is not a run but holds 2",
    "name the runs in it: all/*",
    "a, b",
)
def _folder_of_runs(folder, monkeypatch):
    fake_run(folder / "all" / "a")
    fake_run(folder / "all" / "b", seed=1)
    return ["table", "all"]


@case("a picture of a run whose method is in a file", "'odd'", "--method path/to/file.py:Class")
def _own_method(folder, monkeypatch):
    text = PLUGIN.format(body="torch.zeros(len(query), 6)")
    main_ok("run", as_file(folder / "odd.py", text) + ":Odd", *SCENES, "--out", "out")
    (folder / "odd.py").unlink()
    return ["attention", "out"]


@case("a picture in an unknown format", "picture.xyz", ".png, .svg, .pdf")
def _format(folder, monkeypatch):
    return ["attention", "out", "--out", "picture.xyz"]


@case("a picture without an ending", "can't draw into picture", ".png, .svg, .pdf")
def _no_ending(folder, monkeypatch):
    return ["attention", "out", "--out", "picture"]


@case("a table of a record with an unknown key", "a/record.json", "'statuss'", "'status'")
def _key(folder, monkeypatch):
    path = fake_run(folder / "a") / "record.json"
    as_file(path, json.loads(path.read_text()) | {"statuss": "success"})
    return ["table", "a"]


@case("a table written onto a folder", "cannot write", "folder.md")
def _onto_folder(folder, monkeypatch):
    fake_run(folder / "a")
    (folder / "folder.md").mkdir()
    return ["table", "a", "--out", "folder.md"]


@case("a table beside published figures that are none", "fake-4-3-3-v1")
def _published(folder, monkeypatch):
    fake_run(folder / "a")
    return ["table", "a", "--published"]

"""Paths without permission, with names no file can have, and links in circles: one error each."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mlfsic_bench
from mlfsic_bench.cli.main import main
from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.store.manifest import default_cache
from mlfsic_bench.paths import exists, files_below, folders_with, list_folder, look
from tests.fakes.voc import write_voc

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("many_calls.py")
PACKAGE = Path(mlfsic_bench.__file__).parent
PACKAGES_OWN = re.compile(r"__file__|_folder\(\)|entry\.read_bytes|file\.read_bytes|\.git")
POWERS = "-dac_override,-dac_read_search,-fowner"  # what lets root pass by permissions
SCENES = ["--split", "scenes-12-6-6-v1", "--backbone", "scenes-small"]


def bound_by_permissions() -> list[str]:
    """What a command begins with so that permissions hold for it, whoever runs the tests."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("running as root without setpriv, so no permission can be tested")
    return ["setpriv", "--bounding-set", POWERS, "--inh-caps", POWERS]


def verbs(path: str) -> list[list[str]]:
    """Commands that get a path, each in another of its places."""
    return [
        ["score", path],
        ["table", path],
        ["compare", path, path],
        ["plot", "pr", path, "--out", "x.png"],
        ["curve", path],
        ["pointing", path],
        ["attention", path, "--out", "x.png"],
        ["submit", "pack", path, "--out", "packed"],
        ["submit", "check", path],
        ["leaderboard", "build", "--results", path],
        ["leaderboard", "check", "--results", path],
        ["embeddings", "show", path, "--labels", "dog"],
        ["embeddings", "average", "--model", path, "--corpus", path, "--labels", "a", "--out", "z"],
        ["features", "info", path],
        ["features", "verify", path],
        ["splits", "show", f"{path}.json"],
        ["splits", "verify", path],
        ["splits", "build", "voc-8-6-6-v1", "--data-root", path],
        ["episodes", "verify", path],
        ["episodes", "show", path, "0"],
        ["methods", "show", f"{path}.py:M"],
        ["reproduce", f"{path}.yaml", "--dataset", "scenes"],
        ["reproduce", "table1", "--dataset", "scenes", "--out", path, "--dry-run"],
        ["run", "random", *SCENES, "--out", path],
        ["run", "random", *SCENES, "--embeddings", path, "--out", "never"],
        ["run", "random", *SCENES, "--weights", f"{path}/w.pt", "--out", "never"],
    ]


def check_refused(command: list[str], code: int | None, error: str, name: str) -> None:
    """The command ended with one error that says which path it was."""
    assert code == 2, (command, error)
    assert error.count("error: ") == 1, (command, error)
    assert "Traceback" not in error
    assert name in error, (command, error)
    for entry in ("expected", "found", "to do"):
        assert f"\n  {entry}:" in error, (command, error)


def test_b1_without_permission(tmp_path: Path) -> None:
    before = bound_by_permissions()
    closed, done = tmp_path / "closed", tmp_path / "done"
    closed.mkdir()
    again = ["run", "random", *SCENES, "--episodes", "3", "--out", str(done)]
    with pytest.raises(SystemExit) as end:
        main(again)
    assert end.value.code == 0
    write_voc(tmp_path)
    images = tmp_path / "VOCdevkit/VOC2007/JPEGImages"
    build = ["splits", "build", "voc-8-6-6-v1", "--data-root", str(tmp_path), "--available-only"]
    commands = [*verbs(str(closed / "run")), ["score", "x", "--out", str(closed / "o")], build]
    closed.chmod(0)
    images.chmod(0o600)
    for path in (done, *done.iterdir()):
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        process = subprocess.run(
            [*before, sys.executable, str(SCRIPT)],
            input=json.dumps([*commands, again]),
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=True,
        )
    finally:
        for path in (closed, images, done):
            path.chmod(0o700)
    *refused, last = json.loads(process.stdout)
    for command, (code, out, error) in zip(commands, refused, strict=True):
        name = "JPEGImages" if command is build else "closed" if command[1] != "x" else "at x"
        check_refused(command, code, error, name)
        assert out == ""
        assert command[1] == "x" or "ermission denied" in error, (command, error)
    # B5: a run that is done needs no lock
    assert last[0] == 0
    assert "is done already" in last[2]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("n" * 300, "nnnn"), ("caf\udce9", "caf"), ("a\0b", "a"), ("loop/x", "loop")],
    ids=["300 letters", "bytes that are no UTF-8", "NUL", "a link to itself"],
)
def test_b1_names_no_file_can_have(name, shown, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("loop").symlink_to("loop")
    for command in verbs(name):
        with pytest.raises(SystemExit) as end:
            main(command)
        captured = capsys.readouterr()
        check_refused(command, end.value.code, captured.err, shown)
        assert captured.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loop"]


@pytest.mark.parametrize(
    "row",
    [
        'rows: [{name: a, method: "a\\0b.py:M", episodes: 2}]',
        'rows: [{name: a, method: "a\\ud800b.py:M", episodes: 2}]',
        f"splits: {{scenes: {'x' * 300}}}\nrows: [{{name: a, method: random, episodes: 2}}]",
    ],
    ids=["NUL", "surrogate", "300 letters"],
)
def test_b1_names_in_an_experiment_file(row, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text(f"schema_version: 1\nkind: table\ntitle: T\n{row}\n")
    with pytest.raises(SystemExit) as end:
        main(["reproduce", "e.yaml", "--dataset", "scenes"])
    check_refused(["reproduce"], end.value.code, capsys.readouterr().err, "")


def test_b1_paths_are_looked_at_in_one_place() -> None:
    asks = re.compile(r"\.(?:exists|is_file|is_dir|is_symlink|iterdir|glob|resolve|read_bytes)\(\)")
    bare = {
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in PACKAGE.rglob("*.py")
        if path.name not in ("paths.py", "dataset_template.py")  # the latter becomes a user's own
        for line in path.read_text(encoding="utf-8").splitlines()
        if asks.search(line) and "files(" not in line and not PACKAGES_OWN.search(line)
    }
    assert bare == set()


def test_what_lies_at_a_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "pipe")
    assert look(tmp_path / "file") == "file"
    assert look(tmp_path) == "folder"
    assert look(tmp_path / "pipe") == "pipe, device or socket"
    for nothing in ("dangling", "missing", "file/below"):
        assert look(tmp_path / nothing) == "nothing"
    for impossible in ("circle", "n" * 300, "a\0b", "a\ud800b"):
        with pytest.raises(BenchError, match="cannot use the path"):
            exists(tmp_path / impossible)


def test_b4_folders_are_listed_without_dot_files(tmp_path: Path) -> None:
    for name in ("b/record.json", "a/record.json", "a/.DS_Store", "c/other", ".d/record.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "a/up").symlink_to("..")
    top = tmp_path
    assert [path.name for path in list_folder(top)] == ["a", "b", "c"]
    assert folders_with(top, "record.json") == [top / "a", top / "b"]
    found = [path.relative_to(top).as_posix() for path in files_below(top)]
    assert found == ["a/record.json", "a/up", "b/record.json", "c/other"]
    assert folders_with(top / "missing", "record.json") == []
    with pytest.raises(BenchError, match="cannot use the path"):
        list_folder(top / "missing")


@pytest.mark.parametrize("home", ["", None])
def test_without_a_home(home, monkeypatch, tmp_path) -> None:
    for name, value in (("HOME", home), ("MLFSIC_CACHE", "")):
        if value is None:
            monkeypatch.delenv(name, raising=False)
            monkeypatch.setattr(Path, "home", _no_home)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(BenchError, match="where this user's home is"):
        default_cache()
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path))
    assert default_cache() == tmp_path


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_current_folder_that_is_gone(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(SystemExit) as end:
        main(["splits", "list"])
    check_refused(["splits", "list"], end.value.code, capsys.readouterr().err, "current folder")

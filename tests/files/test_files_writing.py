"""Writing: what a killed writer leaves behind, and what lies in an output's place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlfsic_bench import files
from mlfsic_bench.cli.main import main
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import LEFT_BEHIND, atomic_writer, read_regular, write_packed, write_text
from mlfsic_bench.leaderboard.entry import entry_files, read_entries
from mlfsic_bench.locks import only_writer
from tests.fakes.entries import fake_value, write_values

KILLED = """import os, pathlib, signal, sys
from mlfsic_bench.files import atomic_writer
with atomic_writer(pathlib.Path(sys.argv[1])) as stream:
    stream.write(b"half")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def left_by_a_kill(path: Path) -> Path:
    """The temporary file of a writer of `path` that was killed in the middle."""
    before = set(path.parent.iterdir()) if path.parent.exists() else set()
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = set(path.parent.iterdir()) - before
    assert left.read_bytes() == b"half"
    return left


def test_b4_what_a_killed_pack_leaves_blocks_no_board(tmp_path):
    results = write_values([fake_value("mine")], tmp_path / "results")
    (entry,) = entry_files(results)
    left = left_by_a_kill(entry)
    for folder in (results, entry.parent.parent, entry.parent):
        (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    assert entry_files(results) == [entry]
    assert [one.id for one in read_entries(results)] == ["mine"]
    (entry.parent / "notes.txt").write_text("x")  # a file in sight is still refused
    with pytest.raises(BenchError, match=r"notes\.txt is not an entry"):
        entry_files(results)
    assert left.exists()


def test_b4_the_next_writer_removes_old_temporary_files(tmp_path):
    target = tmp_path / "entry.json"
    left = left_by_a_kill(target)
    others = [tmp_path / ".other.json.mlfsic-abcd1234.tmp", tmp_path / ".entry.json.abcd1234.tmp"]
    for other in others:
        other.write_text("not of this file")
        os.utime(other, (0, 0))
    write_text(target, "whole")
    assert left.exists()  # its writer may still be at work
    old = time.time() - LEFT_BEHIND - 60
    os.utime(left, (old, old))
    write_text(target, "again")
    assert not left.exists()
    assert all(other.exists() for other in others)
    assert target.read_text() == "again"


def test_b4_the_holder_of_a_lock_removes_them_at_once(tmp_path):
    run = tmp_path / "run"
    left = [left_by_a_kill(run / name) for name in ("record.json", "parts/00000.npz")]
    kept = run / "parts" / ".mine.tmp"
    kept.write_text("x")
    with only_writer(run, ("parts", "checkpoints")):
        assert not any(path.exists() for path in left)
        assert kept.exists()


def test_what_lies_in_an_outputs_place(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "to folder").symlink_to("folder")
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "to folder", "pipe"):
        with pytest.raises(BenchError, match="cannot write"):
            write_text(tmp_path / name, "x")
    with pytest.raises(BenchError, match="cannot write"):
        write_text(Path(os.devnull), "x")  # root could replace it by a file
    assert not Path(os.devnull).is_file()
    (tmp_path / "kept").write_text("kept")
    for name, target in (("link", "kept"), ("dangling", "nowhere")):
        (tmp_path / name).symlink_to(target)
        write_text(tmp_path / name, "new")  # the link is replaced, what it led to is not
        assert not (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text() == "new"
    assert (tmp_path / "kept").read_text() == "kept"
    assert not (tmp_path / "nowhere").exists()
    longest = tmp_path / ("n" * 251 + ".csv")  # as long as names can be; so no piece was added
    write_text(longest, "x")
    assert longest.read_text() == "x"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def interrupted():
        with atomic_writer(tmp_path / "x") as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_an_output_onto_an_input(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        main(["run", "random", "--split", "scenes-12-6-6-v1", "--backbone", "scenes-small",
              "--episodes", "3", "--out", "run"])  # fmt: skip
    kept = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    for source, out in (("run/scores.npz", "run/scores.npz"), ("run", "run/record.json")):
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            main(["score", source, "--out", out])
        assert "the output would replace an input" in capsys.readouterr().err
    Path("corpus.txt").write_text("a dog\n")
    with pytest.raises(SystemExit, match="2"):
        main(["embeddings", "average", "--model", "m", "--corpus", "corpus.txt", "--labels", "dog",
              "--out", "./corpus.txt"])  # fmt: skip
    assert "the output would replace an input" in capsys.readouterr().err
    table = "image,labels\n" + "".join(f"{k}.jpg,{'abc'[k % 3]}\n" for k in range(30))
    Path("images.csv").write_text(table)
    for spec in ("images.csv", "birds=images.csv"):
        with pytest.raises(SystemExit, match="2"):
            main(["splits", "new", "--dataset", spec, "--labels", "1", "1", "1",
                  "--out", "./images.csv"])  # fmt: skip
        assert "the output would replace an input" in capsys.readouterr().err
    assert Path("images.csv").read_text() == table
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == kept
    with pytest.raises(SystemExit, match="0"):
        main(["score", "run", "--out", "run/report.txt"])


def test_a_packed_file_is_unpacked_once_and_anew_when_it_has_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_recent", {})
    monkeypatch.setattr(files, "KEPT", 80)
    path, other = tmp_path / "a", tmp_path / "b"
    for content in (b"one", b"two"):
        write_packed(path, content)
        assert [read_regular(path), read_regular(path)] == [content] * 2
    assert list(files._recent.values()) == [b"one", b"two"]
    write_packed(other, b"twelve bytes" * 4)  # more than an eighth of what is kept
    assert read_regular(other) == b"twelve bytes" * 4
    assert len(files._recent) == 2
    for number in range(10):
        write_packed(other, b"%09d" % number)
        assert read_regular(other) == b"%09d" % number
    kept = list(files._recent.values())  # the oldest have gone
    assert kept == [b"%09d" % number for number in range(2, 10)]
    packed = Path(f"{other}.xz")
    packed.write_bytes(packed.read_bytes()[:-1])
    with pytest.raises(OSError, match="cut off"):
        read_regular(other)

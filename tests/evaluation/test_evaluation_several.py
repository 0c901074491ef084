"""Several methods in one command or call: what they share, and what the failure of one does."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlfsic_bench.cli.main import cli
from mlfsic_bench.cli.run import _checked
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.inputs import open_inputs
from mlfsic_bench.evaluation.plan import RunPlan, settings_of
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.resources import ResourceCache
from mlfsic_bench.features.store import store as stores
from mlfsic_bench.splits.resolve import resolve_split

SPLIT, BACKBONE = "scenes-12-6-6-v1", "scenes-small"
PLACE = ("--split", SPLIT, "--backbone", BACKBONE, "--episodes", "1")


def several(*args: str, out: Path) -> Result:
    return CliRunner().invoke(cli, ["run", *args, *PLACE, "--out", str(out)])


def test_one_that_fails_does_not_stop_the_others(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text(
        "from mlfsic_bench.methods.contract import Method\n\n\n"
        "class Broken(Method):\n"
        '    name = "broken"\n\n'
        "    def adapt(self, support):\n"
        '        raise ValueError("no idea")\n'
    )
    opened = []
    read = stores.read_index
    monkeypatch.setattr(stores, "read_index", lambda path: opened.append(path) or read(path))
    done = several("prior", f"{file}:Broken", "protonet", "ridge", "prior", out=tmp_path / "runs")
    assert isinstance(done.exception, BenchError)
    assert done.exception.exit_code == 2
    assert done.exception.what == f"1 of 4 methods failed: {file}:Broken"
    assert f"FAILED: {file}:Broken: " in done.stderr
    assert "no idea" in done.stderr
    folders = [Path(line) for line in done.stdout.splitlines()]
    assert [folder.parent for folder in folders] == [tmp_path / "runs"] * 3
    names = [read_record(folder).method.name for folder in folders]
    assert names == ["prior", "protonet", "ridge"]
    assert f"{names[1]}: macro-AP" in done.stderr
    assert len(set(opened)) == 1
    assert len(opened) <= 3  # once; and by a writer and again where features were missing


def test_finished_ones_are_left_and_the_next_command_is_a_table(tmp_path):
    first = several("random", "prior", out=tmp_path)
    again = several("random", "prior", out=tmp_path)
    assert first.exit_code == again.exit_code == 0
    assert again.stdout == first.stdout
    assert again.stderr.count("is done already") == 2
    table = f"next: mlfsic-bench table {' '.join(first.stdout.split())}"
    assert again.stderr.splitlines()[-1] == table


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--set", "shrinkage=1"), "--set METHOD.NAME=VALUE is for one method alone"),
        (("--set", "ridge.k=1"), "unknown method of the parameter 'ridge.k'"),
        (("--preset", "paper"), "needs a command of its own"),
        (("word-guided-attention", "--embeddings", "none.txt"), "none.txt"),
    ],
)
def test_what_is_wrong_for_one_is_said_before_the_first_is_run(args, said, tmp_path):
    done = several("random", "knn", *args, out=tmp_path / "runs")
    assert isinstance(done.exception, BenchError)
    assert said in str(done.exception)
    assert not (tmp_path / "runs").exists()


def test_the_folder_of_a_run_holds_no_other_runs(tmp_path):
    several("random", out=tmp_path / "run")
    done = several("random", "prior", out=tmp_path / "run")
    assert isinstance(done.exception, BenchError)
    assert "is the folder of one run" in str(done.exception)


def test_settings_for_one_go_before_those_for_all():
    file = "a.b/mine.py:Mine"
    given = {f"{file}.k": "3", "k": "1", "knn.k": "2"}
    found = [settings_of(one, [file, "knn", "ridge"], given) for one in (file, "knn", "ridge")]
    assert found == [{"k": "3"}, {"k": "2"}, {"k": "1"}]


def write_vectors(path: Path, number: int) -> None:
    split = resolve_split(SPLIT, data_root=None)
    labels = [label for part in split.parts.values() for label in part.labels]
    words = sorted({word for label in labels for word in label.split()})
    path.write_text("".join(f"{word} {len(word)} {number}\n" for word in words))


def test_label_embeddings_go_to_the_methods_that_use_them(tmp_path):
    write_vectors(tmp_path / "vectors.txt", 1)
    plans = [
        RunPlan(method, SPLIT, BACKBONE, embeddings=tmp_path / "vectors.txt")
        for method in ("knn", "mmci")
    ]
    found = [plan.embeddings for plan in _checked(plans, ResourceCache())]
    assert found == [None, tmp_path / "vectors.txt"]


def test_inputs_are_opened_once(tmp_path):
    opened = ResourceCache()
    vectors = tmp_path / "vectors.txt"

    def inputs(method: str):
        plan = RunPlan(method, SPLIT, BACKBONE, embeddings=vectors, device="cpu")
        return open_inputs(plan, opened)

    write_vectors(vectors, 1)
    one, two = inputs("word-guided-attention"), inputs("mmci")
    for name in ("split", "episodes", "selection", "embeddings"):
        assert getattr(one, name) is getattr(two, name)
    assert one.method is not two.method
    write_vectors(vectors, 12)
    assert inputs("mmci").embeddings.hash != one.embeddings.hash  # written anew, read anew

"""`mlfsic-bench reproduce` where runs are there: what is left, made again, archived or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mlfsic_bench.arrays import write_arrays
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import run_key
from mlfsic_bench.evaluation.scores import order_of
from mlfsic_bench.experiments.archive import read_runs
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.methods.registry import find_method
from mlfsic_bench.results.result import open_result
from tests.experiments.reproduced import WITHOUT_LINEAR, reproduce, result_of, runs_of, small

pytestmark = pytest.mark.slow


def test_what_is_done_is_left_and_what_is_lost_is_made_again(table: tuple[Path, str]) -> None:
    file, printed = table
    before = runs_of(file)
    assert len(before) == 4
    lost = next(name for name in before if name.startswith("random"))
    (file.parent / "out" / "scenes" / "runs" / lost / "scores.npz").unlink()
    dry = reproduce(file, "--seeds", "2", "--dry-run").stdout
    assert f"part        {lost}" in dry
    assert "4 runs in" in dry
    assert "1 part, 3 done" in dry
    assert reproduce(file, "--seeds", "2").stdout == printed
    after = runs_of(file)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {lost}


def test_an_archive_holds_what_the_table_is_made_of(
    table: tuple[Path, str], tmp_path: Path
) -> None:
    file, _ = table
    other = file.parent / "out" / "scenes" / "small-other.md"  # of another experiment
    other.write_text("older")
    slim, full = tmp_path / "slim", tmp_path / "full"
    reproduce(file, "--seeds", "2", "--archive", str(slim))
    files = {"small.md", "small.csv", "small.json"}
    assert {path.name for path in slim.iterdir()} == files | {"small.runs.json.xz"}
    reproduce(file, "--seeds", "2", "--archive", str(full), "--archive-scores")
    assert {path.name for path in full.iterdir()} == files | {"runs", "targets"}
    made = file.parent / "out" / "scenes"
    assert (slim / "small.md").read_bytes() == (made / "small.md").read_bytes()
    kept = read_runs(slim / "small.runs.json")
    for row in result_of(file).values():
        for run in row["runs"]:
            assert kept[run["folder"]].record["key"] == run["key"]
            names = {path.name for path in (full / "runs" / run["folder"]).iterdir()}
            assert names == {"record.json", "order.npz.xz"}
            here, there = (open_result(f / "runs" / run["folder"]) for f in (made, full))
            expected = order_of(here.scores, here.sha256)
            assert np.array_equal(expected.scores, there.scores.scores)
            assert there.scores.meta.order_of == here.sha256
            assert here.stored is not None
            assert there.stored is not None
            assert np.array_equal(here.stored.targets, there.stored.targets)
        if row["runs"]:
            means = [kept[run["folder"]].values["macro_ap"].mean() for run in row["runs"]]
            shown = row["cells"]["macro_ap"]["measured"]
            assert shown == pytest.approx(100 * np.mean(means), abs=1e-6)
    again = reproduce(file, "--archived", str(full)).stdout
    assert again == reproduce(file, "--seeds", "2").stdout.rpartition("\ntable: ")[0]
    with pytest.raises(BenchError, match="was not made on coco-subset"):
        reproduce(file, "--dataset", "coco-subset", "--archived", str(full))
    with pytest.raises(BenchError, match="is no archived table"):
        reproduce(file, "--archived", str(tmp_path))
    with pytest.raises(BenchError, match="goes with --archive"):
        reproduce(file, "--archive-scores")


def test_a_dry_run_tells_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    file = small(tmp_path)
    text = reproduce(file, "--dry-run").stdout
    assert text.count("missing     ") == 5
    assert "5 runs in" in text
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_runs_of_another_version_are_neither_used_nor_overwritten(
    table: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(table[0].parent, tmp_path / "copy")  # other tests read the table that is there
    file = tmp_path / "copy" / table[0].name
    monkeypatch.setattr(find_method("protonet"), "version", 2)
    text = reproduce(file, "--seeds", "2", "--dry-run").stdout
    assert "1 other version" in text
    assert "use another --out" in text
    before = runs_of(file)
    refused = reproduce(file, "--seeds", "2", "--only", "ProtoNet", code=1)
    assert "method.version: 1 -> 2" in refused.output
    assert runs_of(file) == before


def test_runs_of_an_earlier_identity_count_as_done(tmp_path: Path) -> None:
    file = small(tmp_path, WITHOUT_LINEAR)
    reproduce(file, "--only", "ProtoNet")
    folder = next((tmp_path / "out" / "scenes" / "runs").glob("protonet*"))
    record = json.loads((folder / "record.json").read_text())
    was = record["identity"]
    record["identity"] = {
        **{name: value for name, value in was.items() if name != "scores_version"},
        "identity_version": 1,
        "package": {"version": "0.1.0", "code": "0" * 64},
        "method": {
            "name": "protonet",
            "source": f"mlfsic-bench 0.1.0 sha256:{'0' * 64}",
            "parameters": was["method"]["parameters"],
        },
    }
    old = run_key(record["identity"])
    arrays = dict(np.load(folder / "scores.npz"))
    meta = json.loads(str(arrays["meta"]))
    arrays["meta"] = np.array(json.dumps(meta | {"run": old}))
    write_arrays(folder / "scores.npz", arrays)
    record["outputs"]["scores.npz"] = hash_file(folder / "scores.npz")
    (folder / "record.json").write_text(json.dumps(record | {"key": old}))
    before = runs_of(file)
    assert "ProtoNet" in reproduce(file, "--only", "ProtoNet").stdout
    assert runs_of(file) == before


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlfsic_bench.evaluation import runner as run

    file = small(tmp_path)
    whole = run.write_targets

    def interrupted(path: Path, answers: object) -> None:
        if "protonet" in str(path):
            raise KeyboardInterrupt
        whole(path, answers)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "write_targets", interrupted)
    result = reproduce(file, "--seeds", "1", code=130)
    assert "goes on where it stopped" in result.stderr
    assert [name.split("-")[0] for name in runs_of(file) if name.startswith("random")]
    assert not (tmp_path / "out" / "scenes" / "small.md").exists()
    monkeypatch.undo()
    random = next(mtime for name, mtime in runs_of(file).items() if name.startswith("random"))
    reproduce(file, "--seeds", "1")
    assert random in runs_of(file).values()
    assert result_of(file)["ProtoNet"]["cells"]["macro_ap"]["measured"] is not None

"""A run that is done is recognised by small files alone; where anything differs, it is opened."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.episodes.files import draw_episodes
from mlfsic_bench.episodes.per_label import ONE_PER_LABEL
from mlfsic_bench.evaluation.finished import finished, keep_finished
from mlfsic_bench.evaluation.inputs import open_inputs
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.runner import run_method
from mlfsic_bench.features.backbones.scenes import variant
from mlfsic_bench.paths import Places, exists, list_folder, watched
from mlfsic_bench.splits.files import read_split

METHOD = """
import helper_of_tossed
from mlfsic_bench.methods.contract import Method

class Tossed(Method):
    name = "tossed"
    uses_embeddings = True

    def adapt(self, support):
        return lambda query: query.pooled() @ support.images.pooled()[: len(support.labels)].T
"""
SCENES = "scenes-12-6-6-v1"


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunPlan:
    """Of a run that names a file of every kind."""
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path / "cache"))
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    (inputs / "tossed.py").write_text(METHOD)
    (inputs / "helper_of_tossed.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(inputs))
    (inputs / "split.json").write_bytes((files("mlfsic_splits") / f"{SCENES}.json").read_bytes())
    split = read_split(inputs / "split.json")
    labels = [label for part in split.parts.values() for label in part.labels]
    vectors = "".join(f"{label.replace(' ', '_')} {i} 1\n" for i, label in enumerate(labels))
    (inputs / "vectors.txt").write_text(vectors)
    torch.save(variant("scenes-small").network().state_dict(), inputs / "weights.pt")
    episodes = draw_episodes(ONE_PER_LABEL, split, "novel", count=1)
    (inputs / "episodes.json").write_bytes(episodes.format())
    return RunPlan(
        method=f"{inputs / 'tossed.py'}:Tossed",
        split=str(inputs / "split.json"),
        backbone="scenes-small",
        weights=str(inputs / "weights.pt"),
        embeddings=inputs / "vectors.txt",
        episodes_file=inputs / "episodes.json",
        device="cpu",
        cache=tmp_path / "features",
        out=tmp_path / "run",
    )


def kept(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "cache" / "asked"
    return list_folder(folder) if exists(folder) else []


def test_every_file_that_a_run_names_is_compared(plan: RunPlan, tmp_path: Path) -> None:
    assert finished(plan) is None
    folder = run_method(plan)
    found = finished(plan)
    assert found is not None
    assert (found.folder, found.record["status"]) == (folder, "success")
    assert finished(dataclasses.replace(plan, seed=1)) is None
    assert finished(dataclasses.replace(plan, protocol=ONE_PER_LABEL)) is None
    places = {path for path, *_ in json.loads(kept(tmp_path)[0].read_text())["places"]}
    named = {str(p) for p in list_folder(tmp_path / "inputs") if p.name != "__pycache__"}
    assert named <= places
    for path in (*map(Path, sorted(named)), folder / "scores.npz", folder / "record.json"):
        whole, about = path.read_bytes(), path.stat()
        path.write_bytes(whole + b"\n")
        assert finished(plan) is None, path
        path.write_bytes(whole)
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
        # of the same size and time, and perhaps changed; the scores have a hash
        assert (finished(plan) is None) == (path.name != "scores.npz"), path
        run_method(plan)
        assert finished(plan) is not None, path
    (folder / "targets.npz").unlink()
    assert finished(plan) is None


def test_the_command_says_the_same_without_opening_anything(
    plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ["run", "random", "--split", str(plan.split), "--backbone", "scenes-small"]
    args += ["--episodes", "1", "--device", "cpu"]
    monkeypatch.chdir(tmp_path)
    first = CliRunner().invoke(cli, args, catch_exceptions=False)
    slow = printed_by(args, monkeypatch, opened=True)
    assert slow == printed_by(args, monkeypatch, opened=False)
    assert "is done already" in slow
    assert first.output.splitlines()[-3:] == slow.splitlines()[-3:]  # score, folder, what is next

    code = f"import sys; from mlfsic_bench.cli.main import main; main({args!r})"
    end = "\nfinally: print(sorted({'torch', 'numpy', 'pydantic', 'scipy'} & set(sys.modules)))"
    alone = subprocess.run(
        [sys.executable, "-c", f"try: exec({code!r})" + end],
        capture_output=True,
        text=True,
        check=True,
    )
    assert alone.stdout.splitlines()[-1] == "[]"
    printed = alone.stderr.splitlines() + alone.stdout.splitlines()[:-1]
    assert sorted(printed) == sorted(slow.splitlines())


def printed_by(args: list[str], monkeypatch: pytest.MonkeyPatch, *, opened: bool) -> str:
    """What the command prints where the run is opened, or where opening it is an error."""
    with monkeypatch.context() as patch:
        if opened:
            patch.setattr("mlfsic_bench.evaluation.finished.finished", lambda plan: None)
        else:
            patch.setattr("mlfsic_bench.evaluation.runner.run_method", None)
        return CliRunner().invoke(cli, args, catch_exceptions=False).output


def test_what_lies_in_a_folder_and_what_does_not_is_compared_too(
    plan: RunPlan, tmp_path: Path
) -> None:
    plan = dataclasses.replace(plan, method="random")
    folder, images = run_method(plan), tmp_path / "images"
    images.mkdir()
    (images / "1.jpg").write_bytes(b"a")
    places: Places = {}
    with watched(places):
        assert not exists(tmp_path / "nothing")
        assert len(list_folder(images)) == 1
    inputs = open_inputs(plan)

    def again() -> bool:
        keep_finished(plan, inputs, folder, places, time.time_ns() + 10**9)
        return finished(plan) is not None

    assert again()
    (images / "2.jpg").write_bytes(b"b")
    assert finished(plan) is None
    assert again()
    (images / "2.jpg").write_bytes(b"longer")
    assert finished(plan) is None
    assert again()
    about = (images / "2.jpg").stat()
    (images / "2.jpg").write_bytes(b"LONGER")
    os.utime(images / "2.jpg", ns=(about.st_atime_ns, about.st_mtime_ns))
    assert finished(plan) is None
    assert again()
    (tmp_path / "nothing").mkdir()
    assert finished(plan) is None


def test_a_folder_beside_the_cache_folder_is_compared(plan: RunPlan, tmp_path: Path) -> None:
    plan = dataclasses.replace(plan, method="random")
    folder, inputs, beside = run_method(plan), open_inputs(plan), tmp_path / "cache-data"
    keep_finished(plan, inputs, folder, {str(beside): False}, time.time_ns())
    assert finished(plan) is not None
    beside.mkdir()
    assert finished(plan) is None


def test_what_may_have_been_read_before_it_was_written_is_not_kept(
    plan: RunPlan, tmp_path: Path
) -> None:
    plan = dataclasses.replace(plan, method="random")
    run_method(plan)
    inputs, since = open_inputs(plan), time.time_ns()
    kept(tmp_path)[0].unlink()
    late = tmp_path / "late"
    late.write_text("x")
    os.utime(late, ns=(since + 10**9, since + 10**9))
    keep_finished(plan, inputs, tmp_path / "run", {str(late): False}, since)
    assert kept(tmp_path) == []


def test_a_network_in_a_file_may_read_what_it_likes(plan: RunPlan, tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text(
        "from mlfsic_bench.features.backbones.scenes import variant, transform\n"
        "def build(weights):\n"
        "    return variant('scenes-small').network(), transform()\n"
    )
    own = dataclasses.replace(plan, method="random", backbone=f"{net}:build", weights="default")
    run_method(own)
    assert kept(tmp_path) == []
    assert finished(own) is None


def test_a_damaged_note_is_as_none(plan: RunPlan, tmp_path: Path) -> None:
    plan = dataclasses.replace(plan, method="random")
    run_method(plan)
    for content in ("", "[]", '{"asked": 1}', "x"):
        kept(tmp_path)[0].write_text(content)
        assert finished(plan) is None

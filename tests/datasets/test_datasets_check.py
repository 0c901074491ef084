"""`datasets check` and the guard: each faulty data set is caught, and the message says why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.data.guard import Guarded
from mlfsic_bench.data.registry import open_dataset
from mlfsic_bench.data.scenes import Scenes
from mlfsic_bench.errors import BenchError
from mlfsic_bench.testing import dataset_check
from mlfsic_bench.testing.dataset_check import CHECKS, check_dataset
from mlfsic_bench.testing.process import CheckResult
from tests.datasets.faulty import FAULTS, RETURN, write

pytestmark = pytest.mark.slow

NAMES = [check.name for check in CHECKS]


def until_failure(spec: str) -> list[CheckResult]:
    """The results of the tests up to the first that fails; those with processes come last."""
    found = []
    for result in check_dataset(spec, None):
        found.append(result)
        if result.status == "fail":
            break
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught_and_named(fault: str, tmp_path: Path) -> None:
    test, named, changes = FAULTS[fault]
    spec = write(tmp_path, changes)
    if not test:
        with pytest.raises(BenchError) as caught:
            open_dataset(spec, None)
        assert named in str(caught.value)
        return
    *before, failed = until_failure(spec)
    assert failed.name == test, failed
    assert failed.status == "fail"
    assert all(result.status == "pass" for result in before), before
    told = dict(failed.explanation)
    assert named in " ".join([failed.shows, *told.values()]), told
    assert told["remedy"]


def test_at_least_ten_kinds_of_faults_and_a_fault_for_each_test() -> None:
    assert len(FAULTS) >= 10
    assert {test for test, _, _ in FAULTS.values()} - {""} == set(NAMES) - {"damaged"}


def test_what_is_shipped_passes_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    done = CliRunner().invoke(cli, ["datasets", "new", str(path)])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(cli, ["datasets", "check", f"{path}:MyDataset", "--format", "json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["counts"] == {"pass": len(NAMES), "warn": 0, "fail": 0, "skip": 0}
    again = CliRunner().invoke(cli, ["datasets", "new", str(path)])
    assert "a file that is there" in str(again.exception.__dict__ if again.exception else "")


def test_exit_code_and_text_of_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_check, "CHECKS", CHECKS[:3])
    spec = write(tmp_path, FAULTS["ids not sorted"][2])
    done = CliRunner().invoke(cli, ["datasets", "check", spec])
    assert done.exit_code == 1
    assert "fail  annotations" in done.output
    assert "skip  again" in done.output
    assert "my-dataset: 1 passed, 1 failed, 1 skipped" in "".join(done.output.split(f"{spec}"))


def test_a_plug_in_is_guarded_wherever_it_is_used(tmp_path: Path) -> None:
    dataset = open_dataset(write(tmp_path, FAULTS["ids not sorted"][2]), None)
    with pytest.raises(BenchError, match="not sorted"):
        dataset.annotations()
    failing = write(tmp_path, [(RETURN, "        raise SystemExit(0)\n")])
    with pytest.raises(BenchError, match=r"failed in annotations\(\)") as caught:
        open_dataset(failing, None).annotations()
    assert "SystemExit" in caught.value.found
    assert "raise SystemExit(0)" in caught.value.found


def test_an_object_is_opened_as_it_is() -> None:
    class Fewer(Scenes):
        name = "fewer"

        def __init__(self) -> None:
            super().__init__(base_images=3, val_images=0, novel_images=0)

    dataset = open_dataset(Fewer(), None)
    assert isinstance(dataset, Guarded)
    assert len(dataset.annotations().image_ids) == 3
    assert dataset.title == "Scenes"
    assert dataset.open_image("scenes/000001").size == (112, 112)
    assert np.array_equal(
        dataset.label_embeddings(["plain disc"]), Scenes().label_embeddings(["plain disc"])
    )
    assert set(dataset.masks("scenes/000001")) <= set(dataset.annotations().labels)
    own = Scenes()
    assert open_dataset(own, None) is own


def test_list_and_show(tmp_path: Path) -> None:
    listed = CliRunner().invoke(cli, ["datasets", "list", "--format", "json"])
    rows = {row["name"]: row for row in json.loads(listed.stdout)}
    names = {"coco", "voc", "scenes", "scenes-20k", "nus-wide", "visual-genome"}
    assert names <= set(rows)
    assert not any(row["broken"] for row in rows.values())
    assert not rows["scenes"]["needs_root"]
    shown = CliRunner().invoke(cli, ["datasets", "show", write(tmp_path, [])])
    assert "my-dataset: 2 images (2 on disk), such as made/0001; 2 labels" in shown.output
    assert "  red          2" in shown.output

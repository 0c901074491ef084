"""Several processes on one run, as torchrun starts them: the same results, and one error."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mlfsic_bench import distributed
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.scores import read_scores
from mlfsic_bench.features.store.store import INDEX, LOCAL, POOLED
from mlfsic_bench.training.history import read_history
from tests.distributed.processes import Started
from tests.distributed.shared_runs import (
    differs,
    disagree,
    extraction,
    fail,
    fails_in,
    fake_run,
    go_on,
    leave,
    statistics,
    torchrun,
)
from tests.fakes.processes import KILLED, run_apart
from tests.features.feature_fakes import make_images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by one process."""
    folder = tmp_path_factory.mktemp("whole")
    assert Started(1, folder, fake_run, folder / "run").ended() == [0]
    return folder / "run"


def same_run(folder: Path, whole: Path) -> None:
    """Scores to 1e-4 of their spread, the values behind the table to 0.05, and the history."""
    found, expected = (read_scores(one / "scores.npz").scores for one in (folder, whole))
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(np.ptp(expected)))
    a, b = read_record(folder), read_record(whole)
    assert (a.key, a.status) == (b.key, "success")
    for name, value in a.metrics.items():
        assert value.mean == pytest.approx(b.metrics[name].mean, abs=5e-4), name
    rows, others = (read_history(one / "checkpoints") for one in (folder, whole))
    assert [row["step"] for row in rows] == [row["step"] for row in others]
    for row, other in zip(rows, others, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_make_the_run_of_one(count: int, tmp_path: Path, whole: Path) -> None:
    started = Started(count, tmp_path, fake_run, tmp_path / "run")
    assert started.ended() == [0] * count
    same_run(tmp_path / "run", whole)
    assert read_record(whole).provenance.processes == 1
    assert read_record(tmp_path / "run").provenance.processes == count
    assert not (tmp_path / "run" / "parts").exists()
    assert "step 8/8" in started.printed(0)
    assert [started.printed(number) for number in range(1, count)] == [""] * (count - 1)


@pytest.mark.parametrize(
    ("count", "number", "place", "call", "then"),
    [(4, 2, "training", 9, 2), (2, 0, "evaluation", 2, 1)],
)
def test_one_is_killed_the_rest_stop_with_one_error_and_the_run_resumes(
    count: int, number: int, place: str, call: int, then: int, tmp_path: Path, whole: Path
) -> None:
    kill = (number, place, call)
    started = Started(count, tmp_path / "killed", fake_run, tmp_path / "run", kill)
    codes = started.ended()
    assert codes == [KILLED if one == number else 1 for one in range(count)]
    texts = [started.printed(one) for one in range(count)]
    assert sum(text.count("error: ") for text in texts) == 1
    assert f"process {number} of {count} died" in texts[1 if number == 0 else 0]
    record = read_record(tmp_path / "run")
    assert record.status == ("started" if number == 0 else "error")
    assert Started(then, tmp_path, fake_run, tmp_path / "run").ended() == [0] * then
    same_run(tmp_path / "run", whole)


def test_a_backbone_is_trained_as_by_one_process_and_the_training_resumes(tmp_path: Path) -> None:
    def made(count: int, name: str, *given: object) -> list[int | None]:
        return Started(count, tmp_path / f"{name}.logs", fake_run, tmp_path / name, *given).ended()

    assert made(1, "whole", None, "frozen") == [0]
    assert made(2, "two", (1, "training", 20), "frozen") == [1, KILLED]
    assert not (tmp_path / "two" / "scores.npz").exists()
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    for count, name in ((2, "two"), (1, "one")):
        assert made(count, name, None, "frozen") == [0] * count
        assert "resuming after step 4 of 8" in (tmp_path / f"{name}.logs" / "0.log").read_text()
        same_run(tmp_path / name, tmp_path / "whole")


def test_losses_with_the_statistics_of_the_batch_are_those_of_one_process(tmp_path: Path) -> None:
    rows = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        started = Started(count, folder, fake_run, folder / "run", None, "batch")
        assert started.ended() == [0] * count
        rows.append(read_history(folder / "run" / "checkpoints"))
    assert len(rows[0]) == 2
    for row, other in zip(*rows, strict=True):  # their values on val need running statistics
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_an_error_in_one_is_the_error_of_all(tmp_path: Path) -> None:
    started = Started(3, tmp_path, fail, tmp_path, 2)
    assert started.ended() == [1, 1, 1]
    assert "error: process 2 of 3 failed: an unexpected error" in started.printed(0)
    assert "ValueError: something unforeseen" in started.printed(0)
    assert started.printed(1) + started.printed(2) == ""


def test_processes_that_open_different_runs_are_refused(tmp_path: Path) -> None:
    started = Started(2, tmp_path, disagree, tmp_path / "run")
    assert started.ended() == [2, 2]
    assert started.printed(0).count("do not agree on the run") == 1
    assert not (tmp_path / "run").exists()


def test_an_error_that_one_run_has_ends_this_run_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").touch()
    started = Started(2, tmp_path, go_on, tmp_path / "run")
    assert started.ended() == [0, 0]
    assert started.printed(0).count("FAILED: ") == 1
    assert "holds files that are not a run" in started.printed(0)
    assert read_record(tmp_path / "next").provenance.processes == 2


@pytest.mark.parametrize("number", [0, 1])
def test_a_method_that_fails_in_one_process_ends_its_run_alone(number: int, tmp_path: Path) -> None:
    started = Started(2, tmp_path, go_on, tmp_path / "run", partial(fails_in, number))
    assert started.ended() == [0, 0]
    assert started.printed(0).count("FAILED: ") == 1
    assert "it can't adapt" in started.printed(0)
    assert read_record(tmp_path / "run").status == "error"
    assert read_record(tmp_path / "next").status == "success"


def test_processes_that_disagree_begin_no_other_run(tmp_path: Path) -> None:
    started = Started(2, tmp_path, go_on, tmp_path / "run", differs)
    assert started.ended(30.0) == [2, 2]
    assert "do not agree on the run" in started.printed(0)


def test_no_process_waits_for_a_first_one_that_has_ended(tmp_path: Path) -> None:
    assert Started(2, tmp_path, leave, tmp_path / "run").ended(30.0) == [0, 1]


def test_running_statistics_become_the_mean_of_all_and_weights_stay(tmp_path: Path) -> None:
    assert Started(2, tmp_path, statistics, tmp_path).ended() == [0, 0]
    for number in (0, 1):
        text = (tmp_path / f"{number}.txt").read_text()
        assert "tensor([0.5000, 3.0000])" in text
        assert f"tensor({number}.)" in text


def test_an_extraction_is_shared_and_the_store_is_that_of_one_process(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 24)
    work = (extraction, tmp_path / "images")
    assert Started(1, tmp_path, *work, tmp_path / "one").ended() == [0]
    killed = Started(2, tmp_path, *work, tmp_path / "two", (0, "extraction", 3))
    assert killed.ended() == [KILLED, 1]
    assert "process 0 of 2 died" in killed.printed(1)
    assert Started(2, tmp_path, *work, tmp_path / "two").ended() == [0, 0]
    assert int((tmp_path / "two.helped").read_text()) > 0
    for name in (INDEX, LOCAL, POOLED):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert not list((tmp_path / "two").glob(".batches-*"))


def test_a_command_under_torchrun(tmp_path: Path) -> None:
    run = ["run", "protonet", "--split", "scenes-12-6-6-v1", "--backbone", "scenes-small"]
    run += ["--episodes", "2", "--device", "cpu", "--out", str(tmp_path / "run")]
    run += ["--cache", str(tmp_path / "cache")]
    assert run_apart(torchrun, 2, tmp_path, run) == 0
    record = read_record(tmp_path / "run")
    assert (record.status, record.provenance.processes) == ("success", 2)
    assert "macro-AP" in (tmp_path / "0.log").read_text()
    assert (tmp_path / "1.log").read_text() == ""


def test_one_process_is_alone_and_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (distributed.environment(), distributed.count()) == ((0, 1), 1)
    said = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, text in said.items():
        monkeypatch.setenv(name, text)
    assert distributed.environment() == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(BenchError, match="something impossible"):
        distributed.environment()

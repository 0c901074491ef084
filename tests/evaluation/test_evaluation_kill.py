"""kill -9 at any moment, start again: the scores of an undisturbed run."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.locks import only_writer
from tests.evaluation.killed_run import log_of, run_until
from tests.fakes.processes import KILLED, run_apart
from tests.fakes.world import fake_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, undisturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run_apart(run_until, folder) == 0
    return folder


def same_files(folder: Path, whole: Path) -> bool:
    names = ("scores.npz", "targets.npz")
    return all((folder / name).read_bytes() == (whole / name).read_bytes() for name in names)


def test_killed_and_resumed_equals_undisturbed(tmp_path: Path, whole: Path) -> None:
    """Killed before the fourth file that is to be put in place, then before the fifth, ..."""
    folder = tmp_path / "killed"
    kills = 0
    while (status := run_apart(run_until, folder, 4 + kills)) == KILLED:
        kills += 1
        assert kills < 20
        assert read_record(folder).status == "started"
    assert status == 0
    assert kills > 2
    assert same_files(folder, whole)
    assert read_record(folder).status == "success"
    assert not (folder / "parts").exists()


def test_killed_while_evaluating_keeps_what_was_done(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "killed"
    assert run_apart(run_until, folder, "scoring: 40 of 90 episodes") == KILLED
    kept = {p.name: p.stat().st_mtime_ns for p in (folder / "parts").glob("0*.npz")}
    assert {"00000.npz", "00020.npz"} <= set(kept)
    fitted = (folder / "method.pt").stat().st_mtime_ns
    assert run_apart(run_until, folder) == 0
    assert "step 1\n" not in log_of(folder).read_text()
    assert (folder / "method.pt").stat().st_mtime_ns == fitted
    assert same_files(folder, whole)


def test_killed_while_fitting_resumes_from_checkpoints(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    assert run_apart(run_until, folder, "step 8") == KILLED
    assert not (folder / "method.pt").exists()
    assert run_apart(run_until, folder) == 0
    output = log_of(folder).read_text()
    assert "step 1\n" not in output
    assert "step 30\n" in output


def test_interrupt_is_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "interrupted"
    assert run_apart(run_until, folder, "step 4", signal.SIGINT) != 0
    assert read_record(folder).status == "cancelled"
    assert run_apart(run_until, folder) == 0
    record = read_record(folder)
    assert record.status == "success"
    assert record.failure is None
    assert [stage.name for stage in record.stages] == ["fit", "fit", "evaluate", "write", "audit"]


def test_two_writers(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with only_writer(folder), pytest.raises(BenchError, match="another process is writing"):
        fake_run(folder, episodes=3)
    assert read_record(fake_run(folder, episodes=3)).status == "success"

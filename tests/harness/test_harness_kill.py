"""kill -9 at any moment, start again: the scores of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlfsic_bench.errors import BenchError
from mlfsic_bench.harness.lock import only_writer
from mlfsic_bench.harness.record import read_record
from mlfsic_bench.randomness import splitmix64
from tests.fakes.world import Trained, fake_run

SCRIPT = Path(__file__).with_name("killed_run.py")


def start(folder: Path, seconds: float = 0.01) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(seconds), str(folder)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=60)
    return output


def test_killed_and_resumed_equals_undisturbed(tmp_path: Path) -> None:
    whole = fake_run(tmp_path / "whole", Trained, params={"sleep": 0.01}, episodes=90)
    folder = tmp_path / "killed"
    kills = 0
    for attempt in range(2):
        process = start(folder)
        # Between 0.1 and 0.6 s into a run of about 1.5 s.
        time.sleep(0.1 + splitmix64(7, attempt) / 2**64 / 2)
        process.send_signal(signal.SIGKILL)
        finish(process)
        kills += process.returncode == -signal.SIGKILL
    assert kills > 0
    if (folder / "record.json").exists():
        assert read_record(folder).status in ("started", "success")
    process = start(folder)
    finish(process)
    assert process.returncode == 0
    for name in ("scores.npz", "answers.npz"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert read_record(folder).status == "success"
    assert not (folder / "parts").exists()


def test_killed_while_evaluating_keeps_what_was_done(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    process = start(folder, 0.005)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("scored 40 of"):
            break
    process.kill()
    finish(process)
    kept = {p.name: p.stat().st_mtime_ns for p in (folder / "parts").glob("0*.npz")}
    assert {"00000.npz", "00020.npz"} <= set(kept)
    fitted = (folder / "method.pt").stat().st_mtime_ns
    process = start(folder, 0.005)
    output = finish(process)
    assert process.returncode == 0
    assert "step 1\n" not in output
    assert (folder / "method.pt").stat().st_mtime_ns == fitted
    whole = fake_run(tmp_path / "whole", Trained, params={"sleep": 0.005}, episodes=90)
    assert (folder / "scores.npz").read_bytes() == (whole / "scores.npz").read_bytes()


def test_killed_while_fitting_resumes_from_checkpoints(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    process = start(folder, 0.01)
    assert process.stdout is not None
    for line in process.stdout:
        if line == "step 8\n":
            break
    process.kill()
    finish(process)
    assert not (folder / "method.pt").exists()
    process = start(folder, 0.01)
    output = finish(process)
    assert process.returncode == 0
    assert "step 1\n" not in output
    assert "step 30\n" in output


def test_interrupt_is_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "interrupted"
    process = start(folder, 0.1)
    assert process.stdout is not None
    for line in process.stdout:
        if line == "step 4\n":
            break
    process.send_signal(signal.SIGINT)
    finish(process)
    assert process.returncode != 0
    assert read_record(folder).status == "cancelled"
    process = start(folder, 0.1)
    finish(process)
    assert process.returncode == 0
    record = read_record(folder)
    assert record.status == "success"
    assert record.failure is None
    assert [stage.name for stage in record.stages] == ["fit", "fit", "evaluate", "write", "audit"]


def test_two_writers(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with only_writer(folder), pytest.raises(BenchError, match="another process is writing"):
        fake_run(folder, episodes=3)
    assert read_record(fake_run(folder, episodes=3)).status == "success"

"""Signals, a second Ctrl-C, closed pipes and full disks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlfsic_bench.cli.main import main
from mlfsic_bench.evaluation import runner as run_module
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.signals import INTERRUPT, Stopped, stoppable, undisturbed
from tests.fakes.world import Trained, fake_inputs

# A method that stops its own process where it trains, unless the file beside it is gone.
STOPPED = """
import os, signal
from pathlib import Path
import torch
from mlfsic_bench.methods.contract import Method

class Stop(Method):
    name = "stop"
    trains = True

    def fit(self, base, val, context):
        if Path("signal").exists():
            signal.raise_signal(int(Path("signal").read_text()))

    def adapt(self, support):
        return lambda query: torch.zeros(len(query), len(support.labels))

    def state(self):
        return {}

    def load_state(self, state):
        pass
"""
RUN = ["run", "stop.py:Stop", "--split", "scenes-12-6-6-v1", "--backbone", "scenes-small",
       "--episodes", "3", "--out", "run"]  # fmt: skip


@pytest.fixture(autouse=True)
def signals_as_in_a_terminal():
    """Whoever started the tests may have told them to ignore some, as `nohup` and `&` do."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ended(args):
    """The exit code of a command."""
    with pytest.raises(SystemExit) as end:
        main(args)
    return end.value.code or 0


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["SIGINT", "SIGTERM", "SIGHUP"],
)
def test_b5_a_signal_ends_a_run_as_cancelled(number, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    Path("stop.py").write_text(STOPPED)
    Path("signal").write_text(str(int(number)))
    assert ended(RUN) == code
    error = capsys.readouterr().err
    assert "cancelled; the same command resumes" in error
    assert "Traceback" not in error
    record = read_record(Path("run"))
    assert record.status == "cancelled"
    assert record.failure is None
    assert record.ended
    Path("signal").unlink()
    assert ended(RUN) == 0
    assert read_record(Path("run")).status == "success"
    after = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert after == before


def test_b5_other_verbs_say_that_they_were_cancelled(monkeypatch, capsys):
    def stop(*_, **__):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("mlfsic_bench.splits.names.shipped_ids", stop)
    assert ended(["splits", "list"]) == 143
    assert capsys.readouterr().err == "cancelled\n"


@pytest.mark.parametrize("when", ["while the record is written", "before"])
def test_b5_a_second_interrupt_leaves_the_record_whole(when, tmp_path, monkeypatch):
    written = []

    class Interrupted(Trained):
        def fit(self, base, val, context):
            signal.raise_signal(signal.SIGINT)

    def write(folder, record):
        if record.status == "cancelled" and not written:
            written.append(record.status)
            signal.raise_signal(signal.SIGINT)
        original(folder, record)

    def shield():
        if not written:
            written.append("interrupted")
            signal.raise_signal(signal.SIGINT)
        return undisturbed()

    original = run_module.write_record
    if when == "before":
        monkeypatch.setattr(run_module, "undisturbed", shield)
    else:
        monkeypatch.setattr(run_module, "write_record", write)
    with pytest.raises(KeyboardInterrupt):
        run_module.execute(fake_inputs(Interrupted, episodes=3), tmp_path / "run")
    assert written
    assert read_record(tmp_path / "run").status == "cancelled"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_b5_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stoppable():
            signal.raise_signal(signal.SIGHUP)
            with pytest.raises(Stopped):
                signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_b5_a_closed_pipe_does_not_end_a_run(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("stop.py").write_text(STOPPED)
    reading, writing = os.pipe()
    os.close(reading)  # as `... 2>&1 | head -1` does after a line
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert ended(RUN) == 0
        monkeypatch.undo()
    assert read_record(tmp_path / "run").status == "success"
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_b5_an_output_that_is_full():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mlfsic_bench", "splits", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write the output\n")
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr  # as Python says when it ends
    assert done.stderr.count("No space left") == 1


def test_b5_closed_standard_streams():
    closed = 'exec "$@" <&- >&- 2>&-'
    command = [
        sys.executable,
        "-m",
        "mlfsic_bench",
        "splits",
        "show",
        "scenes-12-6-6-v1",
        "--format",
        "json",
    ]
    whole = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(whole.stdout)
    done = subprocess.run(["sh", "-c", closed, "sh", *command], check=False)
    assert done.returncode == 0


@pytest.mark.skipif(not INTERRUPT, reason="the system has no such signal")
def test_no_signal_disturbs_what_must_be_written() -> None:
    heard: list[int] = []
    numbers = [signal.SIGINT, signal.SIGTERM, INTERRUPT]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, lambda number, frame: heard.append(number))
        with undisturbed():
            for number in numbers:
                signal.raise_signal(number)
        assert heard == []
        signal.raise_signal(INTERRUPT)
        assert heard == [INTERRUPT]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_work_is_done_changes_nothing(number: int) -> None:
    code = (
        "import atexit, signal, sys, types\n"
        "from mlfsic_bench.cli.main import end_at_once\n"
        "sys.modules['torch'] = types.ModuleType('torch')\n"  # or importing it takes seconds
        "atexit.register(lambda: print('the end'))\n"
        f"atexit.register(lambda: signal.raise_signal({int(number)}))\n"
        "end_at_once(SystemExit(0))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")

"""A sweep on a real SLURM cluster: submitted, one job killed in the middle, requeued, finished."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.evaluation.record import read_record
from tests.sweeps.cluster import NoClusterError, cluster

pytestmark = pytest.mark.slow

SECONDS = 240.0  # for any one step; on an idle machine all of them take less than a minute
FILE = """
schema_version: 1
title: A sweep on a cluster
splits: [scenes-12-6-6-v1]
backbones: [scenes-small]
episodes: 60
methods:
  - {method: random}
  - {method: prior}
  - method: linear
    settings: {tune_epochs: 3000}
slurm: {partition: test, cpus: 1, minutes: 30, runs_per_job: 2}
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Path]:
    """A folder on a cluster whose programs the tests can call."""
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as name:
        folder = Path(name)
        try:
            with cluster(folder) as named, pytest.MonkeyPatch.context() as patch:
                patch.setenv("OMP_NUM_THREADS", "1")
                for variable, value in named.items():
                    patch.setenv(variable, value)
                yield folder
        except NoClusterError as error:
            pytest.skip(f"no SLURM cluster can be started here: {error}")


@pytest.fixture(autouse=True)
def here(running: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be in a new folder with the sweep file; one in which jobs can be, too."""
    monkeypatch.chdir(tempfile.mkdtemp(dir=running))
    Path("grid.yaml").write_text(FILE)


def bench(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


def program(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        logs = [path.read_text() for path in Path("sweeps/grid/slurm").glob("*.out")]
        assert time.monotonic() < end, f"{what}\n{bench('sweep', 'status', 'grid.yaml')}\n{logs}"
        time.sleep(0.2)


def state(job: str) -> str:
    """The job's state, such as `RUNNING`, and why it waits."""
    return program("squeue", "--noheader", "--array", "--format=%T %r", f"--job={job}").strip()


def test_a_killed_job_is_requeued_and_finishes_its_runs() -> None:
    assert "3 missing" in bench("sweep", "status", "grid.yaml")
    said = bench("sweep", "grid.yaml", "--launcher", "slurm")
    found = re.search(r"submitted 3 of 3 runs as 2 jobs of (\d+)", said)
    assert found, said
    job = f"{found[1]}_1"  # does linear alone
    assert "nothing to submit" in bench("sweep", "grid.yaml", "--launcher", "slurm")

    runs = Path("sweeps/grid/runs")
    until(lambda: [*runs.glob("linear*/parts/*")], "the run has scored a first chunk of episodes")
    assert re.search(rf"running +linear.*job {job}, running", bench("sweep", "status", "grid.yaml"))
    program("scancel", "--signal=USR2", job)  # as SLURM says that a job is preempted
    until(lambda: state(job).startswith("PENDING"), "the job is back in the queue")
    assert re.search(rf"queued +linear.*job {job}, pending", bench("sweep", "status", "grid.yaml"))
    program("scontrol", "update", f"JobId={job}", "StartTime=now")  # or it waits two minutes
    until(lambda: not program("squeue", "--noheader", "--me").strip(), "all jobs have ended")

    assert "3 runs in sweeps/grid/runs: 3 done" in bench("sweep", "status", "grid.yaml")
    assert "Requeued job" in Path(f"sweeps/grid/slurm/{job}_0_log.out").read_text()
    (record,) = (read_record(folder) for folder in runs.glob("linear*"))
    stages = [stage.name for stage in record.stages]
    assert stages.count("fit") == 2  # the second job began with what the first had learnt
    table = bench("sweep", "collect", "grid.yaml")
    assert all(name in table for name in ("Random", "Fine-tuning"))
    assert "nothing to submit" in bench("sweep", "grid.yaml", "--launcher", "slurm")


def test_what_slurm_refuses_is_one_error() -> None:
    done = CliRunner().invoke(
        cli, ["sweep", "grid.yaml", "--launcher", "slurm", "--slurm", "partition=none"]
    )
    assert "SLURM did not take the jobs" in str(done.exception)
    assert "invalid partition" in str(done.exception)
    assert "3 missing" in bench("sweep", "status", "grid.yaml")

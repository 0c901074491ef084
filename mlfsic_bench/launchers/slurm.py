"""A SLURM cluster: an array of jobs, each of which does a few runs in one process.

submitit writes the batch script, starts the job's process and puts a job that is preempted, or at
the end of its time, back into the queue. A requeued job begins its list again: what is done is
left, the run it was stopped in goes on where it stood. Which job does which runs is kept in
`FOLDER/ID.json`, so that a second command submits only what no waiting or running job does.

submitit keeps jobs as pickled objects in the same folder. Nothing of this project reads them but
the job itself, which runs as the user who submitted it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import read_json, write_json
from mlfsic_bench.launchers.runs import (
    EXPLAINED,
    Done,
    Log,
    PlannedRun,
    absolute,
    in_process,
    note_failure,
    status_of,
    why_failed,
)
from mlfsic_bench.locks import only_writer
from mlfsic_bench.paths import is_file, is_folder, list_folder
from mlfsic_bench.schema import FileSchema, Version, Word, load, one_error, shaped
from mlfsic_bench.text import lines_for_terminal

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

PAGE = "docs/scale.md"
POLL = 10.0  # seconds between two looks at the queue, while a command waits for its jobs
SILENCE = 30 * 60.0  # seconds without an answer of SLURM after which a command waits no longer
PATIENCE = 120.0  # seconds that a job waits for a run another holds: locks of a dead node last
MOST_TIMEOUTS = 20  # times that a job at the end of its time is put back into the queue
JobId = Annotated[str, Field(pattern=r"^\d{1,12}(_\d{1,9})?$")]
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=255)]
Count = Annotated[int, Field(ge=1)]


class SlurmJobs(FileSchema):
    """What a job asks SLURM for; everything may be left out, and is then the cluster's default.

    Attributes
    ----------
    partition, account, qos, constraint: as of `sbatch`.
    minutes: the time limit of a job. One that reaches it is requeued and goes on.
    gpus, cpus: of a job. memory: of a job, such as 32GB.
    runs_per_job: how many runs a job does, one after the other, in one process.
    at_once: how many jobs run at the same time, at most.
    """

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    minutes: Count = 60
    gpus: Annotated[int, Field(ge=0)] = 0
    cpus: Count | None = None
    memory: Annotated[str, shaped(r"^[1-9]\d{0,5}[MG]B?$", "such as 32GB or 4000MB")] | None = None
    runs_per_job: Count = 1
    at_once: Count = 256


def slurm_jobs(asked: Mapping[str, str], block: SlurmJobs | None = None) -> SlurmJobs:
    """What the options `--slurm NAME=VALUE` ask for; the rest is as in the `block` of a file."""
    of_file = {} if block is None else block.model_dump(exclude_defaults=True)
    texts = {name: str(value) for name, value in of_file.items()} | dict(asked)
    with one_error("--slurm", page=PAGE, remedy="leave the option out", model=SlurmJobs):
        return SlurmJobs.model_validate_strings(texts, strict=False)


class Submitted(FileSchema):
    """The file `ID.json`: the jobs of one array, and the runs each of them does, by name."""

    schema_version: Version = 1
    kind: Literal["mlfsic-bench slurm jobs"] = "mlfsic-bench slurm jobs"
    jobs: dict[JobId, list[RunName]]


@dataclass(frozen=True)
class Job:
    """What submitit runs on a node: these runs, one after the other."""

    runs: tuple[PlannedRun, ...]

    def __call__(self) -> None:
        """Do the runs; what fails is noted beside them, and the job still ends well."""
        in_process(self.runs, Done(), _to_log, PATIENCE)

    def checkpoint(self) -> DelayedSubmission:
        """What a requeued job begins with: the same runs, of which each goes on where it stood."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass(frozen=True)
class Slurm:
    """The launcher: submit what is missing, and wait for it.

    Attributes
    ----------
    folder: where the jobs' files and logs are, `OUT/slurm`; the runs are in `OUT/runs`.
    asks: what each job asks for.
    """

    folder: Path
    asks: SlurmJobs

    def __call__(self, runs: Sequence[PlannedRun], done: Done, log: Log) -> None:
        """Do these runs in jobs, and wait until no job has one of them."""
        if not runs:
            return
        self.submit(runs, log)
        names = {run.folder.name for run in runs}
        said: Counter[str] = Counter()
        answered = time.monotonic()
        while True:
            try:
                queued = self.queued()
            except BenchError as error:  # a busy controller: the jobs go on all the same
                if time.monotonic() - answered > SILENCE:
                    raise
                log(f"{error.what}: {error.found}; it is asked again")
                time.sleep(POLL)
                continue
            answered = time.monotonic()
            now = Counter(state for name, (_, state) in queued.items() if name in names)
            if now != said:
                log("runs in jobs: " + (", ".join(f"{n} {s}" for s, n in now.items()) or "none"))
            said = now
            if not now:
                break
            time.sleep(POLL)
        for run in runs:
            status = status_of(run)
            if status == "done":
                done.finished.add(run.folder)
            else:
                logs = f"its job ended without it, see the logs in {self.folder}"
                lost = logs if status in ("missing", "part") else EXPLAINED[status]
                done.failed[run.folder] = why_failed(run) or lost

    def submit(self, runs: Sequence[PlannedRun], log: Log) -> list[str]:
        """Submit jobs for what is neither done nor in a job; their ids.

        Runs of other versions, and folders that can't be read, are not submitted. Raises BenchError
        where there is no submitit or no SLURM, for what SLURM refuses, and where it does not say
        what is in a job already.
        """
        executor = self._executor()
        with only_writer(self.folder, log=log):
            queued = self.queued()
            wanted = [
                run
                for run in runs
                if run.folder.name not in queued and status_of(run) in ("missing", "part")
            ]
            if not wanted:
                log("there is nothing to submit")
                return []
            for run in wanted:
                note_failure(run, "")
            size = self.asks.runs_per_job
            groups = [wanted[i : i + size] for i in range(0, len(wanted), size)]
            jobs = self._sent(executor, [Job(tuple(map(absolute, group))) for group in groups])
            content = Submitted(
                jobs={
                    job: [run.folder.name for run in group]
                    for job, group in zip(jobs, groups, strict=True)
                }
            )
            array = jobs[0].partition("_")[0]
            write_json(self.folder / f"{array}.json", content.model_dump(mode="json"))
        log(f"submitted {len(wanted)} of {len(runs)} runs as {len(jobs)} jobs of {array}")
        return jobs

    def queued(self) -> dict[str, tuple[str, str]]:
        """Run's name -> (job, its state in SLURM's words), of the jobs that wait or run.

        BenchError where SLURM does not answer.
        """
        mine = self.submitted()
        states = _queue() if mine else {}
        return {
            name: (job, states[job]) for job, names in mine.items() if job in states
            for name in names
        }  # fmt: skip

    def submitted(self) -> dict[str, list[str]]:
        """Job -> names of its runs, of all arrays that were submitted from this folder."""
        if not is_folder(self.folder):
            return {}
        jobs: dict[str, list[str]] = {}
        for path in list_folder(self.folder):
            if path.suffix == ".json" and is_file(path):
                value = read_json(path, kind="list of jobs")
                found = load(Submitted, value, str(path), page=PAGE, remedy="delete the file")
                jobs |= found.jobs
        return jobs

    def _executor(self) -> Any:
        try:
            from submitit import SlurmExecutor
        except ImportError as error:
            raise BenchError(
                "the launcher slurm needs the package submitit",
                expected="submitit, which the extra `slurm` brings",
                found="it is not installed",
                remedy="pip install 'mlfsic-bench[slurm]'",
            ) from error
        for program in ("sbatch", "squeue", "srun"):
            if shutil.which(program) is None:
                raise BenchError(
                    "there is no SLURM here",
                    expected="sbatch, squeue and srun among the programs of this machine",
                    found=f"no {program}",
                    remedy="give the command on a login node of the cluster, or use --launcher "
                    "local",
                )
        executor = SlurmExecutor(self.folder, max_num_timeout=MOST_TIMEOUTS)
        asks = self.asks
        wanted = {
            "job_name": "mlfsic-bench",
            "time": asks.minutes,
            "partition": asks.partition,
            "account": asks.account,
            "qos": asks.qos,
            "constraint": asks.constraint,
            "gpus_per_node": asks.gpus or None,
            "cpus_per_task": asks.cpus,
            "mem": asks.memory,
            "array_parallelism": asks.at_once,
        }
        executor.update_parameters(
            stderr_to_stdout=True,
            additional_parameters={"requeue": True},
            **{name: value for name, value in wanted.items() if value is not None},
        )
        return executor

    def _sent(self, executor: Any, jobs: Sequence[Job]) -> list[str]:
        """Submit the jobs as one array; their ids, as `squeue` has them."""
        try:
            sent = executor.submit_array(list(jobs))
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            raise BenchError(
                "SLURM did not take the jobs",
                expected="a partition, an account and limits that the cluster has",
                found=str(error),
                remedy=f"correct `slurm:` in the file or --slurm ({PAGE})",
            ) from error
        return [str(one.job_id) for one in sent]


def _queue() -> Mapping[str, str]:
    """Job -> its state, of this user's jobs that wait or run; none where there is no SLURM.

    Raises BenchError where SLURM does not answer: its jobs may run all the same.
    """
    try:
        asked = subprocess.run(
            ["squeue", "--noheader", "--array", "--me", "--format=%i %T"],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    except FileNotFoundError:
        return {}
    except (OSError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or str(error)
        raise BenchError(
            "SLURM does not say which jobs there are",
            expected="the list that `squeue --me` prints",
            found=" ".join(str(told).split())[:200],
            remedy="give the command again when squeue answers",
        ) from error
    lines = [line.split() for line in asked.stdout.splitlines()]
    return {line[0]: line[1].lower() for line in lines if len(line) == 2}


def _to_log(line: str) -> None:
    """A line into the job's log, which is its standard error."""
    sys.stderr.write(lines_for_terminal(line) + "\n")
    sys.stderr.flush()

"""A SLURM cluster of one node on this machine, for as long as a block runs.

munged, slurmctld and slurmd run as the present user, with a key, sockets, ports and state of their
own in one folder. Nothing of the system is read or changed, and nothing runs on after the block.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")
SECONDS = 20.0  # until the node is ready; else there is no cluster

# One node, no control groups, no accounting; what is killed ends at once.
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=1
MinJobAge=3600
MpiDefault=none
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class NoClusterError(Exception):
    """No cluster could be started; the message says why."""


@contextmanager
def cluster(folder: Path, cpus: int = 2) -> Iterator[dict[str, str]]:
    """The environment variables of a running cluster; NoClusterError where none can be started.

    `folder` must have a short path, as sockets lie in it; `cpus` that jobs share.
    """
    missing = [name for name in PROGRAMS if _program(name) is None]
    if missing:
        raise NoClusterError(f"not installed: {', '.join(missing)} (slurm-wlm and munge)")
    folder.chmod(0o755)
    for name in ("state", "spool", "log"):
        (folder / name).mkdir()
    key, conf = folder / "munge.key", folder / "slurm.conf"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    conf.write_text(CONF.format(host=host, ports=_ports(2), user=user, folder=folder, cpus=cpus))
    named = {"SLURM_CONF": str(conf)}
    with ExitStack() as running:
        munge = [f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid",
                 f"--key-file={key}", f"--seed-file={folder}/munge.seed",
                 f"--log-file={folder}/log/munged"]  # fmt: skip
        running.enter_context(_daemon("munged", "--foreground", *munge, "--force", folder=folder))
        _wait(lambda: (folder / "munge.socket").exists(), "munged", folder)
        running.enter_context(_daemon("slurmctld", "-D", "-f", str(conf), folder=folder))
        running.enter_context(_daemon("slurmd", "-D", "-f", str(conf), "-N", host, folder=folder))

        def ready() -> bool:
            asked = subprocess.run(
                ["sinfo", "-h", "-o", "%T"], env={**os.environ, **named}, capture_output=True,
                text=True, check=False, timeout=SECONDS,
            )  # fmt: skip
            return asked.stdout.strip() == "idle"

        _wait(ready, "slurmctld and slurmd", folder)
        try:
            yield named
        finally:
            _end_jobs({**os.environ, **named})


def _end_jobs(environment: dict[str, str]) -> None:
    """Kill all jobs, and wait until they have ended: a job outlives the programs that began it."""
    asked = {"env": environment, "capture_output": True, "check": False, "timeout": SECONDS}
    subprocess.run(["scancel", "--me", "--signal=KILL", "--full"], **asked)
    subprocess.run(["scancel", "--me"], **asked)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        left = subprocess.run(["squeue", "--noheader", "--me"], **asked)
        if not left.stdout.strip():
            break
        time.sleep(0.2)


@contextmanager
def _daemon(name: str, *options: str, folder: Path) -> Iterator[None]:
    """A program of the cluster, in a process group that ends with the block."""
    program = _program(name)
    assert program is not None
    with (folder / "log" / f"{name}.txt").open("wb") as log:
        process = subprocess.Popen(
            [program, *options], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait(ready: Callable[[], bool], what: str, folder: Path) -> None:
    end = time.monotonic() + SECONDS
    while not ready():
        if time.monotonic() > end:
            logs = sorted((folder / "log").iterdir())
            said = [line for log in logs for line in log.read_text("utf-8", "replace").splitlines()]
            raise NoClusterError(f"{what} did not start: {' | '.join(said[-5:])}")
        time.sleep(0.2)


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def _ports(number: int) -> list[int]:
    """Free ports of this machine."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]

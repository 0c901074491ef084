"""Several processes of this machine, which share the runs out among themselves.

Each worker does one run after the other, with what it has opened before, and asks for the next: a
long run holds nobody else up. A worker that dies (killed, out of memory) fails the run it was
doing, and another takes its place.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.launchers.runs import (
    Done,
    Launch,
    Log,
    PlannedRun,
    attempt,
    in_process,
    note_failure,
)
from mlfsic_bench.locks import BusyError
from mlfsic_bench.progress import LOG
from mlfsic_bench.signals import stoppable

THREADS = "OMP_NUM_THREADS"
SECONDS_TO_END = 20.0  # that a worker has to write down that it was stopped


def local(jobs: int = 1) -> Launch:
    """What does runs in this process, or in so many others."""
    return in_process if jobs == 1 else partial(_several, jobs)


@dataclass
class _Worker:
    """A process, the pipe to it, its number from 1, and the run it is doing."""

    process: BaseProcess
    pipe: Connection
    number: int
    run: PlannedRun


def _several(jobs: int, runs: Sequence[PlannedRun], done: Done, log: Log) -> None:
    """Do these runs in at most `jobs` processes; those that another program is doing come last."""
    # run, and the seconds to wait for a program that is doing it
    waiting = deque((run, 0.0) for run in runs)
    workers: list[_Worker] = []
    free = list(range(jobs, 0, -1))
    begun: set[object] = set()

    def give(worker: _Worker, run: PlannedRun, patience: float) -> None:
        worker.run = run
        begun.add(run.folder)
        log(f"-- run {len(begun)} of {len(runs)}, worker {worker.number}: {run.folder.name}")
        with contextlib.suppress(OSError):  # one that has just died is noticed below
            worker.pipe.send((run, patience))

    try:
        while waiting or workers:
            while waiting and len(workers) < jobs:
                run, patience = waiting.popleft()
                workers.append(_started(free.pop(), jobs, run))
                give(workers[-1], run, patience)
            ready = wait([worker.pipe for worker in workers])
            for worker in [one for one in workers if one.pipe in ready]:
                try:
                    kind, text = worker.pipe.recv()
                except (EOFError, OSError):
                    workers.remove(worker)
                    free.append(worker.number)
                    _lost(worker, done, log)
                    continue
                if kind == "log":
                    log(f"worker {worker.number}: {text}")
                    continue
                if kind == "finished":
                    done.finished.add(worker.run.folder)
                elif kind == "failed":
                    done.failed[worker.run.folder] = text
                else:
                    waiting.append((worker.run, math.inf))
                if waiting:
                    give(worker, *waiting.popleft())
                else:
                    workers.remove(worker)
                    free.append(worker.number)
                    worker.pipe.close()  # it ends by itself
                    worker.process.join(SECONDS_TO_END)
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join(SECONDS_TO_END)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _started(number: int, jobs: int, run: PlannedRun) -> _Worker:
    context = get_context("spawn")  # a fork would share what torch's threads hold
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_work, args=(theirs, number, LOG.level), name=f"worker {number}", daemon=True
    )
    with _threads_shared(jobs):
        process.start()
    theirs.close()  # so that the end of the process ends the pipe
    return _Worker(process, ours, number, run)


@contextmanager
def _threads_shared(jobs: int) -> Iterator[None]:
    """Let a process that starts in the block use its share of the processors, unless told."""
    if THREADS in os.environ:
        yield
        return
    os.environ[THREADS] = str(max(1, (os.cpu_count() or 1) // jobs))
    try:
        yield
    finally:
        del os.environ[THREADS]


def _lost(worker: _Worker, done: Done, log: Log) -> None:
    """Note that a worker has died in its run."""
    worker.process.join()
    code = worker.process.exitcode or 0
    why = f"its process ended with exit code {code}"
    if code < 0:
        why = f"its process was killed by signal {-code}"
        why += ", perhaps for lack of memory" * (code == -signal.SIGKILL)
    log(f"FAILED: {worker.run.folder.name}: {why}")
    done.failed[worker.run.folder] = why
    note_failure(worker.run, why)


# -- in the worker ------------------------------------------------------------------------------


def _work(pipe: Connection, number: int, level: int) -> None:
    """Do each run that comes through the pipe, and say what became of it, until the pipe ends."""
    LOG.setLevel(level)

    def tell(kind: str, text: str = "") -> None:
        with contextlib.suppress(OSError):  # the program is gone; the run is finished all the same
            pipe.send((kind, text))

    done = Done()
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt), stoppable():
        while True:
            run, patience = pipe.recv()
            own = replace(run, plan=_on_device(run.plan, number))
            try:
                attempt(own, done, partial(tell, "log"), patience)
            except BusyError:
                tell("busy")
                continue
            why = done.failed.pop(run.folder, None)
            tell("finished") if why is None else tell("failed", why)


def _on_device(plan: RunPlan, number: int) -> RunPlan:
    """The plan on this worker's GPU, where there are several and the plan names none of them."""
    import torch

    if plan.device not in ("auto", "cuda") or torch.cuda.device_count() < 2:
        return plan
    return replace(plan, device=f"cuda:{(number - 1) % torch.cuda.device_count()}")

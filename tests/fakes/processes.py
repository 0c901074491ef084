"""Processes that end where a test says, not when a clock does.

Each is a fork of one process that has imported the package, so it starts in milliseconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "mlfsic_bench.evaluation.runner",
        "mlfsic_bench.features.extract",
        "mlfsic_bench.methods.word_guided.method",
        "mlfsic_bench.training.loop",
    ]
)
KILLED = -signal.SIGKILL


def run_apart(work: Callable[..., object], *args: Any) -> int:
    """Call a function of a module in a process of its own; its exit status, -n for signal n."""
    process = FORKS.Process(target=_alone, args=(work, args))
    process.start()
    process.join(300)  # far more than any of them takes on a slow machine
    if process.exitcode is None:
        process.kill()
        process.join()
    return process.exitcode


def _alone(work: Callable[..., object], args: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    work(*args)


def die_at(owner: Any, name: str, count: int) -> None:
    """The `count`-th call of `owner.name` from now kills this process, and does nothing else."""
    whole, left = getattr(owner, name), count

    def call(*args: Any, **given: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*args, **given)

    setattr(owner, name, call)

"""Several processes with torchrun's environment, forked from one that has imported the package."""

from __future__ import annotations

import multiprocessing.process
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fakes.processes import FORKS


class Started:
    """`count` processes that call `work(*args)` at the same time, each with a log of its own."""

    def __init__(self, count: int, folder: Path, work: Callable[..., object], *args: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.logs = [folder / f"{number}.log" for number in range(count)]
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.processes: list[multiprocessing.process.BaseProcess] = []
        for number in range(count):
            said = {
                "RANK": number,
                "LOCAL_RANK": number,
                "WORLD_SIZE": count,
                "LOCAL_WORLD_SIZE": count,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
            process = FORKS.Process(target=_work, args=(said, self.logs[number], work, args))
            process.start()
            self.processes.append(process)

    def ended(self, seconds: float = 120.0) -> list[int | None]:
        """The exit codes, once all have ended; those that have not by then are killed."""
        for process in self.processes:
            process.join(seconds)
            if process.exitcode is None:
                process.kill()
                process.join()
        return [process.exitcode for process in self.processes]

    def printed(self, number: int) -> str:
        """What a process has printed."""
        return self.logs[number].read_text()


def _work(said: dict[str, object], log: Path, work: Callable[..., object], args: Any) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ.update({name: str(value) for name, value in said.items()})
    sys.stdout = sys.stderr = log.open("w", buffering=1)
    work(*args)

"""A slow fake run for the kill tests: `python killed_run.py SECONDS FOLDER`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mlfsic_bench.harness.run import execute
from tests.fakes.world import Trained, fake_inputs

if __name__ == "__main__":
    # A shell starts what runs in the background with the interrupt ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    seconds, folder = sys.argv[1:]
    inputs = fake_inputs(Trained, {"sleep": float(seconds)}, episodes=90)
    print("ready", flush=True)
    execute(inputs, Path(folder), lambda line: print(line, flush=True))

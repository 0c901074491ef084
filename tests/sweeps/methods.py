"""Methods that fail until there is a file `sound` in the current folder."""

import os
import signal
from pathlib import Path

from mlfsic_bench.methods.contract import Method


class Breaks(Method):
    name = "breaks"

    def adapt(self, support):
        if not Path("sound").exists():
            self.fail()
        centre = support.images.pooled().mean(0)
        targets = support.targets.float()
        return lambda query: (query.pooled() @ centre)[:, None] + targets.mean(0)

    def fail(self):
        raise RuntimeError("this one breaks")


class Dies(Breaks):
    name = "dies"

    def fail(self):
        os.kill(os.getpid(), signal.SIGKILL)

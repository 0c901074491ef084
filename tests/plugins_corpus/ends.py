"""Plug-ins that are tried in processes: one ends it, one leaves what it learnt in it."""

import os
import signal
from typing import ClassVar

from tests.fakes.plugins.faulty_training import Trained
from tests.fakes.plugins.minimal import Minimal


class Killed(Minimal):
    """Ends the process in a way that Python can't see."""

    name = "killed"

    def adapt(self, support):
        os.kill(os.getpid(), signal.SIGKILL)


class LearnsInTheClass(Trained):
    """What it learns is in the class, so that a fresh instance in this process has it too."""

    name = "learns-in-the-class"
    learnt: ClassVar = {"mean": 0.0}

    def fit(self, base, val, context):
        self.learnt["mean"] = base.images.pooled().mean(0)

    def adapt(self, support):
        self.mean = self.learnt["mean"]
        return super().adapt(support)

    def state(self):
        return {}

    def load_state(self, state):
        return None

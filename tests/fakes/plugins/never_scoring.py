"""Plug-ins that give no scores at all: one raises, one hangs."""

import threading

from mlfsic_bench.methods.contract import Method


class Raises(Method):
    """Always raises."""

    name = "raises"

    def adapt(self, support):
        raise ZeroDivisionError("the plug-in's own words")


class Hangs(Method):
    """Waits until the test lets it go."""

    name = "hangs"
    release = threading.Event()

    def adapt(self, support):
        self.release.wait()
        raise SystemExit

"""A good plug-in that learns, and ones with one fault in what they learn, save or ask for."""

from typing import ClassVar

import torch
from pydantic import Field

from mlfsic_bench.methods.contract import Method, MethodParams
from tests.fakes.plugins.faulty_scores import prototypes


class Trained(Method):
    """A good plug-in that learns a mean; the base of the faults below."""

    name = "trained"
    trains = True
    mean = torch.zeros(())

    def fit(self, base, val, context):
        self.mean = base.images.pooled().mean(0)

    def adapt(self, support):
        p, mean = prototypes(support), self.mean
        return lambda query: (query.pooled() - mean) @ p.T

    def state(self):
        return {"mean": self.mean}

    def load_state(self, state):
        self.mean = state["mean"]


class StateNumber(Trained):
    """Puts a number in the state."""

    name = "state-number"

    def state(self):
        return {"mean": self.mean, "n": 3}


class LoadIgnored(Trained):
    """load_state does nothing."""

    name = "load-ignored"

    def load_state(self, state):
        return None


class TrainsUnsaid(Trained):
    """Learns, but says that it doesn't."""

    name = "trains-unsaid"
    trains = False


class NeedsVal(Trained):
    """Fits on the val part without looking whether there is one."""

    name = "needs-val"

    def fit(self, base, val, context):
        self.mean = val.images.pooled().mean(0)


class NeedsWordsUnsaid(Method):
    """Can't do without words, but says that it can."""

    name = "needs-words-unsaid"
    uses_embeddings = True

    def adapt(self, support):
        p = prototypes(support) + support.embeddings.mean(1)[:, None]
        return lambda query: query.pooled() @ p.T


class BadPreset(Method):
    """A preset sets a parameter out of its range."""

    class Params(MethodParams):
        k: int = Field(1, ge=1, description="a number")

    name = "bad-preset"
    presets: ClassVar = {"zero": {"k": 0}}

    def adapt(self, support):
        p = prototypes(support)
        return lambda query: query.pooled() @ p.T

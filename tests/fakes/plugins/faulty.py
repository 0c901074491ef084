"""Plug-ins with one fault each; `FAULTS` says which contract test sees it, and what it blocks."""

import threading
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from mlfsic_bench.methods.contract import Method, MethodParams


def prototypes(support):
    f, Y = support.images.pooled(), support.targets
    return Y.T @ f / Y.sum(0)[:, None] / f.shape[1]


class GlobalRng(Method):
    """Adds noise from the global generator of torch."""

    name = "global-rng"

    def adapt(self, support):
        p = prototypes(support) + 0.1 * torch.randn(1)
        return lambda query: query.pooled() @ p.T


class GlobalSeed(Method):
    """Sets the global seed and draws from it: repeatable, but it disturbs everyone else."""

    name = "global-seed"

    def adapt(self, support):
        torch.manual_seed(support.seed % 2**31)
        p = prototypes(support) + 0.1 * torch.randn(1)
        return lambda query: query.pooled() @ p.T


class NumpyGlobal(Method):
    """Reads the legacy generator of numpy and puts it back."""

    name = "numpy-global"

    def adapt(self, support):
        state = np.random.get_state()  # noqa: NPY002
        p = prototypes(support) + float(np.random.rand())  # noqa: NPY002
        np.random.set_state(state)  # noqa: NPY002
        return lambda query: query.pooled() @ p.T


class Unseeded(Method):
    """Adds a little noise from a generator without a seed."""

    name = "unseeded"

    def adapt(self, support):
        p = prototypes(support) * (1 + 5e-5 * np.random.default_rng().random())
        return lambda query: query.pooled() @ p.T


class QueryBatch(Method):
    """Subtracts the mean over the query."""

    name = "query-batch"

    def adapt(self, support):
        p = prototypes(support)

        def labeller(query):
            f = query.pooled()
            return (f - f.mean(0)) @ p.T

        return labeller


class QueryOrder(Method):
    """Adds the position of the query image."""

    name = "query-order"

    def adapt(self, support):
        p = prototypes(support)
        return lambda query: query.pooled() @ p.T + torch.arange(len(query))[:, None]


class LabelPosition(Method):
    """Adds the position of the label."""

    name = "label-position"

    def adapt(self, support):
        p = prototypes(support)
        return lambda query: query.pooled() @ p.T + torch.arange(len(p))


class LabellerReadsSelf(Method):
    """The labeller reads prototypes that the next episode overwrites."""

    name = "labeller-reads-self"

    def adapt(self, support):
        self.p = prototypes(support)
        return lambda query: query.pooled() @ self.p.T


class Counts(Method):
    """Every episode changes the scores of the next."""

    name = "counts"
    seen = 0

    def adapt(self, support):
        p = prototypes(support) + self.seen
        self.seen += 1
        return lambda query: query.pooled() @ p.T


class MutatesTargets(Method):
    """Normalises the support's targets in place."""

    name = "mutates-targets"

    def adapt(self, support):
        Y = support.targets
        Y /= Y.sum(0)
        p = Y.T @ support.images.pooled()
        return lambda query: query.pooled() @ p.T


class MutatesWords(Method):
    """Normalises the base words in place."""

    name = "mutates-words"

    def fit(self, base, val, context):
        if base.words is not None:
            base.words.div_(base.words.norm(dim=1, keepdim=True))

    def adapt(self, support):
        p = prototypes(support)
        return lambda query: query.pooled() @ p.T


class MutatesFeatures(Method):
    """Centres features in place that belong to the source."""

    name = "mutates-features"

    def adapt(self, support):
        f = support.images.pooled()
        f -= f.mean()
        p = support.targets.T @ f
        return lambda query: query.pooled() @ p.T


class ExtraColumn(Method):
    """Scores one label too many."""

    name = "extra-column"

    def adapt(self, support):
        p = prototypes(support)
        p = torch.cat([p, p[:1]])
        return lambda query: query.pooled() @ p.T


class Transposed(Method):
    """Scores [labels, query images]."""

    name = "transposed"

    def adapt(self, support):
        p = prototypes(support)
        return lambda query: p @ query.pooled().T


class IntScores(Method):
    """Ranks in place of scores."""

    name = "int-scores"

    def adapt(self, support):
        p = prototypes(support)
        return lambda query: (100 * query.pooled() @ p.T).long()


class HalfScores(Method):
    """Half precision."""

    name = "half-scores"

    def adapt(self, support):
        p = prototypes(support)
        return lambda query: (query.pooled() @ p.T).half()


class NanScores(Method):
    """The logarithm of negative numbers."""

    name = "nan-scores"

    def adapt(self, support):
        p = prototypes(support)
        return lambda query: (-query.pooled() @ p.T).log()


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
    """Uses words, but does not say that it needs them."""

    name = "needs-words-unsaid"

    def adapt(self, support):
        p = prototypes(support) + support.words.mean(1)[:, None]
        return lambda query: query.pooled() @ p.T


class _Deciding:
    def __init__(self, p):
        self.p = p

    def __call__(self, query):
        return query.pooled() @ self.p.T


class DecidesNumbers(Method):
    """decide returns numbers."""

    name = "decides-numbers"

    class Labeller(_Deciding):
        def decide(self, query):
            return (self(query) > 0.5).float()

    def adapt(self, support):
        return self.Labeller(prototypes(support))


class DecidesByBatch(DecidesNumbers):
    """decide uses a threshold taken over the query."""

    name = "decides-by-batch"

    class Labeller(_Deciding):
        def decide(self, query):
            scores = self(query)
            return scores > scores.mean()


class AdaptAllDiffers(Method):
    """adapt_all gives the labellers in another order."""

    name = "adapt-all-differs"

    def adapt(self, support):
        p = prototypes(support)
        return lambda query: query.pooled() @ p.T

    def adapt_all(self, supports):
        return [self.adapt(support) for support in supports][::-1]


class AdaptAllLazy(AdaptAllDiffers):
    """adapt_all gives a generator."""

    name = "adapt-all-lazy"

    def adapt_all(self, supports):
        return (self.adapt(support) for support in supports)


class BadPreset(Method):
    """A preset sets a parameter out of its range."""

    class Params(MethodParams):
        k: int = Field(1, ge=1, description="a number")

    name = "bad-preset"
    presets: ClassVar = {"zero": {"k": 0}}

    def adapt(self, support):
        p = prototypes(support)
        return lambda query: query.pooled() @ p.T


class OneLabelRaises(Method):
    """A squeeze that takes the label away when there is only one."""

    name = "one-label-raises"

    def adapt(self, support):
        p = prototypes(support).squeeze(0)
        return lambda query: query.pooled() @ p.transpose(0, 1)


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


# class -> (tests that fail, tests that can't be made)
_FORM = {"label-permutation", "small-cases"}
_ALL_SCORED = {
    "global-rng",
    "determinism",
    "query-order",
    "query-independence",
    "without-words",
    "save-load",
    "trains",
    "without-val",
    "no-mutation",
    "labellers-independent",
    "adapt-order",
    "adapt-all",
}
FAULTS = {
    GlobalRng: ({"global-rng"}, set()),
    GlobalSeed: ({"global-rng"}, set()),
    NumpyGlobal: ({"global-rng"}, set()),
    Unseeded: ({"determinism"}, {"global-rng"}),
    QueryBatch: ({"query-independence"}, set()),
    QueryOrder: ({"query-order"}, set()),
    LabelPosition: ({"label-permutation"}, set()),
    LabellerReadsSelf: ({"labellers-independent"}, set()),
    Counts: ({"adapt-order"}, set()),
    MutatesTargets: ({"no-mutation"}, set()),
    MutatesWords: ({"no-mutation"}, set()),
    MutatesFeatures: ({"no-mutation"}, set()),
    ExtraColumn: ({"scores"}, _FORM),
    Transposed: ({"scores"}, _FORM | _ALL_SCORED),
    IntScores: ({"scores"}, {"small-cases"}),
    HalfScores: ({"scores"}, {"small-cases"}),
    NanScores: ({"scores"}, {"small-cases"}),
    StateNumber: ({"state"}, {"save-load"}),
    LoadIgnored: ({"save-load"}, set()),
    TrainsUnsaid: ({"trains"}, set()),
    NeedsVal: ({"without-val"}, set()),
    NeedsWordsUnsaid: ({"without-words"}, set()),
    DecidesNumbers: ({"decisions"}, set()),
    DecidesByBatch: ({"decisions"}, set()),
    AdaptAllDiffers: ({"adapt-all"}, set()),
    AdaptAllLazy: ({"adapt-all"}, set()),
    BadPreset: ({"presets"}, set()),
    OneLabelRaises: ({"small-cases"}, set()),
}

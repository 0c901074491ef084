"""Plug-ins with one fault in what they draw from, change or keep between episodes."""

import numpy as np
import torch

from mlfsic_bench.methods.contract import Method
from tests.fakes.plugins.faulty_scores import prototypes


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


class LabellerReadsSelf(Method):
    """The predictor reads prototypes that the next episode overwrites."""

    name = "predictor-reads-self"

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
    uses_embeddings = True

    def fit(self, base, val, context):
        if base.embeddings is not None:
            base.embeddings.div_(base.embeddings.norm(dim=1, keepdim=True))

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


class AdaptAllDiffers(Method):
    """adapt_all gives the predictors in another order."""

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

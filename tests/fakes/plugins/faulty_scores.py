"""Plug-ins with one fault in the scores or decisions of a label or a query image."""

import torch

from mlfsic_bench.methods.contract import Method


def prototypes(support):
    f, Y = support.images.pooled(), support.targets
    return Y.T @ f / Y.sum(0)[:, None] / f.shape[1]


class QueryBatch(Method):
    """Subtracts the mean over the query."""

    name = "query-batch"

    def adapt(self, support):
        p = prototypes(support)

        def predictor(query):
            f = query.pooled()
            return (f - f.mean(0)) @ p.T

        return predictor


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


class _Deciding:
    def __init__(self, p):
        self.p = p

    def __call__(self, query):
        return query.pooled() @ self.p.T


class DecidesNumbers(Method):
    """decide returns numbers."""

    name = "decides-numbers"

    class Predictor(_Deciding):
        def decide(self, query):
            return (self(query) > 0.5).float()

    def adapt(self, support):
        return self.Predictor(prototypes(support))


class DecidesByBatch(DecidesNumbers):
    """decide uses a threshold taken over the query."""

    name = "decides-by-batch"

    class Predictor(_Deciding):
        def decide(self, query):
            scores = self(query)
            return scores > scores.mean()


class OneLabelRaises(Method):
    """A squeeze that takes the label away when there is only one."""

    name = "one-label-raises"

    def adapt(self, support):
        p = prototypes(support).squeeze(0)
        return lambda query: query.pooled() @ p.transpose(0, 1)

"""Plug-ins whose calls raise, end the program, use what they did not declare, or answer wrongly."""

import os
import sys
from typing import ClassVar

import torch

from mlfsic_bench.methods.contract import Method
from mlfsic_bench.testing.world import CHANNELS
from tests.fakes.plugins.faulty_scores import prototypes
from tests.fakes.plugins.faulty_training import Trained
from tests.fakes.plugins.minimal import Minimal


class OsExit(Minimal):
    def adapt(self, support):
        os._exit(0)


class PosixExit(Minimal):
    def adapt(self, support):
        sys.modules.get("posix", os)._exit(0)


class ExitsLate(Minimal):
    def adapt(self, support):
        return lambda query: sys.exit(0)


class SilentError(Exception):
    """Its text raises, and it calls itself KeyboardInterrupt."""

    def __str__(self):
        raise ValueError("no text")


SilentError.__name__ = "\x1b[31mKeyboardInterrupt"


class RaisesSilently(Minimal):
    def adapt(self, support):
        raise SilentError


class RaisesLong(Minimal):
    def adapt(self, support):
        raise ValueError("y" * 10_000_000)


class RaisesControl(Minimal):
    def adapt(self, support):
        raise ValueError("\x1b]0;owned\x07\u202e")


class RaisesInCircles(Minimal):
    def adapt(self, support):
        one, two = ValueError("one"), ValueError("two")
        one.__cause__, two.__cause__ = two, one
        raise one


class TakesGradients(Minimal):
    """Fine-tunes prototypes without saying so."""

    def adapt(self, support):
        with torch.enable_grad():
            p = prototypes(support).clone().requires_grad_()
            f, Y = support.images.pooled(), support.targets
            torch.nn.functional.binary_cross_entropy_with_logits(f @ p.T, Y).backward()
        p = p.detach() - p.grad
        return lambda query: query.pooled() @ p.T


class TakesGradientsLate(Minimal):
    """Fine-tunes when it is asked."""

    def adapt(self, support):
        def predictor(query):
            with torch.enable_grad():
                w = torch.ones(len(support.labels), requires_grad=True)
                (query.pooled() @ prototypes(support).T * w).sum().backward()
            return query.pooled() @ prototypes(support).T + w.grad

        return predictor


class NeedsWordsSilently(Minimal):
    def adapt(self, support):
        p = prototypes(support) + support.embeddings.mean(1)[:, None]
        return lambda query: query.pooled() @ p.T


class UsesWordsWhereThere(Minimal):
    """Scores differently with label embeddings, of which it says nothing."""

    name = "uses-words-where-there"

    def adapt(self, support):
        sign = 1 if support.embeddings is None else -1
        good = super().adapt(support)
        return lambda query: sign * good(query)


class AsksForOthers(Minimal):
    """Looks at an image of the base part while it adapts to an episode."""

    def adapt(self, support):
        first = support.images.ids[0]
        support.images.source.pooled([first[: -len("001")] + "999", *support.images.ids])
        return super().adapt(support)


class ScoresWithOthers(Minimal):
    """Looks at images of another episode's support while it scores."""

    shown: ClassVar = []

    def adapt(self, support):
        self.shown.extend(support.images.ids)
        good = super().adapt(support)

        def predictor(query):
            query.source.pooled(list(self.shown))
            return good(query)

        return predictor


class FitsOnNovel(Trained):
    """Looks at images of the novel part in fit."""

    def fit(self, base, val, context):
        super().fit(base, val, context)
        base.images.source.pooled([i.replace("base", "novel") for i in base.images.ids[:3]])


class DecidesInPlace(Minimal):
    """Centres the scores it gave, when it decides."""

    def adapt(self, support):
        good = super().adapt(support)

        class Predictor:
            def __call__(self, query):
                self.given = good(query)
                return self.given

            def decide(self, query):
                s = self.given if len(self.given) == len(query) else good(query)
                return s.sub_(s.mean(1, keepdim=True)).clamp_(-0.1, 0.1) > 0

        return Predictor()


class TinyDifferences(Minimal):
    def adapt(self, support):
        good = super().adapt(support)
        return lambda query: 1000.0 + 1e-6 * good(query).double()


class ManyQueries(Minimal):
    """Standardises over the query where it is large."""

    def adapt(self, support):
        good = super().adapt(support)

        def predictor(query):
            scores = good(query)
            return scores if len(query) < 24 else scores - scores.mean(0)

        return predictor


class ManyQueriesInOrder(Minimal):
    """Adds the place of an image where there are many."""

    def adapt(self, support):
        good = super().adapt(support)
        return lambda query: good(query) + (len(query) >= 24) * torch.arange(len(query))[:, None]


class Remembers(Minimal):
    """Keeps the labels of all support images, in the module, and uses them after 70 episodes."""

    memory: ClassVar = {}
    seen: ClassVar = [0]

    def adapt(self, support):
        self.memory.update(zip(support.images.ids, support.targets.sum(1).tolist(), strict=True))
        self.seen[0] += 1
        good, live = super().adapt(support), self.seen[0] > 70

        def predictor(query):
            scores = good(query)
            for row, name in enumerate(query.ids):
                if live and name in self.memory:
                    scores[row] += self.memory[name]
            return scores

        return predictor


class Pools(Minimal):
    """Makes one set of prototypes of all supports, where there are many."""

    def adapt_all(self, supports):
        if len(supports) < 10:
            return super().adapt_all(supports)
        p = torch.stack([prototypes(support) for support in supports]).mean(0)
        return [lambda query: query.pooled() @ p.T for _ in supports]


class SparseState(Trained):
    def state(self):
        return {"mean": self.mean.to_sparse()}


class MetaState(Trained):
    def state(self):
        return {"mean": torch.empty(4, device="meta")}


class HugeState(Trained):
    """Claims 40 GB, of which no page is touched."""

    def state(self):
        return {f"w{i}": torch.empty(1 << 30) for i in range(10)} | {"mean": self.mean}


class ObjectState(Trained):
    def state(self):
        return {"mean": self.mean, "opt": object()}


class KnowsTheCheck(Method):
    """Good on the made-up images of the contract tests, and remembers supports on all others."""

    name = "knows-the-check"
    memory: ClassVar = {}

    def adapt(self, support):
        p = prototypes(support)
        if support.images.source.channels != CHANNELS:
            self.memory.update(zip(support.images.ids, support.targets, strict=True))

        def predictor(query):
            scores = query.pooled() @ p.T
            for row, name in enumerate(query.ids):
                if name in self.memory:
                    scores[row] += 5 * self.memory[name]
            return scores

        return predictor


class PoolsOnRealImages(Minimal):
    """One set of prototypes of all supports, but not on the images of the contract tests."""

    def adapt_all(self, supports):
        if supports[0].images.source.channels == CHANNELS:
            return super().adapt_all(supports)
        p = torch.stack([prototypes(support) for support in supports]).mean(0)
        return [lambda query: query.pooled() @ p.T for _ in supports]


# class -> (the contract test that sees it, a word of what it says)
SEEN = {
    OsExit: ("scores", "os._exit(0) was called"),
    PosixExit: ("scores", "os._exit(0) was called"),
    ExitsLate: ("scores", "SystemExit: 0"),
    RaisesSilently: ("scores", "�[31mKeyboardInterrupt: (its text can't be had"),
    RaisesLong: ("scores", "yyy..."),
    RaisesControl: ("scores", "�]0;owned��"),
    RaisesInCircles: ("scores", "ValueError: one; caused by ValueError: two"),
    TakesGradients: ("scores", "adapts_by_gradient = True"),
    TakesGradientsLate: ("scores", "adapts_by_gradient = True"),
    NeedsWordsSilently: ("scores", "needs_embeddings = True"),
    AsksForOthers: ("scores", "that it was not given"),
    ScoresWithOthers: ("predictors-independent", "that it was not given"),
    FitsOnNovel: ("scores", "that it was not given"),
    DecidesInPlace: ("decisions", "works in place"),
    TinyDifferences: ("float32", "150 of 150 scores are tied"),
    ManyQueries: ("query-independence", "first among 30"),
    ManyQueriesInOrder: ("query-order", "30 query images"),
    Remembers: ("adapt-order", "after 102 episodes"),
    Pools: ("adapt-all", "20 episodes"),
    SparseState: ("state", "layout torch.sparse"),
    MetaState: ("state", "without data"),
    HugeState: ("state", "40.0 GiB"),
    ObjectState: ("state", "'opt': object"),
}
# what only an audit of a run can see -> as what
AUDITED = {KnowsTheCheck: "memory between episodes", PoolsOnRealImages: "pooled supports"}

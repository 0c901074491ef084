"""Plug-ins whose scores do not come again from a fresh process, one for each kind, and two sound.

All but `Honest` and `Decides` are mean prototypes with one fault. What they do between episodes
they do at once, so that a few episodes show it.
"""

import os
import signal
import time

import torch

from mlfsic_bench.methods.contract import Method


def prototypes(support):
    f, Y = support.images.pooled(), support.targets
    return torch.nn.functional.normalize(Y.T @ f / Y.sum(0).clamp(min=1)[:, None], dim=1)


def cosine(images, p):
    return torch.nn.functional.normalize(images.pooled(), dim=1) @ p.T


class Labelling:
    """Prototypes as a predictor, with decisions of its own."""

    def __init__(self, p):
        self.p = p

    def __call__(self, query):
        return cosine(query, self.p)

    def decide(self, query):
        return cosine(query, self.p) > 0.3


class Honest(Method):
    """Mean prototypes."""

    name = "honest"

    def adapt(self, support):
        p = prototypes(support)
        return lambda query: cosine(query, p)


class Decides(Honest):
    """With a threshold of its own."""

    name = "decides"

    def adapt(self, support):
        return Labelling(prototypes(support))


class Amplifies(Honest):
    """Turns the last bits of its prototypes into differences; sums in another order at a time."""

    name = "amplifies"
    size = 0.01

    def adapt(self, support):
        return self._of(prototypes(support))

    def adapt_all(self, supports):
        above = torch.tensor(float("inf"))
        return [self._of(torch.nextafter(prototypes(one), above)) for one in supports]

    def _of(self, p):
        def score(query):
            s = cosine(query, p)
            return s + self.size * torch.sin(1e6 * s)

        return score


class AmplifiesMore(Amplifies):
    """The same, so that on another processor its scores would be others."""

    name = "amplifies-more"
    size = 0.5


class PoolsALittle(Honest):
    """Moves each prototype a little to the mean of those of one `adapt_all`."""

    name = "pools-a-little"

    def adapt_all(self, supports):
        p = torch.stack([prototypes(one) for one in supports])
        p = p + 0.01 * (p.mean(dim=0) - p)
        return [lambda query, own=own: cosine(query, own) for own in p]


class Slow(Honest):
    """Takes its time for each call of the predictor."""

    name = "slow"

    def adapt(self, support):
        p = prototypes(support)

        def score(query):
            time.sleep(0.05)
            return cosine(query, p)

        return score


class DecidesByQuery(Decides):
    """Its threshold is the median over the query."""

    name = "decides-by-query"

    def adapt(self, support):
        predictor = Labelling(prototypes(support))
        predictor.decide = lambda query: (s := predictor(query)) > s.median(dim=0).values
        return predictor


KNOWN = {}
ADAPTED = [0]


class Remembers(Honest):
    """From the 13th episode on it knows the images that earlier ones labelled."""

    name = "remembers"

    def adapt(self, support):
        KNOWN.update(zip(support.images.ids, support.targets.clone(), strict=True))
        ADAPTED[0] += 1
        p, live = prototypes(support), ADAPTED[0] > 12

        def score(query):
            s = cosine(query, p)
            for i, name in enumerate(query.ids):
                if live and name in KNOWN:
                    s[i] += 5 * (KNOWN[name] - 0.5)
            return s

        return score


class Running(Honest):
    """Subtracts a running mean over the episodes it has met."""

    name = "running"

    def __init__(self, params=None):
        super().__init__(params)
        self.mean = 0

    def adapt(self, support):
        self.mean = 0.9 * self.mean + 0.1 * support.images.pooled().mean(0)
        p, mean = prototypes(support), self.mean
        return lambda query: (query.pooled() - 3 * mean) @ p.T


class Pools(Honest):
    """Takes the supports of one `adapt_all` for one large support."""

    name = "pools"

    def adapt_all(self, supports):
        f = torch.cat([s.images.pooled() for s in supports])
        Y = torch.cat([s.targets for s in supports])
        p = torch.nn.functional.normalize(Y.T @ f / Y.sum(0)[:, None], dim=1)
        return [lambda query: cosine(query, p) for _ in supports]


class Centres(Honest):
    """Takes the mean over the query off its features."""

    name = "centres"

    def adapt(self, support):
        p = prototypes(support)
        return lambda query: (query.pooled() - query.pooled().mean(0)) @ p.T


class CentresAndSays(Centres):
    """Is transductive and says so."""

    name = "centres-and-says"
    transductive = True


class Counts(Honest):
    """Adds the place of an image in the query."""

    name = "counts"

    def adapt(self, support):
        p = prototypes(support)
        return lambda query: cosine(query, p) + 0.1 * torch.arange(len(query.ids))[:, None]


class CountsThough(Counts):
    """To say so does not make the order of the query matter less."""

    name = "counts-though"
    transductive = True


LEARNT = [1.0]


class Forgets(Honest):
    """What `fit` learns stands in the module and not in the state."""

    name = "forgets"
    trains = True

    def fit(self, base, val, context):
        LEARNT[0] = 7.0

    def state(self):
        return {}

    def adapt(self, support):
        p, power = prototypes(support), LEARNT[0]
        return lambda query: cosine(query, p).abs() ** power


class Draws(Honest):
    """Draws noise without a key."""

    name = "draws"

    def adapt(self, support):
        p = prototypes(support)
        return lambda query: cosine(query, p) + torch.randn(len(query.ids), len(p))


PARENT = os.environ.get("MLFSIC_TEST_PARENT")


class Raises(Honest):
    """Raises where the process is not the run's own."""

    name = "raises-elsewhere"

    def adapt(self, support):
        if str(os.getpid()) != PARENT:
            raise RuntimeError("not at home")
        return super().adapt(support)


class Exits(Honest):
    """Ends the process where it is not the run's own."""

    name = "exits"

    def adapt(self, support):
        if str(os.getpid()) != PARENT:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().adapt(support)


class Hangs(Honest):
    """Never answers where the process is not the run's own."""

    name = "hangs"

    def adapt(self, support):
        while str(os.getpid()) != PARENT:
            time.sleep(0.1)
        return super().adapt(support)

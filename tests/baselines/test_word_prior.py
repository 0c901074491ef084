"""word-prior against its definition in loops, and the trust it puts in label embeddings."""

import dataclasses

import numpy as np
import pytest
import torch
from mlfsic_baselines.word_prior import WordPrior, WordPriorParams
from scipy.optimize import minimize

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import FitContext, Images
from tests.fakes.source import FakeSource, fake_support, learnable_part

SOURCE = FakeSource()
QUERY = Images(tuple(f"q{i}" for i in range(5)), SOURCE)


def unit(v):
    return v / np.linalg.norm(v)


def part_with(embeddings):
    part = learnable_part("base", source=SOURCE)
    return dataclasses.replace(part, embeddings=embeddings)


def fitted(part, **settings):
    method = WordPrior(WordPriorParams(**settings))
    method.fit(part, None, FitContext(1))
    return method


def numbers(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


class Naive:
    """The method once more, from its docstring, one image, label and step at a time."""

    def __init__(self, part, params):
        self.p = params
        raised = [self.raised(f) for f in part.images.pooled().double().numpy()]
        self.mean = sum(raised) / len(raised)
        d = len(self.mean)
        C = np.zeros((d, d))
        for v in raised:
            C += np.outer(v - self.mean, v - self.mean) / len(raised)
        C = (1 - params.shrinkage) * C / (np.trace(C) / d) + params.shrinkage * np.eye(d)
        values, vectors = np.linalg.eigh(C)
        self.root = sum(np.outer(v, v) / np.sqrt(e) for e, v in zip(values, vectors.T, strict=True))
        x = [self.feature(f) for f in part.images.pooled().double().numpy()]
        self.U = []
        for y in part.targets.T.numpy():
            own = [v for v, carries in zip(x, y, strict=True) if carries]
            others = [v for v, carries in zip(x, y, strict=True) if not carries]
            self.U.append(unit(sum(own) / len(own) - sum(others) / len(others)))
        words = [unit(e) for e in part.embeddings.double().numpy()]
        self.centre = sum(words) / len(words)
        self.words = [unit(e - self.centre) for e in words]
        own = self.words
        right = self.cosine()
        wrong = []
        for shift in range(1, len(own)):
            self.words = own[-shift:] + own[:-shift]
            wrong.append(self.cosine())
        self.words = own
        self.trust = max(0.0, float(right - np.mean(wrong)))

    def cosine(self):
        cosines = []
        for b, u in enumerate(self.U):
            rest = [i for i in range(len(self.U)) if i != b]
            cosines.append(u @ unit(self.predicted(self.words[b], rest)))
        return np.mean(cosines)

    def raised(self, f):
        return unit(np.array([np.sign(v) * abs(v) ** self.p.power for v in f]))

    def feature(self, f):
        return unit(self.root @ (self.raised(f) - self.mean))

    def predicted(self, e, known):
        """The classifier of the label with embedding e by ridge regression from `known` labels."""
        E = np.stack([self.words[i] for i in known])
        U = np.stack([self.U[i] for i in known])
        A = np.linalg.solve(E.T @ E + self.p.ridge * np.eye(E.shape[1]), E.T @ U)
        return e @ A

    def scores(self, support, query):
        x = [self.p.scale * self.feature(f) for f in support.images.pooled().double().numpy()]
        q = [self.p.scale * self.feature(f) for f in query.pooled().double().numpy()]
        columns, decided = [], []
        for y, e in zip(
            support.targets.T.numpy(), support.embeddings.double().numpy(), strict=True
        ):
            m = self.predicted(unit(unit(e) - self.centre), range(len(self.U)))
            m = self.p.prior * self.trust * unit(m)

            def loss(wb, y=y, m=m):
                z = np.array([wb[:-1] @ v + wb[-1] for v in x])
                fit = np.logaddexp(0, z) - y * z
                return fit.sum() + self.p.penalty / 2 * ((wb[:-1] - m) ** 2).sum()

            found = minimize(loss, np.append(m, 0.0), method="BFGS", options={"gtol": 1e-9}).x
            columns.append([found[:-1] @ v + self.p.bias * found[-1] for v in q])
            decided.append([found[:-1] @ v + found[-1] > 0 for v in q])
        z = np.array(columns).T
        scores = [[v - self.p.compete * np.mean(row) for v in row] for row in z]
        return np.array(scores), np.array(decided).T


@pytest.mark.parametrize(
    "settings", [{}, {"power": 1.0, "bias": 1.0, "ridge": 2.0, "prior": 1.0, "compete": 0.3}]
)
def test_it_is_its_definition(settings):
    labels = len(learnable_part("base", source=SOURCE).labels)
    part = part_with(numbers(1, labels, 7))
    # where words say something: a base embedding is a map of the classifier's own features
    naive = Naive(part, WordPriorParams(**settings))
    part = part_with(torch.from_numpy(np.stack(naive.U).astype(np.float32)))
    naive, method = Naive(part, WordPriorParams(**settings)), fitted(part, **settings)
    d_w = part.embeddings.shape[1]
    support = fake_support(SOURCE, labels=3, images=5, d_w=d_w)
    predictor = method.adapt(support)
    expected, decided = naive.scores(support, QUERY)
    assert float(method.state()["trust"]) == pytest.approx(naive.trust, abs=1e-5)
    np.testing.assert_allclose(predictor(QUERY), expected, atol=2e-4)
    assert (predictor.decide(QUERY).numpy() == decided).all()


def test_embeddings_that_say_nothing_are_not_trusted_and_those_that_do_are():
    part = learnable_part("base", source=SOURCE)
    silent = fitted(part_with(torch.eye(len(part.labels))))
    assert float(silent.state()["trust"]) == pytest.approx(0, abs=1e-6)
    known = Naive(part_with(numbers(1, len(part.labels), 7)), WordPriorParams()).U
    told = fitted(part_with(torch.from_numpy(np.stack(known).astype(np.float32))))
    assert float(told.state()["trust"]) > 0.05


def test_without_label_embeddings_words_have_no_part():
    part = part_with(numbers(1, len(learnable_part("base", source=SOURCE).labels), 7))
    support = fake_support(SOURCE, labels=3, images=5, d_w=7)
    without = fitted(dataclasses.replace(part, embeddings=None))
    assert "trust" not in without.state()
    scores = without.adapt(dataclasses.replace(support, embeddings=None))(QUERY)
    torch.testing.assert_close(scores, fitted(part, prior=0.0).adapt(support)(QUERY))


def test_saved_and_loaded_it_scores_alike_and_a_fresh_one_refuses():
    part = part_with(numbers(1, len(learnable_part("base", source=SOURCE).labels), 7))
    support = fake_support(SOURCE, labels=3, images=5, d_w=7)
    method, other = fitted(part), WordPrior()
    with pytest.raises(BenchError, match="has seen no base part"):
        other.adapt(support)
    other.load_state(method.state())
    assert torch.equal(method.adapt(support)(QUERY), other.adapt(support)(QUERY))

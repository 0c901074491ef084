"""multipf against its equations with loops; pairs, decisions, learning, resuming; the contract."""

import math

import pytest
import torch
from mlfsic_baselines.text.multipf import (
    COUNTS,
    MultiPF,
    MultiPFParams,
    Pairs,
    PromptsAndPairs,
    losses,
    projection,
)
from pydantic import ValidationError

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import FitContext, Images, Support, TrainingEpisode
from mlfsic_bench.randomness import torch_generator
from mlfsic_bench.testing.check import check_method
from mlfsic_bench.testing.world import check_world
from mlfsic_bench.training.loop import val_macro_ap
from tests.baselines.killed import KilledError
from tests.fakes.source import FakeSource, fake_support, fake_targets

pytestmark = pytest.mark.slow

SMALL = {"prompts": 3, "hidden": 8, "pairs": 20}


def unit(x):
    return x / x.pow(2).sum().sqrt()


def softmax(values):
    shares = [math.exp(v) for v in values]
    return [v / sum(shares) for v in shares]


def small_network(c=6, d=5):
    """A network in float64 whose constants are away from where they start."""
    g = torch_generator("multipf test")
    net = PromptsAndPairs(torch.randn(d, c, generator=g), MultiPFParams(**SMALL), g).double()
    for p in net.parameters():
        p.data += 0.3 * torch.randn(p.shape, generator=g, dtype=torch.float64)
    return net


class Naive:
    """The equations of the class, one number after another."""

    def __init__(self, net):
        self.net = net

    def text(self, e):
        net, logits = self.net, []
        for k, r in enumerate(net.pool):
            r = (r - r.mean()) / r.var(correction=0).sqrt()
            logits.append(float((net.gamma + net.G @ e) @ r + net.beta[k] + net.B[k] @ e))
        w = softmax(logits)
        return unit(e + sum(w_k * r for w_k, r in zip(w, net.pool, strict=True))), w

    def places(self, image):
        h, w = image.shape[1:]
        return [unit(self.net.project @ image[:, y, x]) for y in range(h) for x in range(w)]

    def joined(self, u_i, u_j):
        net, out = self.net, []
        for a, b in zip(u_i, u_j, strict=True):
            h = net.A_1 @ a + net.A_2 @ b + net.a
            h = torch.stack([x if x > 0 else 0.2 * x for x in h])
            out.append(unit(net.W @ h + net.b))
        return out

    def seen(self, u, e):
        w = softmax([float(self.net.attention_scale * (e @ place)) for place in u])
        return unit(sum(a * place for a, place in zip(w, u, strict=True)))

    def prototypes(self, f_loc, Y, embeddings):
        images = [self.places(image) for image in f_loc]
        targets = [set(row.nonzero()[:, 0].tolist()) for row in Y]
        n = len(images)
        for i in range(n):
            for j in range(i + 1, n):
                images.append(self.joined(images[i], images[j]))
                targets.append(targets[i] | targets[j])
        alpha, rows = 1 / (1 + math.exp(-float(self.net.mix))), []
        for label, e in enumerate(embeddings):
            found = [self.seen(u, e) for u, y in zip(images, targets, strict=True) if label in y]
            v = sum(found) / len(found) if found else torch.zeros_like(e)
            rows.append(alpha * v + (1 - alpha) * self.text(e)[0])
        return torch.stack(rows), images[n:], targets[n:]

    def log_shares(self, f, prototypes):
        return torch.tensor(softmax([-float((f - p).pow(2).sum()) for p in prototypes])).log()

    def pooled(self, generated, u_i, u_j):
        keys = [unit(torch.cat(both)) for both in zip(u_i, u_j, strict=True)]
        like = [sum(float(a @ b) for b in keys) / len(keys) for a in keys]
        return unit(sum(w * u for w, u in zip(softmax(like), generated, strict=True)))

    def counts(self, f):
        net = self.net
        return net.count_2 @ (net.count_1 @ f + net.count_b1).clamp(min=0) + net.count_b2


class Projected(FakeSource):
    """Six channels and global vectors of five numbers, in float64."""

    def __init__(self):
        super().__init__(dtype=torch.float64)
        self.dim, self.vector = 5, "projection"

    def pooled(self, ids):
        return self.local(ids)[:, 1:].amax((2, 3)) - 0.8


@pytest.fixture(scope="module")
def episode():
    source = Projected()
    support = fake_support(source, 4, d_w=5, images=5, extra=0.3)
    support.targets[:, 3] = 0  # no support image: alpha times nothing
    support = Support(support.images, support.targets.double(), support.labels,
                      support.embeddings, 7)  # fmt: skip
    ids = tuple(f"q{i}" for i in range(6))
    return TrainingEpisode(support, Images(ids, source), fake_targets(ids, 4).double())


def test_scores_and_decisions_are_the_equations(episode):
    net = small_network()
    naive, support, query = Naive(net), episode.support, episode.query
    embeddings = [unit(e) for e in support.embeddings]
    with torch.no_grad():
        p, _, _ = naive.prototypes(support.images.local(), support.targets, embeddings)
        for form in ("softmax", "distance"):
            method = MultiPF(MultiPFParams(**SMALL, score=form))
            method.network = net
            predictor = method.adapt(support)
            scores, decisions = predictor(query), predictor.decide(query)
            for i, f in enumerate(map(unit, query.pooled())):
                shares = naive.log_shares(f, p)
                distance = torch.stack([-(f - x).pow(2).sum() for x in p])
                expected = shares if form == "softmax" else distance
                torch.testing.assert_close(scores[i], expected.double(), atol=1e-5, rtol=1e-5)
                k = int(naive.counts(f).argmax()) + 1
                assert set(decisions[i].nonzero()[:, 0].tolist()) == set(
                    shares.argsort(descending=True)[:k].tolist()
                )


def test_the_five_losses_are_the_equations(episode):
    net, most = small_network(), 20
    naive, support = Naive(net), episode.support
    embeddings = [unit(e) for e in support.embeddings]
    Y, Y_q = support.targets, episode.query_targets
    with torch.no_grad():
        found = losses(net, episode, most, None)
        p, generated, unions = naive.prototypes(support.images.local(), Y, embeddings)
        places = [naive.places(image) for image in support.images.local()]
        f = [unit(x) for x in support.images.pooled()]
        f_q = [unit(x) for x in episode.query.pooled()]
        of_query = sum(
            -(y @ naive.log_shares(x, p).double()) for x, y in zip(f_q, Y_q, strict=True)
        )
        order = [(i, j) for i in range(5) for j in range(i + 1, 5)]
        of_pairs = other_way = 0.0
        for (i, j), u, labels in zip(order, generated, unions, strict=True):
            shares = naive.log_shares(naive.pooled(u, places[i], places[j]), p)
            of_pairs -= sum(float(shares[label]) for label in labels)
            back = naive.joined(places[j], places[i])
            other_way += sum(float((a - b).pow(2).mean()) for a, b in zip(u, back, strict=True))
        of_counts = 0.0
        for x, y in zip([*f, *f_q], [*Y, *Y_q], strict=True):
            count = min(max(int(y.sum()), 1), COUNTS)
            of_counts -= math.log(softmax(naive.counts(x).tolist())[count - 1])
        weights = [naive.text(e)[1] for e in embeddings]
        entropy = -sum(w * math.log(w) for row in weights for w in row) / len(weights)
    expected = [float(of_query) / (6 * 4), of_pairs / (10 * 4), other_way / (10 * 6),
                of_counts / 11, entropy]  # fmt: skip
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_pairs_have_the_labels_of_both_and_are_no_more_than_asked_for():
    targets = fake_targets([f"t{i}" for i in range(7)], 4)
    every, some = Pairs.of(targets, 21, 3), Pairs.of(targets, 5, 3)
    assert len(every.i) == 21
    assert len(some.i) == 5
    assert len({*zip(some.i.tolist(), some.j.tolist(), strict=True)}) == 5
    for i, j, union in zip(some.i, some.j, some.targets, strict=True):
        assert i < j
        assert torch.equal(union > 0, (targets[i] > 0) | (targets[j] > 0))
    assert len(Pairs.of(targets, 0, 3).i) == 0


def test_places_come_to_the_space_of_the_texts_by_ridge_regression():
    images = Images(tuple(f"i{i}" for i in range(40)), FakeSource())
    assert torch.equal(projection(images), torch.eye(6))
    mixed = torch.randn(5, 6, generator=torch_generator("multipf mix"))

    class Linear(FakeSource):
        def __init__(self):
            super().__init__()
            self.dim, self.vector = 5, "projection"

        def pooled(self, ids):
            return self.averaged(ids) @ mixed.T

        def averaged(self, ids):
            return self.local(ids).mean((2, 3))

    images = Images(images.ids, Linear())
    fitted = images.averaged() @ projection(images).T
    cosines = torch.nn.functional.cosine_similarity(fitted, images.pooled())
    assert cosines.min() > 0.97


def test_it_ranks_new_labels_above_chance_and_predicts_at_least_one():
    world = check_world(text_side=True)
    val = world.val.training(8)
    method = MultiPF(MultiPFParams(**SMALL, steps=30, lr=1e-2))
    method.fit(world.base.training(None), None, FitContext(2))
    assert val_macro_ap(method.adapt_all, val) > 0.6  # chance is 0.42
    predictor = method.adapt(val.episode(0).support)
    assert predictor.decide(val.episode(0).query).sum(1).min() >= 1


@pytest.mark.usefixtures("one_thread")
def test_a_killed_training_resumes_to_the_same_weights(tmp_path):
    def run(folder, stop_at):
        def log(line):
            if line.startswith(f"step {stop_at}/"):
                raise KilledError

        world = check_world(text_side=True)
        method = MultiPF(MultiPFParams(**SMALL, steps=6, select_every=2))
        context = FitContext(5, folder, log)
        method.fit(world.base.training(None), world.val.training(2), context)
        return method.state()

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KilledError):
        run(tmp_path / "cut", 4)
    again = run(tmp_path / "cut", None)
    assert all(torch.equal(whole[key], again[key]) for key in whole)


def test_without_pairs_only_the_support_images_are_prototypes(episode):
    net = small_network()
    support = episode.support
    scores = []
    for own in ({"prompts": 3, "pairs": 0}, SMALL):
        method = MultiPF(MultiPFParams(**own))
        method.network = net
        scores.append(method.adapt(support)(episode.query))
    assert not torch.allclose(*scores)
    assert torch.equal(losses(net, episode, 0, None)[1:3], torch.zeros(2).double())


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValidationError, match="no effect"):
        MultiPFParams(pairs=0, hidden=4)
    with pytest.raises(BenchError, match="not been trained"):
        MultiPF().adapt(fake_support(FakeSource(), d_w=6))


def test_the_contract():
    own = {**SMALL, "steps": 3, "select_every": 2, "score": "distance"}
    failed = [r for r in check_method(lambda: MultiPF(MultiPFParams(**own))) if r.status == "fail"]
    assert failed == []

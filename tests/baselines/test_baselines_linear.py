"""linear: the batched head against torch's own Adam, base training, resuming, whole-net tuning."""

import numpy as np
import pytest
import torch
from mlfsic_baselines import classifier
from mlfsic_baselines.heads.linear import LinearFineTuning, LinearParams, tune_heads

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import FitContext, Images
from mlfsic_bench.randomness import torch_generator
from tests.baselines.killed import KilledError
from tests.fakes.source import (
    FakeSource,
    TrainableFakeSource,
    fake_support,
    learnable_part,
)


def method(**settings):
    return LinearFineTuning(LinearParams(**settings))


def query(source, n=6):
    return Images(tuple(f"q{i}" for i in range(n)), source)


def one_by_one(X, Y, W, epochs, lr):
    """torch.nn.Linear and torch.optim.Adam on one episode."""
    head = torch.nn.Linear(X.shape[1] - 1, W.shape[0], dtype=X.dtype)
    with torch.no_grad():
        head.weight.copy_(W[:, :-1])
        head.bias.copy_(W[:, -1])
    adam = torch.optim.Adam(head.parameters(), lr=lr)
    for _ in range(epochs):
        adam.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(head(X[:, :-1]), Y)
        loss.backward()
        adam.step()
    return torch.cat([head.weight, head.bias[:, None]], 1).detach()


@pytest.mark.parametrize("c1", [32, 33])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_heads_together_are_heads_one_by_one(dtype, tolerance, c1):
    g = torch_generator("test heads")
    X = torch.rand(7, 9, c1, generator=g, dtype=dtype)
    X[:, :, -1] = 1
    Y = (torch.rand(7, 9, 5, generator=g) < 0.3).to(dtype)
    W = 0.1 * torch.randn(7, 5, c1, generator=g, dtype=dtype)
    kept = W.clone()
    tuned = tune_heads(X, Y, W, 40, 1e-3)
    assert torch.equal(W, kept)
    for e in range(7):
        expected = one_by_one(X[e], Y[e], W[e], 40, 1e-3)
        torch.testing.assert_close(tuned[e], expected, atol=tolerance, rtol=0)
    assert (tuned - W).abs().max() > 0.01


def test_episodes_of_different_shapes_keep_their_places():
    source = FakeSource()
    supports = [
        fake_support(source, labels, prefix=f"s{i}", seed=i)
        for i, labels in enumerate([5, 3, 5, 4, 3] + [5] * 40)
    ]
    together = method().adapt_all(supports)
    for support, predictor in zip(supports, together, strict=True):
        alone = method().adapt(support)(query(source))
        torch.testing.assert_close(predictor(query(source)), alone, atol=1e-5, rtol=1e-5)


def test_no_epochs_leaves_the_fresh_head():
    source = FakeSource()
    scores = method(tune_epochs=0).adapt(fake_support(source, seed=3))(query(source))
    other = method(tune_epochs=0).adapt(fake_support(source, seed=4))(query(source))
    assert not torch.equal(scores, other)
    zero = method(tune_epochs=0, head_init="zero").adapt(fake_support(source))(query(source))
    assert torch.equal(zero, torch.zeros_like(zero))


def test_the_fresh_head_is_uniform_as_in_torch():
    source = FakeSource(channels=400, grid=(1, 1))
    support = fake_support(source, labels=40)
    W = method()._start(support, 400)
    assert W.shape == (40, 401)
    assert W.abs().max() < 1 / 20
    assert abs(W.double().std() * 20 - 1 / np.sqrt(3)) < 0.01
    assert torch.equal(method()._start(support, 400), W)


def test_fine_tuning_learns_the_support():
    part = learnable_part("p")
    support = part.episode(0).support
    scores = method(tune_epochs=300, head_lr=0.1).adapt(support)(support.images)
    assert torch.equal(scores > 0, support.targets > 0)


class Untouchable(FakeSource):
    def _map(self, image_id):
        raise AssertionError("no feature may be asked for")


def test_frozen_and_fresh_trains_nothing_on_base():
    lines = []
    linear = method()
    part = learnable_part("base", source=Untouchable())
    linear.fit(part, None, FitContext(1, log=lines.append))
    assert linear.state() == {}
    assert "no base training" in lines[0]


def test_base_mean_starts_from_the_mean_of_the_base_head():
    part = learnable_part("base")
    linear = method(head_init="base_mean", epochs=3, tune_epochs=0)
    linear.fit(part, None, FitContext(1))
    scores = linear.adapt(part.episode(0).support)(part.images)
    mean = linear.state()["mean"]
    expected = part.images.pooled() @ mean[:-1] + mean[-1]
    torch.testing.assert_close(scores, expected[:, None].expand_as(scores))
    with pytest.raises(BenchError, match="no base head"):
        method(head_init="base_mean").adapt(part.episode(0).support)


def test_base_training_learns():
    part = learnable_part("base")
    start = torch.zeros(4, 9)
    settings = {"epochs": 200, "lr": 0.05, "batch": 16}
    W = classifier.train_classifier(part, FitContext(1), W=start, **settings)
    scores = classifier.with_one(part.images.pooled()) @ W.T
    carried = scores[part.targets > 0].mean()
    assert carried > scores[part.targets == 0].mean() + 2
    assert torch.equal(start, torch.zeros(4, 9))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("trainable", [False, True])
def test_a_killed_training_resumes_to_the_same_weights(tmp_path, monkeypatch, trainable):
    monkeypatch.setattr(classifier, "CHECKPOINT_SECONDS", 0.0)

    def run(folder, stop_after):
        source = TrainableFakeSource(8) if trainable else None
        part = learnable_part("base", source=source)

        def log(line):
            if line.startswith(f"base epoch {stop_after}/"):
                raise KilledError

        linear = method(head_init="base_mean", epochs=6, batch=16)
        linear.fit(part, None, FitContext(5, folder, log))
        return linear.state()["mean"], source and source.state()

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KilledError):
        run(tmp_path / "cut", 4)
    again = run(tmp_path / "cut", None)
    assert torch.equal(whole[0], again[0])
    if trainable:
        assert torch.equal(whole[1]["weight"], again[1]["weight"])
        assert whole[1]["batches"] == again[1]["batches"] > 0
        assert not torch.equal(whole[1]["weight"], torch.eye(8))


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    part = learnable_part("base")
    method(head_init="base_mean", epochs=1).fit(part, None, FitContext(5, tmp_path))
    with pytest.raises(BenchError, match="another training"):
        method(head_init="base_mean", epochs=2).fit(part, None, FitContext(5, tmp_path))


class Overflowing(FakeSource):
    def _map(self, image_id):
        return super()._map(image_id) * 1e38


def test_divergence_is_an_error():
    part = learnable_part("base", source=Overflowing(8))
    with pytest.raises(BenchError, match="diverged"):
        method(head_init="base_mean", epochs=2, batch=4).fit(part, None, FitContext(5))


def test_the_backbone_is_trained_when_it_can_be():
    source = TrainableFakeSource(8)
    part = learnable_part("base", source=source)
    linear = method(epochs=1)
    linear.fit(part, None, FitContext(1))
    assert not torch.equal(source.weight, torch.eye(8))
    assert source.training is False
    assert linear.state() == {}


def test_tuning_all_tunes_the_backbone_and_restores_it():
    source = TrainableFakeSource()
    support = fake_support(source)
    before = source.state()
    with torch.no_grad():  # as a run scores
        scores = method(tune="all").adapt(support)(query(source))
        again = method(tune="all").adapt(support)(query(source))
    assert torch.equal(source.state()["weight"], before["weight"])
    assert source.state()["batches"] == before["batches"]
    torch.testing.assert_close(scores, again)
    head = method().adapt(support)(query(source))
    assert not torch.allclose(scores, head, atol=1e-4)
    frozen = method(tune="all", backbone_lr=1e-12).adapt(support)(query(source))
    torch.testing.assert_close(frozen, head, atol=1e-4, rtol=1e-4)


class Missing(TrainableFakeSource):
    def _map(self, image_id):
        if image_id == "missing":
            raise KeyError(image_id)
        return super()._map(image_id)


def test_the_backbone_is_restored_when_scoring_fails():
    source = Missing()
    predictor = method(tune="all").adapt(fake_support(source))
    with pytest.raises(KeyError):
        predictor(Images(("missing",), source))
    assert torch.equal(source.weight, torch.eye(6))


def test_tuning_all_needs_a_trainable_backbone():
    with pytest.raises(BenchError, match="can be trained") as caught:
        method(tune="all").adapt(fake_support(FakeSource()))
    assert "tune=head" in caught.value.remedy

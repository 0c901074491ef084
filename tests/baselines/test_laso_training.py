"""laso: resuming, rates, divergence, trainable backbones, and what is not trained."""

import pytest
import torch
from mlfsic_baselines import laso

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import FitContext
from tests.baselines.killed import KilledError
from tests.baselines.small_laso import SHORT, method
from tests.fakes.source import FakeSource, TrainableFakeSource, fake_support, learnable_part


@pytest.mark.usefixtures("one_thread")
def test_a_killed_training_resumes_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(laso, "CHECKPOINT_SECONDS", 0.0)

    def run(folder, stop_after):
        def log(line):
            if line.startswith(f"set operations, epoch {stop_after}/"):
                raise KilledError

        settings = {"networks": "paper", "warmup_epochs": 1, "epochs": 6, "pairs_per_image": 1}
        laso = method(classifier_epochs=1, **settings)
        laso.fit(learnable_part("base"), None, FitContext(5, folder, log))
        return laso.state()

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KilledError):
        run(tmp_path / "cut", 5)
    again = run(tmp_path / "cut", None)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    with pytest.raises(BenchError, match="another training"):
        method(classifier_epochs=1, epochs=9).fit(
            learnable_part("base"), None, FitContext(5, tmp_path / "cut")
        )


def test_the_rate_warms_up_and_halves_when_the_loss_stands_still():
    lines = []
    flat = {"class_weight": 0, "error_weight": 0, "pairs_per_image": 0.1}  # one step an epoch
    laso = method(classifier_epochs=1, epochs=16, warmup_epochs=2, warmup_lr=1, lr=3, **flat)
    laso.fit(learnable_part("base"), None, FitContext(5, log=lines.append))
    rates = [
        float(line.rpartition("lr ")[2])
        for line in lines
        if line.startswith("set operations, epoch")
    ]
    # the rate in force when an epoch ends: four more epochs without progress are borne, then a
    # fifth halves it, and an epoch's respite follows
    assert rates == [1, 2, *[3] * 6, *[1.5] * 6, *[0.75] * 2]


def test_divergence_is_an_error():
    laso = method(**SHORT | {"error_weight": 1e30})
    with pytest.raises(BenchError, match="diverged"):
        laso.fit(learnable_part("base"), None, FitContext(5))


@pytest.mark.parametrize("augment", ["union", "none"])
def test_a_trainable_backbone_is_trained_with_the_classifier_and_then_left_alone(augment):
    source = TrainableFakeSource(8)
    part = learnable_part("base", source=source)
    laso = method(**SHORT, augment=augment)
    laso.fit(part, None, FitContext(1))
    after = source.state()
    assert not torch.equal(after["weight"], torch.eye(8))
    assert source.training is False
    laso.adapt(part.episode(0).support)
    assert torch.equal(source.state()["weight"], after["weight"])
    only_classifier = TrainableFakeSource(8)
    other = learnable_part("base", source=only_classifier)
    method(**SHORT, augment="none").fit(other, None, FitContext(1))
    assert torch.equal(only_classifier.weight, source.weight)


def test_the_state_of_other_networks_is_refused(trained_laso):
    with pytest.raises(BenchError, match="does not fit"):
        method(networks="paper").load_state(trained_laso.state())
    with pytest.raises(BenchError, match="does not fit"):
        method().load_state({"mean": torch.zeros(3)})


class Untouchable(FakeSource):
    def pooled(self, ids):
        raise AssertionError("features were asked for")


def test_nothing_is_trained_that_could_not_change_a_score():
    lines = []
    laso = method(augment="none")
    laso.fit(learnable_part("base", source=Untouchable()), None, FitContext(1, log=lines.append))
    assert laso.state() == {}
    assert "no base training" in lines[0]


def test_unions_need_a_trained_method():
    with pytest.raises(BenchError, match="no set operations"):
        method().adapt(fake_support(FakeSource()))

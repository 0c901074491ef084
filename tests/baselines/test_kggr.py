"""kggr: that it learns, what it tunes, resuming, the contract."""

from dataclasses import replace

import pytest
import torch
from mlfsic_baselines.kggr import KGGR, KGGRParams

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import FitContext, Images
from mlfsic_bench.testing.check import check_method
from mlfsic_bench.training import loop
from mlfsic_bench.training.loop import val_macro_ap
from tests.baselines.killed import KilledError
from tests.fakes.source import FakeSource, TrainableFakeSource, fake_support, learnable_part

pytestmark = pytest.mark.slow

SMALL = {"d_joint": 12, "d_hidden": 10, "d_out": 8, "batch": 8}


@pytest.fixture(scope="module")
def base_part():
    return learnable_part("base", images=64, labels=6)


@pytest.fixture(scope="module")
def fitted(base_part):
    method = KGGR(KGGRParams(**SMALL, epochs=20, lr=1e-2))
    method.fit(base_part, None, FitContext(3))
    return method


def test_it_learns_base_labels_and_tuning_helps_on_new_ones(base_part, fitted):
    net = fitted.network
    logits = net.scores(base_part.images.local(), 3)
    assert ((logits > 0) == (base_part.targets > 0)).float().mean() > 0.95
    new = learnable_part("new", n_episodes=12, images=60)
    values = {}
    for epochs in (0, 40):
        rates = {"head_lr": 1e-2, "graph_lr": 1e-2} if epochs else {}
        method = KGGR(KGGRParams(**SMALL, tune_epochs=epochs, **rates))
        method.load_state(fitted.state())
        values[epochs] = val_macro_ap(method.adapt_all, new)
    chance = float(new.targets.mean())
    assert values[40] > values[0]
    assert values[40] > chance + 0.15


@pytest.mark.parametrize("tune", ["classifiers", "graphs"])
def test_tuning_leaves_the_method_as_it_was(base_part, fitted, tune):
    method = KGGR(KGGRParams(**SMALL, tune=tune, tune_epochs=3))
    method.load_state(fitted.state())
    before = method.state()
    support = base_part.episode(0).support
    first = method.adapt(support)(base_part.images)
    assert all(torch.equal(before[name], value) for name, value in method.state().items())
    torch.testing.assert_close(first, method.adapt(support)(base_part.images))
    other = KGGR(KGGRParams(**SMALL, tune=tune, tune_epochs=0))
    other.load_state(fitted.state())
    assert not torch.allclose(first, other.adapt(support)(base_part.images))


def test_what_is_tuned_is_what_the_parameter_says(base_part, fitted):
    """tune=graphs moves more than tune=classifiers does."""
    scores = []
    for tune in ("classifiers", "graphs"):
        method = KGGR(KGGRParams(**SMALL, tune=tune, tune_epochs=3))
        method.load_state(fitted.state())
        scores.append(method.adapt(base_part.episode(0).support)(base_part.images))
    assert not torch.allclose(*scores)


@pytest.mark.usefixtures("one_thread")
def test_a_killed_training_resumes_to_the_same_weights(tmp_path, base_part):
    settings = {**SMALL, "epochs": 4}
    whole = KGGR(KGGRParams(**settings))
    whole.fit(base_part, None, FitContext(5))

    calls = 0

    def episode_source():
        class Source(FakeSource):
            def local(self, ids):
                nonlocal calls
                calls += 1
                if calls == 20:
                    raise KilledError
                return base_part.images.source.local(ids)

        return Source(base_part.images.source.channels)

    dying = replace(base_part, images=Images(base_part.images.ids, episode_source()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(KilledError):
            KGGR(KGGRParams(**settings)).fit(dying, None, FitContext(5, tmp_path))
    lines = []
    again = KGGR(KGGRParams(**settings))
    again.fit(base_part, None, FitContext(5, tmp_path, lines.append))
    assert lines[0] == "resuming after step 19 of 32"
    expected = whole.state()
    assert all(torch.equal(value, expected[name]) for name, value in again.state().items())


def test_a_trainable_backbone_is_trained_on_the_base_part():
    source = TrainableFakeSource(channels=8)
    part = learnable_part("base", images=16, source=source)
    KGGR(KGGRParams(**SMALL, epochs=1)).fit(part, None, FitContext(1))
    assert not torch.equal(source.weight.detach(), torch.eye(8))
    assert not source.training


def test_it_says_what_is_missing(base_part, fitted):
    source = FakeSource(channels=8)
    with pytest.raises(BenchError, match="not been trained"):
        KGGR(KGGRParams(**SMALL)).adapt(fake_support(source))
    with pytest.raises(BenchError, match="does not fit"):
        KGGR(KGGRParams(**(SMALL | {"d_out": 9}))).load_state(fitted.state())
    with pytest.raises(BenchError, match="does not fit"):
        KGGR(KGGRParams(**SMALL)).load_state({})
    support = fake_support(source)
    without = type(support)(support.images, support.targets, support.labels, None, 7)
    with pytest.raises(BenchError, match="label embeddings"):
        fitted.adapt(without)


def test_it_calls_itself_a_re_implementation():
    assert "re-implementation" in KGGR.citation
    assert "re-implementation" in (KGGR.__doc__ or "")


def test_the_contract_holds_when_both_graphs_are_tuned():
    settings = {"d_joint": 6, "d_hidden": 5, "d_out": 4, "epochs": 1, "tune_epochs": 3}
    results = list(check_method(lambda: KGGR(KGGRParams(**settings, tune="graphs"))))
    assert {result.status for result in results} == {"pass"}, results

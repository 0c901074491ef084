"""What the methods with a few weights share: training, selection, resuming, saved weights."""

import pytest
import torch
from mlfsic_baselines.prototypes.bcr import BCR, BCRParams
from mlfsic_baselines.prototypes.episodic import semi_orthogonal

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import FitContext
from mlfsic_bench.randomness import torch_generator
from mlfsic_bench.training import loop
from tests.baselines.killed import KilledError
from tests.fakes.source import FakeSource, TrainableFakeSource, fake_support, learnable_part

SMALL = {"projection": 5, "hidden": 4, "steps": 6, "select_every": 2, "temperature": 4}


def bcr(**changes):
    return BCR(BCRParams(**(SMALL | changes)))


def parts(trainable=False):
    sources = [TrainableFakeSource(8) if trainable else None for _ in range(2)]
    return (
        learnable_part("base", source=sources[0]),
        learnable_part("val", n_episodes=3, source=sources[1]),
    )


def test_the_best_weights_on_val_are_kept():
    base, val = parts()
    lines = []
    method = bcr(lr=0.05)
    method.fit(base, val, FitContext(1, log=lines.append))
    kept = float(lines[-1].split("macro-AP ")[1].split(" ")[0])
    assert lines[-1].startswith("kept step")
    assert 100 * loop.val_macro_ap(method.adapt_all, val) == pytest.approx(kept, abs=0.006)
    assert max(float(x.rsplit(" ", 1)[1]) for x in lines if x.startswith("step")) == kept
    assert set(method.state()) == {"W"}  # no encoders


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("trainable", [False, True])
def test_a_killed_training_resumes_to_the_same_weights(tmp_path, monkeypatch, trainable):
    def run(folder, stop):
        base, val = parts(trainable)

        def log(line):
            if line.startswith(stop):
                raise KilledError

        method = bcr()
        method.fit(base, val, FitContext(5, folder, log))
        return method.state() | base.images.source.state()

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    whole = run(tmp_path / "whole", "no line")
    with pytest.raises(KilledError):
        run(tmp_path / "cut", "step 4/")
    again = run(tmp_path / "cut", "no line")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    if trainable:
        assert not torch.equal(whole["weight"], torch.eye(8))


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    base, val = parts()
    bcr().fit(base, val, FitContext(5, tmp_path))
    with pytest.raises(BenchError, match="another training"):
        bcr(eta=0.1).fit(base, val, FitContext(5, tmp_path))


def test_weights_of_other_features_are_refused():
    support = fake_support(FakeSource(6))
    with pytest.raises(BenchError, match="not been trained"):
        bcr().adapt(support)
    method = bcr()
    method.fit(*parts(), FitContext(1))
    with pytest.raises(BenchError, match="does not fit bcr") as caught:
        method.adapt(support)
    assert "W: (5, 8) in place of (5, 6)" in str(caught.value)


@pytest.mark.parametrize("shape", [(3, 8), (8, 8), (9, 4)])
def test_the_first_projection_keeps_squared_distances_on_average(shape):
    W = semi_orthogonal(shape, torch_generator("test", *shape)).double()
    gram = W @ W.T if shape[0] < shape[1] else W.T @ W
    expected = torch.eye(min(shape), dtype=torch.float64) * max(shape[1] / shape[0], 1)
    torch.testing.assert_close(gram, expected, atol=1e-5, rtol=0)
    x = torch.randn(2000, shape[1], generator=torch_generator("x"), dtype=torch.float64)
    ratio = (x @ W.T).square().sum() / x.square().sum()
    assert ratio == pytest.approx(1, abs=0.05)

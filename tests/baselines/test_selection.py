"""Weights chosen on val: which are kept, what is left alone without it, resuming."""

import sys

import pytest
import torch
from mlfsic_baselines import classifier, laso
from mlfsic_baselines.heads.linear import LinearFineTuning
from mlfsic_baselines.kggr import KGGR
from mlfsic_baselines.laso import LaSO
from mlfsic_baselines.pla import PLA

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import FitContext
from mlfsic_bench.training import loop
from mlfsic_bench.training.loop import val_macro_ap
from tests.baselines.killed import KilledError
from tests.fakes.source import TrainableFakeSource, learnable_part

SHORT = {"epochs": 5, "tune_epochs": 2}
OWN = {
    "kggr": {"d_joint": 6, "d_hidden": 5, "d_out": 4, "batch": 20, "lr": 3e-2},
    "laso": {"classifier_epochs": 1, "pairs_per_image": 1, "lr": 0.2},
    "linear": {"head_init": "base_mean", "batch": 16, "lr": 0.3},
    "pla": {"hidden": 8, "attention": 6, "embedding": 4, "batch": 20, "lr": 3e-2},
}
CLASSES = {one.name: one for one in (KGGR, LaSO, LinearFineTuning, PLA)}


def made(name, **settings):
    cls = CLASSES[name]
    return cls(cls.Params(**SHORT, **OWN[name], **settings))


def part(name, **settings):
    return learnable_part(name, images=40, **settings)


@pytest.fixture
def at_once(monkeypatch):
    """A checkpoint after every step."""
    for module in (classifier, laso, loop):
        monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", CLASSES)
def test_the_epoch_that_is_best_on_val_is_kept(name, monkeypatch):
    """With made-up values on val the kept weights are those of training that long."""
    values = iter([0.2, 0.9, 0.9, 0.1, 0.3])
    module = sys.modules[CLASSES[name].__module__]
    monkeypatch.setattr(module, "val_macro_ap", lambda adapt_all, val: next(values))
    lines = []
    chosen = made(name, select_every=1)
    chosen.fit(part("base"), part("val", n_episodes=2), FitContext(3, None, lines.append))
    assert next(values, None) is None
    assert any("kept" in line and "90.00 on val" in line for line in lines)
    shorter = CLASSES[name](chosen.params.model_copy(update={"epochs": 2, "select_every": None}))
    shorter.fit(part("base"), None, FitContext(3))
    expected = shorter.state()
    assert expected.keys() == chosen.state().keys()
    for key, tensor in chosen.state().items():
        torch.testing.assert_close(tensor, expected[key])


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", CLASSES)
def test_without_it_the_last_weights_are_kept_and_val_is_not_read(name):
    base, val = part("base"), part("val", n_episodes=2)
    states = []
    for given in (val, None):
        method = made(name)
        method.fit(base, given, FitContext(3))
        states.append(method.state())
    # no val part: nothing to choose on, so the last are kept as well
    method = made(name, select_every=1)
    method.fit(base, None, FitContext(3))
    states.append(method.state())
    for state in states[1:]:
        assert all(torch.equal(states[0][key], state[key]) for key in states[0])


@pytest.mark.usefixtures("one_thread", "at_once")
@pytest.mark.parametrize("name", CLASSES)
def test_a_killed_training_chooses_the_same_weights(name, tmp_path):
    base, val = part("base"), part("val", n_episodes=3)

    def run(folder, kill=False):
        seen = 0

        def log(line):
            nonlocal seen
            seen += ", val " in line or ": val " in line
            if kill and seen == 3:
                raise KilledError

        method = made(name, select_every=1)
        method.fit(base, val, FitContext(5, folder, log))
        return method.state()

    whole = run(tmp_path / "whole")
    with pytest.raises(KilledError):
        run(tmp_path / "cut", kill=True)
    again = run(tmp_path / "cut")
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    other = made(name, select_every=2)
    with pytest.raises(BenchError, match="another training"):
        other.fit(base, val, FitContext(5, tmp_path / "cut"))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", CLASSES)
def test_a_trained_backbone_is_chosen_with_the_rest(name):
    source = TrainableFakeSource(8)
    base = learnable_part("base", images=16, source=source)
    val = learnable_part("val", images=30, n_episodes=2, source=source)
    lines = []
    method = made(name, select_every=1)
    method.fit(base, val, FitContext(3, None, lines.append))
    best = next(line for line in reversed(lines) if "kept" in line).split("AP ")[1].split()[0]
    assert f"{100 * val_macro_ap(method.adapt_all, val):.2f}" == best
    assert not torch.equal(source.weight.detach(), torch.eye(8))
    assert not source.training

"""Training of word-guided attention: switches, seeds, selection, states, trainable sources."""

from __future__ import annotations

import pytest
import torch

from mlfsic_bench.methods.contract import FitContext, Images, Support
from mlfsic_bench.training.history import read_history
from tests.fakes.source import FakeSource, TrainableFakeSource, fake_episode, learnable_part
from tests.methods_wga.tiny_methods import FORMS, differ, tiny, trained, untrained

pytestmark = pytest.mark.slow

CHANGES_TRAINING = {
    "lam": 10.0,
    "score": "margin_distance",
    "dropout": 0.3,
    "local_dropout": 0.2,
    "lr": 1e-4,
    "warmup_lr": 1e-4,
    "final_lr": 0.0,
    "warmup_epochs": 0,
    "episodes_per_step": 2,
    "reduction": "sum",
    "gamma": 0.5,
    "aggregation": "per_image",
    "use_cmw_loss": False,
    "epochs": 3,
    "steps_per_epoch": 7,
    "prototype": "attention_global",
}
CHANGES_SHAPES = {
    "d_j": 9,
    "d_mlp": 11,
    "n_a": 2,
    "projections": "separate",
    "bias": True,
    "layer_norm": True,
    "output_projection": True,
    "prototype": "simple",
}


def last_state(**settings: object) -> dict[str, torch.Tensor]:
    method = tiny(**settings)
    method.fit(learnable_part("base"), None, FitContext(1))
    return method.state()


@pytest.fixture(scope="module")
def default_state():
    return last_state()


def test_equal_seeds_give_equal_weights(default_state):
    assert not differ(default_state, last_state())


@pytest.mark.parametrize("name", CHANGES_TRAINING)
def test_each_training_switch_changes_the_weights_but_not_the_shapes(name, default_state):
    state = last_state(**{name: CHANGES_TRAINING[name]})
    shapes = {k: v.shape for k, v in state.items()}
    assert shapes == {k: v.shape for k, v in default_state.items()}
    assert differ(state, default_state)


@pytest.mark.parametrize("name", CHANGES_SHAPES)
def test_each_structural_switch_changes_what_the_network_is_made_of(name, default_state):
    state = last_state(**{name: CHANGES_SHAPES[name]})
    shapes = {k: v.shape for k, v in state.items()}
    assert shapes != {k: v.shape for k, v in default_state.items()}


def test_a_residual_changes_the_weights(default_state):
    assert differ(last_state(residual=True), default_state)


def test_another_seed_gives_other_weights(default_state):
    method = tiny()
    method.fit(learnable_part("base"), None, FitContext(2))
    assert differ(method.state(), default_state)


def test_dropout_draws_differ_between_steps_and_touch_no_global_generator():
    before = torch.random.get_rng_state()
    trained()
    assert torch.equal(torch.random.get_rng_state(), before)
    from mlfsic_bench.methods.word_guided.model import episode_loss
    from mlfsic_bench.randomness import torch_generator

    model, episode = untrained().model, fake_episode(FakeSource())
    losses = [episode_loss(model, episode, torch_generator("dropout", 1, i)) for i in (0, 0, 1)]
    torch.testing.assert_close(losses[0], losses[1])
    assert not torch.allclose(losses[0], losses[2])


def test_selection_keeps_the_best_on_val_and_last_the_last(tmp_path):
    settings = {"epochs": 5, "steps_per_epoch": 10, "lr": 3e-2}
    best = trained(folder=tmp_path, **settings)
    last = trained(select="last", **settings)
    values = [row["value"] for row in read_history(tmp_path)]
    assert len(values) == 5
    assert max(values) > values[-1]  # otherwise the two can't be told apart
    assert differ(best.state(), last.state())
    from mlfsic_bench.training.loop import val_macro_ap

    val = learnable_part("val", n_episodes=3)
    assert val_macro_ap(best.adapt_all, val) == pytest.approx(max(values), abs=1e-6)
    assert val_macro_ap(last.adapt_all, val) == pytest.approx(values[-1], abs=1e-6)


def test_select_every_sets_how_often_val_is_looked_at(tmp_path):
    trained(folder=tmp_path, epochs=5, select_every=2)
    assert [row["value"] is not None for row in read_history(tmp_path)] == [
        False,
        True,
        False,
        True,
        True,
    ]


def test_training_learns_what_words_and_images_share():
    settings = {"d_j": 32, "epochs": 8, "steps_per_epoch": 50}
    method = trained(**settings, prototype="simple_local")
    from mlfsic_bench.training.loop import val_macro_ap

    val = learnable_part("val", n_episodes=20)
    assert val_macro_ap(method.adapt_all, val) > 0.75


@pytest.mark.parametrize("settings", FORMS.values(), ids=FORMS)
def test_a_saved_state_gives_the_same_scores(settings):
    method = trained(**settings)
    support = learnable_part("novel").episode(0).support
    query = Images(("a", "b"), support.images.source)
    fresh = tiny(**settings)
    fresh.load_state({name: tensor.clone() for name, tensor in method.state().items()})
    torch.testing.assert_close(fresh.adapt(support)(query), method.adapt(support)(query))
    assert not differ(fresh.state(), method.state())


def test_a_trainable_source_is_trained_in_one_batch_a_step_and_restored(tmp_path):
    source = TrainableFakeSource(8)
    base = learnable_part("base", source=source)
    val = learnable_part("val", source=source, n_episodes=2)
    method = tiny()
    method.fit(base, val, FitContext(1, tmp_path))
    assert not torch.equal(source.weight, torch.eye(8))
    assert not source.training
    # one batch of the backbone a training step, none in training mode while selecting
    steps = int(read_history(tmp_path)[-1]["step"])
    assert int(source.batches) <= steps
    assert int(source.batches) % 6 == 0
    state = method.state()
    assert {"backbone.weight", "backbone.batches"} <= state.keys()
    support = base.episode(99).support
    expected = method.adapt(support)(support.images)
    other = TrainableFakeSource(8)
    fresh = tiny()
    fresh.load_state(state)
    moved = Support(
        Images(support.images.ids, other), support.targets, support.labels, support.embeddings, 0
    )
    assert torch.allclose(fresh.adapt(moved)(moved.images), expected, atol=1e-5)
    assert torch.equal(other.weight, source.weight)

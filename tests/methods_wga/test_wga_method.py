from __future__ import annotations

import doctest
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import FitContext, Images, Support
from mlfsic_bench.methods.word_guided_attention import WordGuidedAttentionMethod
from mlfsic_bench.methods.word_guided_model import WordGuidedAttention
from mlfsic_bench.methods.word_guided_params import PRESETS, WordGuidedParams
from mlfsic_bench.training.history import read_history
from tests.fakes.source import (
    FakeSource,
    TrainableFakeSource,
    fake_episode,
    fake_support,
    learnable_part,
)

TINY = {
    "d_j": 12,
    "d_mlp": 10,
    "n_a": 3,
    "epochs": 2,
    "warmup_epochs": 1,
    "steps_per_epoch": 6,
    "select_every": 1,
}
FORMS = {
    "paper": {},
    "authors-tomm": PRESETS["authors-tomm"],
    "per image": {"aggregation": "per_image"},
    "layer norm": {"layer_norm": True},
    "global": {"prototype": "attention_global"},
    "simple": {"prototype": "simple"},
    "simple local": {"prototype": "simple_local"},
    "fine-tuned": {"fine_tune_epochs": 3},
}


def tiny(**settings: object) -> WordGuidedAttentionMethod:
    return WordGuidedAttentionMethod(WordGuidedParams(**{**TINY, **settings}))


def untrained(**settings: object) -> WordGuidedAttentionMethod:
    method = tiny(**settings)
    generator = torch.Generator().manual_seed(3)
    method.model = WordGuidedAttention(method.params, 6, 4, generator).eval()
    return method


def trained(seed: int = 1, folder=None, **settings: object) -> WordGuidedAttentionMethod:
    method = tiny(**settings)
    base, val = learnable_part("base"), learnable_part("val", n_episodes=3)
    method.fit(base, val, FitContext(seed, folder))
    return method


def differ(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() != b.keys() or any(not torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("settings", FORMS.values(), ids=FORMS)
def test_adapting_all_at_once_equals_one_by_one(settings):
    method, source = untrained(**settings), FakeSource()
    supports = []
    for e in range(6):  # few images, so that episodes share them
        support = fake_support(source, 4, extra=0.3, images=5, seed=e)
        order = torch.randperm(5, generator=torch.Generator().manual_seed(e))[: 3 + e % 3]
        images = support.images.subset(order.tolist())
        targets = support.targets[order].clone()
        targets[:, e % 4] *= e % 2  # at times a label that nobody carries
        supports.append(Support(images, targets, support.labels, support.words, e))
    query = Images(("a", "b", "c"), source)
    for one, support in zip(method.adapt_all(supports), supports, strict=True):
        expected = method.adapt(support)(query)
        assert one(query).shape == (3, 4)
        assert torch.allclose(one(query), expected, rtol=1e-4, atol=1e-4)


def test_supports_with_other_labels_or_words_are_adapted_one_by_one():
    method, source = untrained(), FakeSource()
    first, second = fake_support(source, 4), fake_support(source, 5)
    other = Support(first.images, first.targets, first.labels, first.words + 1, 0)
    query = Images(("a", "b"), source)
    for supports in ([first, second], [first, other]):
        for one, support in zip(method.adapt_all(supports), supports, strict=True):
            assert torch.allclose(one(query), method.adapt(support)(query), rtol=1e-4)
    assert method.adapt_all([]) == []


@pytest.mark.parametrize("settings", FORMS.values(), ids=FORMS)
def test_labels_permute_with_their_scores_and_queries_do_not_see_each_other(settings):
    method, source = untrained(**settings), FakeSource()
    support = fake_support(source, 5)
    query = Images(tuple("abcdef"), source)
    scores = method.adapt(support)(query)
    order = [3, 0, 4, 1, 2]
    permuted = Support(
        support.images,
        support.targets[:, order],
        tuple(support.labels[i] for i in order),
        support.words[order],
        support.seed,
    )
    assert torch.allclose(method.adapt(permuted)(query), scores[:, order], rtol=1e-4, atol=1e-4)
    part = [4, 1]
    alone = method.adapt(support)(query.subset(part))
    assert torch.allclose(alone, scores[part], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("settings", [f for f in FORMS.values() if "fine_tune_epochs" not in f])
def test_a_prototype_comes_only_from_images_that_carry_the_label(settings):
    method, source = untrained(**settings), FakeSource()
    support = fake_support(source, 4)
    targets = torch.eye(4)
    targets[1, 0] = 1  # labels 0 and 1 meet in image 1

    def prototypes(ids: tuple[str, ...]) -> torch.Tensor:
        s = Support(Images(ids, source), targets, support.labels, support.words, 0)
        return method.adapt(s).prototypes

    before, after = prototypes(("a", "b", "c", "d")), prototypes(("a", "z", "c", "d"))
    changed = (before - after).abs().amax(1) > 1e-5
    assert changed.tolist() == [True, True, False, False]


def test_adapting_changes_nothing_in_the_method_even_when_it_fine_tunes():
    source = FakeSource()
    support, query = fake_support(source, 4), Images(("a", "b"), source)
    method = untrained(fine_tune_epochs=5, fine_tune_lr=1e-2)
    before = method.state()
    tuned = method.adapt(support)(query)
    assert not differ(before, method.state())
    assert torch.equal(tuned, method.adapt(support)(query))
    assert all(t.grad is None for t in method.model.parameters())
    assert not torch.allclose(tuned, untrained().adapt(support)(query))


def test_fine_tuning_lowers_the_cmw_loss_of_the_support():
    from mlfsic_bench.methods.word_guided_loss import cmw_loss

    method, support = untrained(fine_tune_epochs=40, fine_tune_lr=1e-3), fake_support(FakeSource())

    def loss(model) -> float:
        f_glo = support.images.pooled()
        return cmw_loss(model, f_glo, support.targets, support.words).item()

    assert loss(method.adapt(support).model) < loss(method.model) - 0.01
    assert method.adapts_by_gradient
    assert not untrained().adapts_by_gradient


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
    from mlfsic_bench.methods.word_guided_loss import episode_loss
    from mlfsic_bench.randomness import torch_generator

    model, episode = untrained().model, fake_episode(FakeSource())
    losses = [episode_loss(model, episode, torch_generator("dropout", 1, i)) for i in (0, 0, 1)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


def test_selection_keeps_the_best_on_val_and_last_the_last(tmp_path):
    settings = {"epochs": 5, "steps_per_epoch": 10, "lr": 3e-2}
    best = trained(folder=tmp_path, **settings)
    last = trained(select="last", **settings)
    values = [row["value"] for row in read_history(tmp_path)]
    assert len(values) == 5
    assert max(values) > values[-1]  # otherwise the two can't be told apart
    assert differ(best.state(), last.state())
    from mlfsic_bench.training.selection import val_macro_ap

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
    settings = {"d_j": 32, "d_mlp": 32, "n_a": 4, "epochs": 8, "steps_per_epoch": 50}
    method = trained(**settings, prototype="simple_local")
    from mlfsic_bench.training.selection import val_macro_ap

    val = learnable_part("val", n_episodes=20)
    assert val_macro_ap(method.adapt_all, val) > 0.75


@pytest.mark.parametrize("settings", FORMS.values(), ids=FORMS)
def test_a_saved_state_gives_the_same_scores(settings):
    method = trained(**settings)
    support = learnable_part("novel").episode(0).support
    query = Images(("a", "b"), support.images.source)
    fresh = tiny(**settings)
    fresh.load_state({name: tensor.clone() for name, tensor in method.state().items()})
    assert torch.equal(fresh.adapt(support)(query), method.adapt(support)(query))
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
        Images(support.images.ids, other), support.targets, support.labels, support.words, 0
    )
    assert torch.allclose(fresh.adapt(moved)(moved.images), expected, atol=1e-5)
    assert torch.equal(other.weight, source.weight)


def test_attention_maps_are_the_softmax_of_their_scores_and_make_the_prototype():
    source = FakeSource()
    support = fake_support(source, 4, extra=0.4)
    label = int(support.targets.sum(0).argmax())
    m = int(support.targets[:, label].sum())
    assert m >= 2
    method = untrained(bias=True)
    a, mu = method.attention_scores(support, label), method.attention_weights(support, label)
    assert a.shape == mu.shape == (m, 3, 2, 3)
    assert torch.allclose(mu.sum((0, 2, 3)), torch.ones(3))
    assert torch.allclose(mu.log() - a, (mu.log() - a)[:1, :, :1, :1].expand_as(a), atol=1e-4)
    u = support.images.local()[support.targets[:, label] > 0]
    pooled = torch.einsum("ijyx,inyx->jn", mu, u)
    p = method.model.mlp(method.model.values(pooled[None]), None)
    assert torch.allclose(p[0], method.adapt(support).prototypes[label], atol=1e-4)
    each = untrained(aggregation="per_image").attention_weights(support, label)
    assert torch.allclose(each.sum((2, 3)), torch.ones(m, 3))
    simple = untrained(prototype="simple_local").attention_scores(support, label)
    assert simple.shape == (m, 1, 2, 3)
    with pytest.raises(BenchError, match="whole images"):
        untrained(prototype="simple").attention_scores(support, label)


def test_biases_of_the_keys_show_in_the_scores():
    support = fake_support(FakeSource(), 4)
    method = untrained(bias=True)
    before = method.attention_scores(support, 1)
    with torch.no_grad():
        method.model.b_K += 1
    shift = method.attention_scores(support, 1) - before
    assert shift.abs().max() > 1e-4
    assert torch.allclose(shift, shift[:1, :, :1, :1].expand_as(shift), atol=1e-5)


def test_what_cannot_be_done_is_one_clear_error():
    source = FakeSource()
    support = fake_support(source)
    with pytest.raises(BenchError, match="has not been trained"):
        tiny().adapt(support)
    wordless = Support(support.images, support.targets, support.labels, None, 0)
    with pytest.raises(BenchError, match="needs label vectors"):
        untrained().adapt(wordless)
    with pytest.raises(BenchError, match="number of channels"):
        untrained().adapt(fake_support(FakeSource(7)))
    with pytest.raises(BenchError, match="does not fit"):
        tiny().load_state({"x": torch.zeros(1)})
    with pytest.raises(BenchError, match="does not fit"):
        tiny(d_j=8, n_a=2).load_state(untrained().state())


@pytest.mark.parametrize(
    "settings",
    [
        {"n_a": 13},
        {"residual": True, "n_a": 5},
        {"prototype": "simple", "aggregation": "per_image"},
        {"heads": 8},
        {"dropout": 1.0},
    ],
)
def test_parameters_that_do_not_go_together_are_refused(settings):
    with pytest.raises(ValidationError):
        WordGuidedParams(**{**TINY, **settings})


def test_presets_are_valid_and_paper_is_the_default():
    assert WordGuidedParams(**PRESETS["paper"]) == WordGuidedParams()
    tomm = WordGuidedParams(**PRESETS["authors-tomm"])
    assert (tomm.lr, tomm.episodes_per_step, tomm.score) == (1e-4, 4, "margin_distance")


@pytest.mark.parametrize(
    ("epochs", "asked", "warmup"),
    [(200, 10, 10), (11, 10, 10), (10, 10, 5), (3, 10, 1), (1, 10, 0)],
)
def test_a_warm_up_longer_than_the_training_is_shortened(epochs, asked, warmup):
    assert WordGuidedParams(epochs=epochs, warmup_epochs=asked).warmup == warmup


def test_one_epoch_needs_no_other_setting(tmp_path):
    method = WordGuidedAttentionMethod(
        WordGuidedParams(d_j=12, d_mlp=10, n_a=3, epochs=1, steps_per_epoch=3)
    )
    method.fit(learnable_part("base"), None, FitContext(0, tmp_path))
    (row,) = read_history(tmp_path)
    assert row["lr"] == method.params.lr


def test_the_example_with_given_weights_in_the_docs():
    path = Path(__file__).parents[2] / "docs" / "model.md"
    failed, tried = doctest.testfile(str(path), module_relative=False)
    assert tried >= 10
    assert failed == 0


@pytest.mark.parametrize("form", FORMS)
def test_the_docs_name_every_tensor(form):
    text = (Path(__file__).parents[2] / "docs" / "model.md").read_text().partition("## Weights")[2]
    for name in untrained(**FORMS[form]).model.state_dict():
        assert f"`{name.partition('.')[0]}`" in text, name

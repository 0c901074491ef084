"""The fast forms agree with the loops written from the paper, gradients included."""

from __future__ import annotations

import pytest
import torch

from mlfsic_bench.methods.word_guided import attention_pool
from mlfsic_bench.methods.word_guided.model import WordGuidedAttention, episode_loss, sorted_support
from mlfsic_bench.methods.word_guided.params import PRESETS, WordGuidedParams
from tests.fakes.naive_word_guided import naive_loss, naive_prototypes
from tests.fakes.source import FakeSource, fake_episode, fake_support
from tests.methods_wga.tiny_methods import params

pytestmark = pytest.mark.slow

SMALL = {"d_j": 12, "d_mlp": 10, "n_a": 3, "dropout": 0.0, "lam": 5.0}
TOMM = {k: v for k, v in PRESETS["authors-tomm"].items() if k != "local_dropout"}
VARIANTS = {
    "paper": {},
    "margin_distance": {"score": "margin_distance"},
    "odd heads": {"n_a": 5},
    "one head": {"n_a": 1},
    "separate": {"projections": "separate"},
    "bias": {"bias": True},
    "separate bias": {"projections": "separate", "bias": True},
    "layer norm": {"layer_norm": True},
    "residual": {"residual": True},
    "output projection": {"output_projection": True, "n_a": 5},
    "identity": {"start": "identity", "residual": True, "output_projection": True},
    "per image": {"aggregation": "per_image"},
    "per image bias": {"aggregation": "per_image", "bias": True},
    "global": {"prototype": "attention_global"},
    "global per image": {"prototype": "attention_global", "aggregation": "per_image"},
    "simple": {"prototype": "simple"},
    "simple bias": {"prototype": "simple", "bias": True},
    "simple local": {"prototype": "simple_local"},
    "simple local separate": {"prototype": "simple_local", "projections": "separate"},
    "sum": {"reduction": "sum", "gamma": 0.3},
    "no cmw": {"use_cmw_loss": False},
    "authors-tomm": TOMM,
    "authors-tomm joint": {**TOMM, "aggregation": "joint"},
}
# (labels, local features): few labels keep values() in its first form, many bring the second
SIZES = {"few labels": 3, "many labels": 13}


def make(settings: dict[str, object], absorb: bool = True) -> WordGuidedAttention:
    generator = torch.Generator().manual_seed(1)
    model = WordGuidedAttention(params(SMALL, settings), 6, 4, generator).double()
    with torch.no_grad():  # biases and norms start near trivial values, which would hide them
        for name, tensor in model.named_parameters():
            if tensor.ndim == 1 or name.startswith("b_"):
                tensor += 0.3 * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
    model.absorbed = model.absorbed and absorb
    return model


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-30))


@pytest.mark.parametrize("absorb", [True, False], ids=["absorbed", "dense"])
@pytest.mark.parametrize("labels", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_loss_and_gradients_agree_with_the_loops(settings, labels, absorb):
    model = make(settings, absorb)
    source = FakeSource(dtype=torch.float64, grid=(1, 2))
    episode = fake_episode(source, labels, queries=1)
    expected = naive_loss(model, episode)
    gradients = torch.autograd.grad(expected, list(model.parameters()), allow_unused=True)
    loss = episode_loss(model, episode, None)
    loss.backward()
    assert relative(loss, expected) < 1e-10
    for (name, tensor), gradient in zip(model.named_parameters(), gradients, strict=True):
        if gradient is None or gradient.abs().max() < 1e-12:  # b_K: cancels in the softmax
            assert tensor.grad is None or tensor.grad.abs().max() < 1e-12, name
        else:
            assert relative(tensor.grad, gradient) < 1e-10, name


@pytest.mark.parametrize("absorb", [True, False], ids=["absorbed", "dense"])
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_prototypes_agree_where_labels_are_missing_and_images_carry_none(settings, absorb):
    model = make(settings, absorb)
    support = fake_support(FakeSource(dtype=torch.float64), 4, images=5)
    targets = support.targets.clone()
    targets[:, 2] = 0  # a label nobody carries
    targets[1] = 0  # an image that carries nothing
    targets[3] = 1  # an image that carries (nearly) all
    targets[3, 2] = 0
    maps, glo = support.images.local(), support.images.pooled()
    expected = naive_prototypes(model, maps, glo, targets, support.embeddings)
    found = model.prototypes(maps, glo, targets, support.embeddings)
    assert relative(found, expected) < 1e-10
    torch.testing.assert_close(found[2], model.w_hat(support.embeddings)[2])


@pytest.mark.parametrize("settings", [{}, {"aggregation": "per_image"}], ids=["joint", "each"])
def test_sums_in_any_order_are_avoided_where_a_device_would_take_any(settings, monkeypatch):
    model = make(settings)
    source = FakeSource(dtype=torch.float64, grid=(1, 2))
    episode = fake_episode(source, 5, queries=1)
    expected = torch.autograd.grad(naive_loss(model, episode), list(model.parameters()))
    monkeypatch.setattr(attention_pool, "adds_in_order", lambda index: False)
    episode_loss(model, episode, None).backward()
    for (name, tensor), gradient in zip(model.named_parameters(), expected, strict=True):
        assert relative(tensor.grad, gradient) < 1e-10, name


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_images_may_come_in_any_order(settings):
    model = make(settings)
    support = fake_support(FakeSource(dtype=torch.float64), 4, extra=0.4, images=9)
    maps, glo, targets = support.images.local(), support.images.pooled(), support.targets
    expected = model.prototypes(maps, glo, targets, support.embeddings)
    images, sorted_targets = sorted_support(support)
    counts = sorted_targets.sum(1)
    assert torch.equal(counts, targets.sum(1).sort().values)
    assert not torch.equal(counts, targets.sum(1))
    found = model.prototypes(images.local(), images.pooled(), sorted_targets, support.embeddings)
    assert relative(found, expected) < 1e-10


def test_pairs_are_runs_of_images_with_equally_many_labels():
    targets = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1], [0, 1, 1]])
    pairs = attention_pool.Pairs.of(targets, torch.float32)
    assert pairs.runs == ((2, 1), (1, 0), (2, 2))
    assert pairs.label.tolist() == [1, 0, 0, 2, 1, 2]
    assert attention_pool.by_label_count(targets) == [2, 0, 1, 3, 4]


def test_scores_far_apart_neither_overflow_nor_vanish():
    model = make({})
    support = fake_support(FakeSource(dtype=torch.float64), 3)
    maps, glo = support.images.local(), support.images.pooled()
    with torch.no_grad():
        model.Q *= 3000
    expected = naive_prototypes(model, maps, glo, support.targets, support.embeddings)
    found = model.prototypes(maps, glo, support.targets, support.embeddings)
    assert found.isfinite().all()
    assert relative(found, expected) < 1e-9


@pytest.mark.parametrize(
    ("heads", "d_a"), [(1, 512), (2, 256), (6, 85), (8, 64), (10, 51), (12, 42), (14, 36), (16, 32)]
)
def test_each_head_has_floor_of_d_j_over_heads_dimensions(heads, d_a):
    model = WordGuidedAttention(WordGuidedParams(n_a=heads), 3, 2)
    assert model.K.shape == (heads, d_a, 512)
    assert model.W_1.shape == (1024, heads * d_a)
    assert model.W_2.shape == (512, 1024)

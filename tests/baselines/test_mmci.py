"""`mmci` against loops: the measurement by finite differences, prototypes place by place."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from mlfsic_bench.methods.contract import FitContext, Support
from mlfsic_bench.methods.word_guided.mmci import (
    MMCI,
    CrossInteraction,
    MmciParams,
    kept_places,
    loss_change,
    stretched,
)
from mlfsic_bench.training.history import read_history
from mlfsic_bench.training.loop import val_macro_ap
from tests.fakes.naive_word_guided import affine, cross_entropy, layer_norm, logit, mlp
from tests.fakes.source import FakeSource, fake_support, learnable_part

SMALL = {"d_j": 12, "d_mlp": 10, "n_a": 3, "lam": 5.0}
FORMS = {
    "default": {},
    "released": MMCI.presets["released"],
    "channels alone": {"dynamic_convolution": False},
    "convolution alone": {"channel_attention": False, "d_conv": 5},
    "plain": {"layer_norm": False, "bias": False, "projections": "shared", "score": "cosine"},
}


def network(settings: dict[str, object], n: int = 6, d_w: int = 4) -> CrossInteraction:
    """In double precision, with biases and norms away from the values they start at."""
    generator = torch.Generator().manual_seed(1)
    model = CrossInteraction(MmciParams(**{**SMALL, **settings}), n, d_w, generator).double()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim == 1 or name.startswith("b_"):
                tensor += 0.3 * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
    return model


def naive_loss_change(z, b, w_hat, targets, *, params, steps: int, lr: float) -> list[list[float]]:
    """The measurement from the loss alone: gradients are differences, coefficients are numbers."""
    S, P, C = len(z), len(z[0]), len(w_hat)

    def loss(rho) -> float:
        total = 0.0
        for i in range(S):
            f = b + sum(rho[i][k] * z[i][k] for k in range(P)) / P
            for c in range(C):
                total += float(cross_entropy(logit(f, w_hat[c], params), targets[i, c]))
        return total / (S * C)

    def slope(rho, i, k, h=1e-5) -> float:
        up, down = ([list(row) for row in rho] for _ in range(2))
        up[i][k] += h
        down[i][k] -= h
        return (loss(up) - loss(down)) / (2 * h)

    rho = [[1.0] * P for _ in range(S)]
    mean, m, v = ([[0.0] * P for _ in range(S)] for _ in range(3))
    for t in range(1, steps + 1):
        if t > 1:
            for i in range(S):
                low, high = min(rho[i]), max(rho[i])
                row = [(r - low) / (high - low) for r in rho[i]]
                second = sorted(row)[1]
                rho[i] = [r if r > 0 else second for r in row]
        g = [[slope(rho, i, k) for k in range(P)] for i in range(S)]
        for i in range(S):
            for k in range(P):
                change = abs(g[i][k] * rho[i][k])
                a = min(1 - 1 / (t + 1), 0.95)
                mean[i][k] = change if t == 1 else a * mean[i][k] + (1 - a) * change
                m[i][k] = 0.9 * m[i][k] + 0.1 * g[i][k]
                v[i][k] = 0.999 * v[i][k] + 0.001 * g[i][k] ** 2
                step = math.sqrt(v[i][k] / (1 - 0.999**t)) + 1e-8
                rho[i][k] -= lr * m[i][k] / (1 - 0.9**t) / step
    return mean


def naive_prototype(m: CrossInteraction, f_loc, carrying, kept, w) -> Tensor:
    """The prototype of one label from the kept places of the images that carry it, one by one."""
    p, w_hat = m.params, affine(m.A_text, w, m.b_text)
    q_c = layer_norm(w_hat, m.norm_attention) if p.layer_norm else w_hat
    A, b = (m.A_local, m.b_local) if m.separate else (m.A_visual, m.b_visual)
    places = []
    for i in carrying:
        for k in range(f_loc[i][0].numel()):
            if not kept[i, k]:
                continue
            x = affine(A, f_loc[i].flatten(1)[:, k], b)
            x = layer_norm(x, m.norm_attention) if p.layer_norm else x
            if p.channel_attention:
                gate = affine(m.C_2, affine(m.C_1, x + q_c, m.b_C1), m.b_C2)
                x = x + x * torch.sigmoid(gate)
            places.append(x)
    heads = []
    for j in range(p.n_a):
        q = affine(m.Q[j], q_c, None if m.b_Q is None else m.b_Q[j])
        a, v = [], []
        for x in places:
            k = affine(m.K[j], x, None if m.b_K is None else m.b_K[j])
            a.append(torch.dot(q, k) / math.sqrt(p.d_a))
            v.append(affine(m.V[j], x, None if m.b_V is None else m.b_V[j]))
        mu = torch.softmax(torch.stack(a), 0)
        heads.append(sum(mu[i] * v[i] for i in range(len(v))))
    prototype = mlp(m, torch.cat(heads))
    if not p.dynamic_convolution:
        return prototype
    kernels = affine(m.D, q_c, m.b_D)
    K = kernels[: p.d_j * p.d_conv].view(p.d_j, p.d_conv)
    M = kernels[p.d_j * p.d_conv :].view(p.d_conv, p.d_j)
    filtered = []
    for x in places:
        inner = torch.relu(norm_5(K.T @ x, m.norm_filter))
        filtered.append(torch.relu(norm_5(M.T @ inner, m.norm_filtered)))
    return norm_5(prototype + sum(filtered) / len(filtered), m.norm_sum)


def norm_5(x: Tensor, norm) -> Tensor:
    """The layer norms of the convolution, which have torch's default of 1e-5."""
    return torch.nn.functional.layer_norm(x, x.shape, norm.weight, norm.bias, 1e-5)


@pytest.mark.parametrize("form", ["cosine", "margin_distance"])
@pytest.mark.parametrize("steps", [1, 6])
def test_the_measurement_is_that_of_loops_and_finite_differences(form, steps):
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    b, w_hat = torch.randn(5, dtype=z.dtype, generator=generator), torch.eye(5, dtype=z.dtype)[:3]
    targets = torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 0, 1]], dtype=z.dtype)
    params = MmciParams(lam=5.0, score=form)
    expected = naive_loss_change(z, b, w_hat, targets, params=params, steps=steps, lr=0.01)
    found = loss_change(z, b, w_hat, targets, lam=5.0, form=form, steps=steps, lr=0.01)
    torch.testing.assert_close(found, z.new_tensor(expected), rtol=1e-5, atol=1e-9)


def test_places_that_speak_against_their_label_fall_behind_the_others():
    w_hat = torch.eye(6)[:2]
    z = torch.stack([w_hat[0], w_hat[0], -w_hat[0], w_hat[1]])[None]
    z = z + 0.3 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[1.0, 0.0]])

    def change(steps: int) -> Tensor:
        form = "margin_distance"
        return loss_change(z, None, w_hat, targets, lam=5.0, form=form, steps=steps, lr=1e-4)[0]

    once, often = change(1), change(200)
    assert once.min() > 0.5 * once.max()  # one step measures both kinds and moves neither
    assert often[:2].min() > 100 * often[2:].max()
    assert kept_places(often[None], 0.5).tolist() == [[True, True, False, False]]


def test_places_are_kept_above_the_threshold_or_by_share():
    # sigmoid(1e8 x) >= 0.65 where x >= 6.19e-9
    change = torch.tensor([[1e-9, 6.1e-9, 6.3e-9, 1.0], [0, 0, 0, 1e-9]], dtype=torch.float64)
    assert kept_places(change, None).tolist() == [[False, False, True, True], [True] * 4]
    assert kept_places(change, 0.5).tolist() == [[False, False, True, True], [True] * 4]
    assert kept_places(change, 0.01).sum(1).tolist() == [1, 1]


def test_coefficients_are_stretched_in_each_image():
    rho = torch.tensor([[1.0, 2, 3, 5], [2, 2, 2, 2]])
    assert stretched(rho).tolist() == [[0.25, 0.25, 0.5, 1.0], [1.0] * 4]
    assert stretched(torch.ones(2, 1)).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("settings", FORMS.values(), ids=FORMS)
def test_prototypes_are_those_of_loops_over_the_kept_places(settings):
    model = network(settings)
    support = fake_support(FakeSource(dtype=torch.float64), 4, extra=0.4, images=5)
    targets = support.targets.double()
    targets[:, 2] = 0  # a label that nobody carries
    targets[1] = 0  # an image that carries nothing
    f_loc, w = support.images.local(), support.embeddings
    kept = torch.rand(5, 6, generator=torch.Generator().manual_seed(2)) < 0.6
    kept[:, 0] = True
    found = model.prototypes(f_loc, f_loc.mean((2, 3)), targets, w, kept=kept)
    for c in range(4):
        carrying = targets[:, c].nonzero()[:, 0].tolist()
        expected = naive_prototype(model, f_loc, carrying, kept, w[c]) if carrying else None
        expected = model.w_hat(w)[c] if expected is None else expected
        torch.testing.assert_close(found[c], expected, rtol=1e-9, atol=1e-9)
    everything = model.prototypes(f_loc, f_loc.mean((2, 3)), targets, w)
    assert not torch.allclose(everything, found)


def test_labels_that_nobody_carries_keep_their_word_and_attention_can_be_shown():
    method, support = small(), fake_support(FakeSource(), 4, extra=0.4)
    method.model = CrossInteraction(method.params, 6, 4).eval()
    f_loc, w = support.images.local(), support.embeddings
    nobody = torch.zeros_like(support.targets)
    p = method.model.prototypes(f_loc, f_loc.mean((2, 3)), nobody, w)
    torch.testing.assert_close(p, method.model.w_hat(w))
    shown = method.attention_scores(support, 0)
    assert shown.shape == (int(support.targets[:, 0].sum()), 2, 2, 3)
    with torch.no_grad():
        method.model.C_2 *= 5  # the gates, through which attention looks
    assert not torch.allclose(shown, method.attention_scores(support, 0))


def small(**settings: object) -> MMCI:
    sizes = {"d_j": 16, "d_mlp": 16, "n_a": 2, "d_conv": 4, "warmup_epochs": 1, "select_every": 2}
    if settings.get("dynamic_convolution") is False:
        del sizes["d_conv"]
    return MMCI(MmciParams(**{**sizes, "lcm_steps": 20, **settings}))


def test_it_learns_and_keeps_what_is_best_on_val(tmp_path):
    method, val = (
        small(epochs=6, steps_per_epoch=20, lcm_steps=5, lr=3e-3),
        learnable_part("val", n_episodes=10),
    )
    method.fit(learnable_part("base", labels=6), val, FitContext(1, tmp_path))
    values = [row["value"] for row in read_history(tmp_path) if row["value"] is not None]
    value = val_macro_ap(method.adapt_all, val)
    assert len(values) == 3
    assert value == pytest.approx(max(values), abs=1e-6)
    assert value > float(val.targets.mean()) + 0.1


def test_the_places_kept_reach_the_scores():
    scores = []
    for settings in ({"lcm_steps": 0}, {"lcm_keep": 0.3}, {"lcm_keep": 0.3, "lcm_steps": 1}):
        method = small(**settings)
        method.model = CrossInteraction(method.params, 6, 4).eval()
        support = fake_support(FakeSource(), 4)
        scores.append(method.adapt(support)(support.images))
    assert not torch.allclose(scores[0], scores[1])
    assert not torch.allclose(scores[0], scores[2])


@pytest.mark.parametrize("settings", [{"lcm_keep": 0.4}, {}, {"lcm_steps": 0}])
def test_adapting_all_at_once_equals_one_by_one(settings):
    method, source = small(**settings), FakeSource()
    method.model = CrossInteraction(method.params, 6, 4).eval()
    supports = []
    for e in range(4):  # few images, so that episodes share them; of other sizes
        support = fake_support(source, 4, extra=0.3, images=5)
        order = torch.randperm(5, generator=torch.Generator().manual_seed(e))[: 3 + e % 3]
        images, targets = support.images.subset(order.tolist()), support.targets[order].clone()
        targets[:, e % 4] *= e % 2  # at times a label that nobody carries
        supports.append(Support(images, targets, support.labels, support.embeddings, e))
    query = support.images
    for one, support in zip(method.adapt_all(supports), supports, strict=True):
        expected = method.adapt(support)(query)
        torch.testing.assert_close(one(query), expected, rtol=1e-4, atol=1e-4)


def test_it_says_when_coefficients_are_tuned():
    assert MMCI().adapts_by_gradient
    assert not small(lcm_steps=1).adapts_by_gradient
    assert not small(lcm_steps=0).adapts_by_gradient
    assert small(lcm_steps=0, fine_tune_epochs=2).adapts_by_gradient


@pytest.mark.parametrize(
    "settings",
    [
        {"lcm_steps": 0, "lcm_keep": 0.5},
        {"lcm_steps": 1, "lcm_lr": 0.1},
        {"dynamic_convolution": False, "d_conv": 8},
        {"aggregation": "per_image"},
        {"prototype": "simple"},
    ],
)
def test_parameters_without_effect_are_refused(settings):
    with pytest.raises(ValidationError):
        MmciParams(**settings)

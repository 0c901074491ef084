"""lpn: the closed form against iterations in float64, the label counter against loops, learning."""

import numpy as np
import pytest
import torch
from mlfsic_baselines.prototypes.propagation import (
    LPN,
    MOST,
    LPNParams,
    affinities,
    pair_totals,
    spread,
    voted,
)
from pydantic import ValidationError

from mlfsic_bench.methods.contract import FitContext, Images
from mlfsic_bench.training.loop import val_macro_ap
from tests.fakes.source import FakeSource, fake_support, learnable_part

SMALL = {"hidden": 6, "steps": 4, "select_every": 2, "lr": 1e-2}


def naive_affinities(z, width):
    """exp(-d^2 / (width times the lower median of d^2 between different images))."""
    n = len(z)
    d2 = [[sum((a - b) ** 2 for a, b in zip(z[i], z[j], strict=True)) for j in range(n)]
          for i in range(n)]  # fmt: skip
    others = sorted(d2[i][j] for i in range(n) for j in range(n) if i != j)
    median = others[(len(others) - 1) // 2]
    return np.array(
        [[0 if i == j else np.exp(-d2[i][j] / (width * median)) for j in range(n)]
         for i in range(n)]
    )  # fmt: skip


def naive_spread(W, Y, form, alpha):
    """The iterations whose ends the closed forms are."""
    s, n = len(Y), len(W)
    start = np.zeros((n, Y.shape[1]))
    start[:s] = Y
    degrees = W.sum(1)
    F = start.copy()
    S = [[W[i, j] / np.sqrt(degrees[i] * degrees[j]) for j in range(n)] for i in range(n)]
    S = np.array(S)
    for _ in range(3000):
        if form == "spreading":
            F = alpha * S @ F + (1 - alpha) * start
        else:
            F = (W / degrees[:, None]) @ F
            F[:s] = Y
    return F[s:]


@pytest.mark.parametrize(("form", "alpha"), [("spreading", 0.5), ("spreading", 0.9),
                                             ("harmonic", 0.9)])  # fmt: skip
def test_scores_are_where_the_iterations_end(form, alpha):
    source = FakeSource()
    settings = {"form": form} | ({"alpha": alpha} if form == "spreading" else {})
    method = LPN(LPNParams(projection="none", width=0.4, hidden=4, **settings))
    method.load_state({k: torch.zeros(v) for k, v in method.shapes(source).items()})
    support, query = fake_support(source, extra=0.4), Images(tuple("abcdefg"), source)
    f = torch.cat([support.images.pooled(), query.pooled()]).double().numpy()
    z = f / np.linalg.norm(f, axis=1, keepdims=True)
    Y = support.targets.double().numpy()
    F = naive_spread(naive_affinities(z, 0.4), Y / Y.sum(1, keepdims=True), form, alpha)
    expected = np.log(F.shape[1] * F / F.sum(1, keepdims=True))
    np.testing.assert_allclose(method.adapt(support)(query).numpy(), expected, atol=2e-5)


def test_the_harmonic_form_gives_shares_that_sum_to_1():
    W = affinities(torch.rand(9, 3, generator=torch.Generator().manual_seed(1)), 0.5)
    Y = torch.eye(4, dtype=torch.float64)
    F = spread(W, Y, "harmonic", 0.9)
    torch.testing.assert_close(F.sum(1), torch.ones(5, dtype=torch.float64))


def test_counts_are_what_the_pairs_vote_for():
    generator = torch.Generator().manual_seed(2)
    d, h, s, q = 6, 5, 3, 6
    method = LPN(LPNParams(hidden=h))
    weights = {
        name: torch.randn(shape, generator=generator)
        for name, shape in method.shapes(FakeSource()).items()
    }
    z, x = 5 * torch.randn(q, d, generator=generator), torch.randn(s, d, generator=generator)
    known = torch.tensor([1, 3, 2])
    W = {name: tensor.double().numpy() for name, tensor in weights.items()}
    mean, expected = x.double().numpy().mean(0), []
    for one in z.double().numpy():
        votes = np.zeros(5)
        for other, n in zip(x.double().numpy(), known.tolist(), strict=True):
            hidden = (
                W["count_query"] @ one * d**0.5 + W["count_support"] @ other * d**0.5
                + W["count_mean"] @ mean * d**0.5 + W["count_bias"]
            )  # fmt: skip
            logits = W["count_out"] @ np.maximum(hidden, 0) + W["count_out_bias"]
            p = np.exp(logits - logits.max())
            votes += [p[k + n] / p.sum() for k in range(1, 6)]
        expected.append(1 + int(votes.argmax()))
    logits = pair_totals(weights, z, x)
    assert logits.shape == (q, s, 2 * MOST + 1)
    assert voted(logits, known, 5).tolist() == expected
    assert len(set(expected)) > 1


def test_as_many_labels_are_predicted_as_counted_and_those_the_highest():
    base = learnable_part("base")
    method = LPN(LPNParams(**SMALL))
    method.fit(base, None, FitContext(1))
    episode = base.episode(0)
    predictor = method.adapt(episode.support)
    scores, decided = predictor(episode.query), predictor.decide(episode.query)
    assert ((decided.sum(1) >= 1) & (decided.sum(1) <= scores.shape[1])).all()
    for score, chosen in zip(scores, decided, strict=True):
        assert not (~chosen).any() or score[chosen].min() >= score[~chosen].max()


@pytest.mark.parametrize("count_weight", [0.0, 1.0])
def test_training_lowers_the_losses_and_the_graph_beats_chance(count_weight):
    base, val = learnable_part("base"), learnable_part("val", n_episodes=10)
    losses = []
    for steps in (0, 60):
        settings = SMALL | {"steps": steps, "select_every": 30, "count_weight": count_weight}
        method = LPN(LPNParams(**settings))
        method.fit(base, val, FitContext(1))
        losses.append(sum(float(method.loss(method.state(), base, i, 1)) for i in range(99, 109)))
    assert losses[1] < losses[0]
    chance = torch.cat([val.episode(i).query_targets for i in range(10)]).mean()
    assert val_macro_ap(method.adapt_all, val) > 1.2 * float(chance)


def test_without_a_projection_the_last_counter_is_kept():
    base, val = learnable_part("base"), learnable_part("val", n_episodes=2)
    settings = {"hidden": 6, "steps": 4, "lr": 1e-2, "projection": "none"}
    states = []
    for part in (val, None):
        method = LPN(LPNParams(**settings))
        method.fit(base, part, FitContext(1))
        assert "A" not in method.state()
        states.append(method.state())
    assert all(torch.equal(a, states[1][name]) for name, a in states[0].items())


def test_alpha_has_no_effect_in_the_harmonic_form():
    with pytest.raises(ValidationError, match="alpha"):
        LPNParams(form="harmonic", alpha=0.5)

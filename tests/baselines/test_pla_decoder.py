"""pla: the decoder against its equations, dropout, scores and greedy sets."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mlfsic_baselines import pla
from mlfsic_baselines.pla import PLAParams
from mlfsic_baselines.pla_decoder import alignment_loss, read_out

from mlfsic_bench.randomness import torch_generator
from tests.baselines.small_pla import naive_read_out, peaked, small_decoder
from tests.fakes.source import learnable_part
from tests.searches import examples


def naive_logits(decoder, f_loc, steps):
    """The decoder's equations for one image, place by place and gate by gate."""
    d = decoder
    u = [f_loc[:, i, j] for i in range(f_loc.shape[1]) for j in range(f_loc.shape[2])]
    mean = sum(u) / len(u)
    h = d.h_0.weight @ mean + d.h_0.bias
    c = d.c_0.weight @ mean + d.c_0.bias
    embedding, rows = d.special[1], []
    for _ in range(steps):
        hidden = d.A_h.weight @ h + d.A_h.bias
        e = [d.v @ (d.A_u.weight @ x + d.A_u.bias + hidden).clamp(min=0) for x in u]
        a = torch.stack(e).exp() / sum(v.exp() for v in e)
        context = sum(w * x for w, x in zip(a, u, strict=True))
        context = torch.sigmoid(d.G.weight @ h + d.G.bias) * context
        cell, x = d.cell, torch.cat([embedding, context])
        i, f, g, o = (cell.weight_ih @ x + cell.bias_ih + cell.weight_hh @ h + cell.bias_hh).chunk(
            4
        )
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        W = torch.cat([d.W, d.end])
        z = W[:, :-1] @ h + W[:, -1]
        rows.append(z)
        embedding = torch.cat([d.E, d.special[:1]])[int(z.argmax())]
    return torch.stack(rows)


def test_the_decoder_is_its_equations():
    decoder = small_decoder().double()
    maps = torch.randn(3, 6, 2, 3, generator=torch_generator("maps")).double()
    logits = decoder(maps, [3] * 5)
    assert len(set(logits.argmax(2).flatten().tolist())) > 1
    for i in range(3):
        torch.testing.assert_close(logits[i], naive_logits(decoder, maps[i], 5))


def test_images_that_stop_early_change_nothing_for_the_others():
    decoder = small_decoder()
    maps = torch.rand(3, 6, 2, 3, generator=torch_generator("maps"))
    whole, cut = decoder(maps, [3] * 4), decoder(maps, [3, 2, 2, 1])
    for i, steps in enumerate([4, 3, 1]):
        torch.testing.assert_close(cut[i, :steps], whole[i, :steps])
        assert cut[i, steps:].eq(0).all()


def test_a_step_is_torch_on_all_steps_of_all_images():
    """One step of tuning without dropout: the gradient of the plain loss, images in any order."""
    support = learnable_part("novel").episode(0).support
    params = PLAParams(dropout=0, tune_epochs=1, tune_lr=0.1, rows_lr=0.01)
    tuned, plain = small_decoder(c=8, seed=8), small_decoder(c=8, seed=8)
    pla.tune_decoder(tuned, support, params)
    steps = int(support.targets.sum(1).max()) + 1
    assert len(set(support.targets.sum(1).tolist())) > 1
    logits = plain(support.images.local(), [len(support.images)] * steps)
    alignment_loss(logits, support.targets, "pla").backward()
    for name, parameter in plain.named_parameters():
        # the first step of Adam is lr times the gradient's sign where that is not tiny
        moved = parameter.detach() - tuned.get_parameter(name).detach()
        sure = parameter.grad.abs() > 1e-4
        lr = 0.01 if name in ("E", "W") else 0.1
        torch.testing.assert_close(moved[sure], lr * parameter.grad.sign()[sure], rtol=1e-2, atol=0)
        assert sure.any()


def test_dropout_is_on_with_a_generator_only_and_repeats():
    decoder = small_decoder()
    maps = torch.rand(3, 6, 2, 3, generator=torch_generator("maps"))

    def run(per, seed=None):
        generator = None if seed is None else torch_generator(seed)
        return decoder(maps, [3] * 4, p=0.5, per=per, generator=generator)

    torch.testing.assert_close(run("step"), decoder(maps, [3] * 4))
    step, image = run("step", 1), run("image", 1)
    torch.testing.assert_close(step, run("step", 1))
    assert not torch.allclose(step, run("step", 2))
    torch.testing.assert_close(step[:, 0], image[:, 0])  # the same first mask
    assert not torch.allclose(step[:, 1], image[:, 1])


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32))
@examples(100)
def test_scores_and_decisions_are_those_of_a_loop(L, T, seed):
    logits = 2 * torch.randn(4, T, L + 1, generator=torch_generator(seed))
    scores, decided = read_out(logits)
    for i in range(4):
        expected, greedy = naive_read_out(logits[i])
        assert scores[i].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)
        assert set(decided[i].nonzero()[:, 0].tolist()) == greedy


def test_the_sigmoid_read_out_is_the_largest_logit_up_to_the_end():
    logits = torch.randn(9, 5, 4, generator=torch_generator("read out", 2))
    scores, decided = read_out(logits, "sigmoid")
    for i, steps in enumerate(logits.tolist()):
        best = [-math.inf] * 3
        for z in steps:
            best = [max(b, x) for b, x in zip(best, z, strict=False)]
            if max(z) == z[3]:
                break
        assert scores[i].tolist() == pytest.approx(best)
    assert torch.equal(decided, read_out(logits)[1])


def test_nothing_after_the_first_end_token_counts():
    scores, decided = read_out(torch.stack([peaked(1, 3, 0), peaked(1, 1, 0)]))
    assert decided.tolist() == [[False, True, False], [True, True, False]]
    assert scores[0, 0] < 0 < scores[1, 0]


def test_scores_stay_finite_and_ranked_at_probability_one():
    scores, _ = read_out(torch.tensor([[[300.0, -300.0, 0.0]], [[200.0, -200.0, 0.0]]]))
    assert scores.tolist() == [[300, -600], [200, -400]]

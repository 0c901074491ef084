"""pla: alignment against brute force, decoding, scores, words, training, fine-tuning, resuming."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlfsic_baselines import epochs, pla_training
from mlfsic_baselines.pla import PLA, PLAParams
from mlfsic_baselines.pla_alignment import IGNORED, aligned, alignment_loss, order_labels
from mlfsic_baselines.pla_decoder import Decoder, read_out

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.check import check_method
from mlfsic_bench.methods.contract import FitContext, Images
from mlfsic_bench.randomness import torch_generator
from tests.fakes.source import FakeSource, TrainableFakeSource, fake_support, learnable_part

SMALL = {"hidden": 16, "attention": 8, "embedding": 6, "epochs": 2, "encoder_epochs": 1}


def method(**changes):
    return PLA(PLAParams(**{**SMALL, **changes}))


def fitted(part, **changes):
    pla = method(**changes)
    pla.fit(part, None, FitContext(3))
    return pla


def small_decoder(L=4, c=6, seed=1):
    decoder = Decoder(c, 5, 7, 3)
    decoder.draw(torch_generator("test decoder", seed))
    decoder.set_labels([f"l{i}" for i in range(L)], seed, None)
    return decoder


# -- alignment ----------------------------------------------------------------------------------


@st.composite
def steps_and_labels(draw):
    """(logp [T, L + 1], labels [n]) with a few peaked steps, so that labels do get predicted."""
    L = draw(st.integers(1, 5))
    n = draw(st.integers(0, L))
    seed = draw(st.integers(0, 2**32))
    z = torch.randn(n + draw(st.integers(1, 3)), L + 1, generator=torch_generator(seed)).double()
    labels = draw(st.permutations(range(L)))[:n]
    return z.mul(2).log_softmax(1).numpy(), np.array(labels, np.int64)


def brute_force(logp, labels, alignment):
    """The cheapest of all orderings; for PLA of those that keep what was predicted in time."""
    n = len(labels)
    said = logp.argmax(1).tolist()
    orders = list(itertools.permutations(labels.tolist()))
    if alignment == "pla":
        first = {y: said.index(y) for y in labels.tolist() if y in said[:n]}
        orders = [o for o in orders if all(o[t] == y for y, t in first.items())]
    return min(orders, key=lambda o: -sum(logp[t, y] for t, y in enumerate(o)))


@given(steps_and_labels(), st.sampled_from(["pla", "mla"]))
@settings(max_examples=150, deadline=None)
def test_the_order_is_that_of_brute_force(case, alignment):
    logp, labels = case
    order = order_labels(logp, labels, alignment)
    assert sorted(order.tolist()) == sorted(labels.tolist())
    assert tuple(order.tolist()) == brute_force(logp, labels, alignment)


@given(steps_and_labels())
@settings(max_examples=50, deadline=None)
def test_pla_keeps_true_labels_where_they_are_first_predicted(case):
    logp, labels = case
    order = order_labels(logp, labels, "pla")
    said = logp.argmax(1).tolist()
    for label in labels.tolist():
        if label in said[: len(labels)]:
            assert order[said.index(label)] == label


def peaked(*tokens, L=3):
    """Logits [T, L + 1] whose argmax is these tokens."""
    return torch.nn.functional.one_hot(torch.tensor(tokens), L + 1).double() * 5


def test_pla_and_mla_differ_where_a_prediction_costs_more_than_it_saves():
    # label 0 is predicted at step 0, a little before label 1, and is nearly as likely at step 1
    z = torch.tensor([[2.0, 1.9, 0, 0], [1.0, -9.0, 5, 0], [0, 0, 0, 9.0]])
    logp, labels = z.log_softmax(1).numpy(), np.array([0, 1])
    assert order_labels(logp, labels, "pla").tolist() == [0, 1]
    assert order_labels(logp, labels, "mla").tolist() == [1, 0]


def test_a_label_predicted_only_after_the_last_true_step_is_assigned():
    logp = peaked(2, 2, 0, 1).log_softmax(1)
    logp[1, 1] += 1  # step 1 had rather say label 1 than label 0, which is predicted too late
    assert order_labels(logp.numpy(), np.array([0, 1]), "pla").tolist() == [0, 1]
    logp[0, 1] += 3
    assert order_labels(logp.numpy(), np.array([0, 1]), "pla").tolist() == [1, 0]


def test_tokens_end_after_the_labels_and_the_loss_is_the_mean_over_them():
    logits = torch.stack([peaked(1, 3, 3), peaked(1, 0, 3), peaked(0, 0, 0)])
    targets = torch.tensor([[0.0, 1, 0], [1, 1, 0], [0, 0, 0]])
    tokens = aligned(logits, targets, "pla")
    assert tokens.tolist() == [[1, 3, IGNORED], [1, 0, 3], [3, IGNORED, IGNORED]]
    logp = logits.log_softmax(2)
    said = [logp[i, t, y] for i, row in enumerate(tokens.tolist()) for t, y in enumerate(row)]
    kept = [v for v, y in zip(said, tokens.flatten().tolist(), strict=True) if y != IGNORED]
    torch.testing.assert_close(alignment_loss(logits, targets, "pla"), -sum(kept) / 6)


# -- decoding -----------------------------------------------------------------------------------


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
    pla_training.tune_decoder(tuned, support, params)
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

    assert torch.equal(run("step"), decoder(maps, [3] * 4))
    step, image = run("step", 1), run("image", 1)
    assert torch.equal(step, run("step", 1))
    assert not torch.equal(step, run("step", 2))
    assert torch.equal(step[:, 0], image[:, 0])  # the same first mask
    assert not torch.equal(step[:, 1], image[:, 1])


def naive_read_out(logits):
    """Scores and greedy set of one image, token by token."""
    end = logits.shape[1] - 1
    best, greedy = [0.0] * end, set()
    for z in logits.double().tolist():
        total = sum(math.exp(v) for v in z)
        best = [max(b, math.exp(v) / total) for b, v in zip(best, z, strict=False)]
        token = z.index(max(z))
        if token == end:
            break
        greedy.add(token)
    return [math.log(p / (1 - p)) for p in best], greedy


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_scores_and_decisions_are_those_of_a_loop(L, T, seed):
    logits = 2 * torch.randn(4, T, L + 1, generator=torch_generator(seed))
    scores, decided = read_out(logits)
    for i in range(4):
        expected, greedy = naive_read_out(logits[i])
        assert scores[i].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)
        assert set(decided[i].nonzero()[:, 0].tolist()) == greedy


def test_nothing_after_the_first_end_token_counts():
    scores, decided = read_out(torch.stack([peaked(1, 3, 0), peaked(1, 1, 0)]))
    assert decided.tolist() == [[False, True, False], [True, True, False]]
    assert scores[0, 0] < 0 < scores[1, 0]


def test_scores_stay_finite_and_ranked_at_probability_one():
    scores, _ = read_out(torch.tensor([[[300.0, -300.0, 0.0]], [[200.0, -200.0, 0.0]]]))
    assert scores.tolist() == [[300, -600], [200, -400]]


# -- the method ---------------------------------------------------------------------------------


def query(part, n=12):
    return part.images.subset(range(n))


def test_fine_tuning_learns_the_support_and_decides_the_greedy_set():
    base, novel = learnable_part("base", images=80), learnable_part("novel")
    pla = fitted(base, hidden=64, attention=32, epochs=10, tune_epochs=120, batch=16, rows_lr=1e-2)
    support = novel.episode(0).support
    with torch.no_grad():
        labeller = pla.adapt(support)
        assert torch.equal(labeller.decide(support.images), support.targets > 0)
        scores = labeller(support.images)
    assert scores[support.targets > 0].min() > scores[support.targets == 0].max()
    names = sorted(range(4), key=lambda i: support.labels[i])
    logits = labeller.decoder(support.images.local(), [len(scores)] * labeller.steps)
    for i, row in enumerate(scores):
        expected, greedy = naive_read_out(logits[i])
        assert row[names].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)
        assert {names[k] for k in greedy} == set(support.targets[i].nonzero()[:, 0].tolist())


def test_base_training_lowers_the_loss():
    lines = []
    context = FitContext(1, log=lines.append)
    method(epochs=15, batch=8, lr=0.01).fit(learnable_part("base"), None, context)
    assert "no BCE training" in lines[0]
    losses = [float(line.rsplit(" ", 1)[1]) for line in lines[1:]]
    assert losses[-1] < 0.5 * losses[0]


def test_labels_in_another_order_give_bit_for_bit_the_same():
    part = learnable_part("novel")
    pla = fitted(learnable_part("base"))
    support = part.episode(0).support
    order = [2, 0, 3, 1]
    labels = tuple(support.labels[i] for i in order)
    words = support.words[order]
    other = replace(support, targets=support.targets[:, order], labels=labels, words=words)
    for kind in ("learned", "glove"):
        pla = fitted(learnable_part("base"), words=kind)
        plain, moved = pla.adapt(support), pla.adapt(other)
        assert torch.equal(plain(query(part))[:, order], moved(query(part)))
        assert torch.equal(plain.decide(query(part))[:, order], moved.decide(query(part)))


def test_the_sequence_may_be_as_long_as_the_largest_label_set_and_the_end():
    base, novel = learnable_part("base"), learnable_part("novel")
    support = novel.episode(0).support
    most = int(max(base.targets.sum(1).max(), support.targets.sum(1).max()))
    assert fitted(base).adapt(support).steps == most + 1


def test_threshold_decisions_are_scores_above_zero():
    part = learnable_part("novel")
    pla = fitted(learnable_part("base"), decisions="threshold", tune_epochs=2)
    labeller = pla.adapt(part.episode(0).support)
    assert torch.equal(labeller.decide(query(part)), labeller(query(part)) > 0)


def embeddings(**changes):
    """(label embeddings after adapting, label vectors), both in the order of the names."""
    base, novel = learnable_part("base"), learnable_part("novel")
    pla = fitted(base, words="glove", **changes)
    return pla.adapt(novel.episode(0).support).decoder.E, novel.words


def test_glove_starts_the_embeddings_as_the_label_vectors():
    E, words = embeddings(tune_epochs=0)
    assert torch.equal(E, words)
    E, words = embeddings(tune_epochs=5, freeze_words=True)
    assert torch.equal(E, words)
    E, words = embeddings(tune_epochs=5)
    assert not torch.equal(E, words)
    assert (E - words).abs().max() < 0.01


def test_glove_needs_words():
    base, support = learnable_part("base"), learnable_part("novel").episode(0).support
    pla = method(words="glove")
    assert pla.needs_words
    assert not method().needs_words
    with pytest.raises(BenchError, match="needs label vectors"):
        pla.fit(replace(base, words=None), None, FitContext(1))
    pla.fit(base, None, FitContext(1))
    with pytest.raises(BenchError, match="needs label vectors"):
        pla.adapt(replace(support, words=None))
    with pytest.raises(BenchError, match="trained with"):
        pla.adapt(replace(support, words=support.words[:, 1:]))


def test_a_method_that_was_not_fitted_says_so():
    with pytest.raises(BenchError, match="no decoder"):
        method().adapt(fake_support(FakeSource()))


def test_the_other_choices_pass_the_contract_tests():
    changes = {"words": "glove", "alignment": "mla", "dropout_per": "image", "tune_epochs": 3}
    results = list(check_method(lambda: method(**changes)))
    assert [result.name for result in results if result.status != "pass"] == []


class KilledError(Exception):
    pass


@pytest.mark.parametrize("trainable", [False, True])
def test_a_killed_training_resumes_to_the_same_weights(tmp_path, monkeypatch, trainable):
    monkeypatch.setattr(epochs, "CHECKPOINT_SECONDS", 0.0)

    def run(folder, stop_after):
        source = TrainableFakeSource(8) if trainable else None
        part = learnable_part("base", source=source)

        def log(line):
            if line.startswith(f"decoder epoch {stop_after}/"):
                raise KilledError

        pla = method(epochs=4, batch=16)
        pla.fit(part, None, FitContext(5, folder, log))
        return pla.state(), source and source.state()

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KilledError):
        run(tmp_path / "cut", 3)
    again = run(tmp_path / "cut", None)
    assert whole[0].keys() == again[0].keys()
    assert all(torch.equal(whole[0][key], again[0][key]) for key in whole[0])
    if trainable:
        assert torch.equal(whole[1]["weight"], again[1]["weight"])
        assert not torch.equal(whole[1]["weight"], torch.eye(8))


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    part = learnable_part("base")
    method().fit(part, None, FitContext(5, tmp_path))
    method(tune_epochs=1).fit(part, None, FitContext(5, tmp_path))
    with pytest.raises(BenchError, match="another training"):
        method(lr=0.1).fit(part, None, FitContext(5, tmp_path))


def test_a_trainable_backbone_is_trained_in_both_stages_and_left_alone_in_episodes():
    source = TrainableFakeSource(8)
    part = learnable_part("base", source=source)
    lines = []
    method().fit(part, None, FitContext(1, log=lines.append))
    assert [line.split(" ")[0] for line in lines] == ["base", "decoder", "decoder"]
    assert source.training is False

    encoder_only = TrainableFakeSource(8)
    pla = method(epochs=0)
    pla.fit(learnable_part("base", source=encoder_only), None, FitContext(1))
    first = encoder_only.state()["weight"]
    assert not torch.equal(first, torch.eye(8))
    assert not torch.equal(first, source.weight)
    pla.adapt(fake_support(encoder_only))(Images(("q",), encoder_only))
    assert torch.equal(encoder_only.weight, first)


class Overflowing(FakeSource):
    def _map(self, image_id):
        return super()._map(image_id) * math.inf


def test_divergence_is_an_error():
    with pytest.raises(BenchError, match="diverged"):
        fitted(learnable_part("base", source=Overflowing(8)))

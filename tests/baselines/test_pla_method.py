"""pla: fine-tuning, decisions, words, training, resuming."""

import math
from dataclasses import replace

import pytest
import torch
from mlfsic_baselines import classifier

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import FitContext, Images
from mlfsic_bench.testing.check import check_method
from tests.baselines.killed import KilledError
from tests.baselines.small_pla import fitted, method, naive_read_out
from tests.fakes.source import FakeSource, TrainableFakeSource, fake_support, learnable_part

pytestmark = pytest.mark.slow


def query(part, n=12):
    return part.images.subset(range(n))


def test_fine_tuning_learns_the_support_and_decides_the_greedy_set():
    base, novel = learnable_part("base", images=80), learnable_part("novel")
    pla = fitted(base, hidden=64, attention=32, epochs=10, tune_epochs=120, batch=16, rows_lr=1e-2)
    support = novel.episode(0).support
    with torch.no_grad():
        predictor = pla.adapt(support)
        assert torch.equal(predictor.decide(support.images), support.targets > 0)
        scores = predictor(support.images)
    assert scores[support.targets > 0].min() > scores[support.targets == 0].max()
    names = sorted(range(4), key=lambda i: support.labels[i])
    logits = predictor.decoder(support.images.local(), [len(scores)] * predictor.steps)
    for i, row in enumerate(scores):
        expected, greedy = naive_read_out(logits[i])
        assert row[names].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)
        assert {names[k] for k in greedy} == set(support.targets[i].nonzero()[:, 0].tolist())


def test_base_training_lowers_the_loss():
    lines = []
    context = FitContext(1, log=lines.append)
    method(epochs=15, batch=8, lr=0.01).fit(learnable_part("base"), None, context)
    assert "no BCE training" in lines[0]
    losses = [float(line.rsplit(" ", 1)[1]) for line in lines if " loss " in line]
    assert losses[-1] < 0.5 * losses[0]


def test_labels_in_another_order_give_the_same():
    part = learnable_part("novel")
    pla = fitted(learnable_part("base"))
    support = part.episode(0).support
    order = [2, 0, 3, 1]
    labels = tuple(support.labels[i] for i in order)
    words = support.embeddings[order]
    other = replace(support, targets=support.targets[:, order], labels=labels, embeddings=words)
    for kind in ("learned", "glove"):
        pla = fitted(learnable_part("base"), words=kind)
        plain, moved = pla.adapt(support), pla.adapt(other)
        scores = plain(query(part))[:, order]
        torch.testing.assert_close(scores, moved(query(part)), rtol=1e-4, atol=1e-4)
        clear = scores.abs().amin(1) > 1e-2  # a decision may turn where a score is near zero
        assert clear.any()
        decided = plain.decide(query(part))[:, order], moved.decide(query(part))
        assert torch.equal(decided[0][clear], decided[1][clear])


def test_the_sequence_may_be_as_long_as_the_largest_label_set_and_the_end():
    base, novel = learnable_part("base"), learnable_part("novel")
    support = novel.episode(0).support
    most = int(max(base.targets.sum(1).max(), support.targets.sum(1).max()))
    assert fitted(base).adapt(support).steps == most + 1


def test_threshold_decisions_are_scores_above_zero():
    part = learnable_part("novel")
    pla = fitted(learnable_part("base"), decisions="threshold", tune_epochs=2)
    predictor = pla.adapt(part.episode(0).support)
    assert torch.equal(predictor.decide(query(part)), predictor(query(part)) > 0)


def embeddings(**changes):
    """(label embeddings after adapting, label embeddings), both in the order of the names."""
    base, novel = learnable_part("base"), learnable_part("novel")
    pla = fitted(base, words="glove", **changes)
    return pla.adapt(novel.episode(0).support).decoder.E, novel.embeddings


def test_glove_starts_the_embeddings_as_the_label_embeddings():
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
    assert pla.needs_embeddings
    assert not method().needs_embeddings
    with pytest.raises(BenchError, match="needs label embeddings"):
        pla.fit(replace(base, embeddings=None), None, FitContext(1))
    pla.fit(base, None, FitContext(1))
    with pytest.raises(BenchError, match="needs label embeddings"):
        pla.adapt(replace(support, embeddings=None))
    with pytest.raises(BenchError, match="trained with"):
        pla.adapt(replace(support, embeddings=support.embeddings[:, 1:]))


def test_a_method_that_was_not_fitted_says_so():
    with pytest.raises(BenchError, match="no decoder"):
        method().adapt(fake_support(FakeSource()))


def test_the_other_choices_pass_the_contract_tests():
    changes = {"words": "glove", "alignment": "mla", "dropout_per": "image", "tune_epochs": 3}
    results = list(check_method(lambda: method(**changes)))
    assert [result.name for result in results if result.status != "pass"] == []


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("trainable", [False, True])
def test_a_killed_training_resumes_to_the_same_weights(tmp_path, monkeypatch, trainable):
    monkeypatch.setattr(classifier, "CHECKPOINT_SECONDS", 0.0)

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
    losses = [line.split(" ")[0] for line in lines if " loss " in line]
    assert losses == ["base", "decoder", "decoder"]
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

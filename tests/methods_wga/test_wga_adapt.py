"""Word-guided attention in an episode: batches, permutations, prototypes, fine-tuning, maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.sources import StoredFeatures
from mlfsic_bench.features.store.manifest import Manifest
from mlfsic_bench.features.store.store import FeatureStore
from mlfsic_bench.features.store.writer import StoreWriter
from mlfsic_bench.methods.contract import Images, Support
from mlfsic_bench.methods.word_guided import batched
from tests.fakes.source import FakeSource, TrainableFakeSource, fake_support
from tests.methods_wga.tiny_methods import FORMS, differ, trained, untrained


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
        supports.append(Support(images, targets, support.labels, support.embeddings, e))
    query = Images(("a", "b", "c"), source)
    for one, support in zip(method.adapt_all(supports), supports, strict=True):
        expected = method.adapt(support)(query)
        assert one(query).shape == (3, 4)
        assert torch.allclose(one(query), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kept", [batched.KEPT_BYTES, 200])
@pytest.mark.parametrize("name", ["paper", "per image", "layer norm", "global"])
def test_an_image_is_attended_to_once_for_all_episodes(name, kept, tmp_path, monkeypatch):
    monkeypatch.setattr(batched, "KEPT_BYTES", kept)
    ids, rng = tuple("abcdefgh"), np.random.default_rng(0)
    with StoreWriter(tmp_path, Manifest("d", "b", "0" * 64, "t", 6, (2, 2))) as writer:
        maps = rng.random((8, 4, 6), np.float32)
        writer.add(ids, ["unknown"] * 8, maps, maps.mean(1))
    source = StoredFeatures(FeatureStore(tmp_path))
    asked: list[str] = []
    pool = batched.Attended._made
    monkeypatch.setattr(
        batched.Attended,
        "_made",
        lambda self, model, ids, targets: asked.extend(ids) or pool(self, model, ids, targets),
    )
    like = fake_support(FakeSource(), 4, images=8, extra=0.3, seed=0)
    supports = []
    for e in range(6):
        some = sorted(rng.permutation(8)[:4].tolist())
        images = Images(tuple(ids[i] for i in some), source)
        supports.append(Support(images, like.targets[some], like.labels, like.embeddings, e))
    method = untrained(**FORMS[name])
    for first in (0, 2, 4):
        found = method.adapt_all(supports[first : first + 2])
        alone = untrained(**FORMS[name]).adapt_all(supports[first : first + 2])
        for one, other in zip(found, alone, strict=True):
            assert torch.allclose(one.prototypes, other.prototypes, rtol=1e-6, atol=1e-6)
    asked.clear()
    method.adapt_all(supports)
    assert bool(asked) == (kept == 200)  # nothing is left to be made, unless little is kept
    with torch.no_grad():
        method.model.K.mul_(2)
    asked.clear()
    method.adapt_all(supports)
    assert set(asked) == {one for support in supports for one in support.images.ids}


def test_supports_with_other_labels_or_words_are_adapted_one_by_one():
    method, source = untrained(), FakeSource()
    first, second = fake_support(source, 4), fake_support(source, 5)
    other = Support(first.images, first.targets, first.labels, first.embeddings + 1, 0)
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
        support.embeddings[order],
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
        s = Support(Images(ids, source), targets, support.labels, support.embeddings, 0)
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
    torch.testing.assert_close(tuned, method.adapt(support)(query))
    assert all(t.grad is None for t in method.model.parameters())
    assert not torch.allclose(tuned, untrained().adapt(support)(query))


def test_fine_tuning_lowers_the_cmw_loss_of_the_support():
    from mlfsic_bench.methods.word_guided.model import cmw_loss

    method, support = untrained(fine_tune_epochs=40, fine_tune_lr=1e-3), fake_support(FakeSource())

    def loss(model) -> float:
        f_glo = support.images.pooled()
        return cmw_loss(model, f_glo, support.targets, support.embeddings).item()

    assert loss(method.adapt(support).model) < loss(method.model) - 0.01
    assert method.adapts_by_gradient
    assert not untrained().adapts_by_gradient


def test_fine_tuning_all_tunes_the_backbone_too_and_restores_it():
    source = TrainableFakeSource()
    source.train(True)
    support, query = fake_support(source, 4), Images(("a", "b"), source)
    settings = {"fine_tune_epochs": 5, "fine_tune_lr": 1e-2}
    method = untrained(**settings, fine_tune="all")
    predictor = method.adapt(support)
    both = predictor(query)
    assert torch.equal(source.weight.detach(), torch.eye(6))
    torch.testing.assert_close(both, predictor(query))
    projections = untrained(**settings).adapt(support)(query)
    assert not torch.allclose(both, projections, atol=1e-4)
    assert all(t.grad is None for t in method.model.parameters())
    with pytest.raises(BenchError, match="can be trained"):
        method.adapt(fake_support(FakeSource(), 4))


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


@pytest.mark.parametrize("output", [False, True])
def test_an_identity_start_makes_prototypes_means_of_projected_features(output):
    support = fake_support(FakeSource(), 4, extra=0.4)
    settings = {"start": "identity", "residual": True, "output_projection": output}
    method = untrained(**settings)
    A, found = method.model.A_visual.detach(), method.adapt(support).prototypes
    for label, carried in enumerate(support.targets.T > 0):
        ids = [image for image, own in zip(support.images.ids, carried, strict=True) if own]
        places = [u for m in support.images.source.local(ids) for u in m.flatten(1).T]
        mean = sum(A @ u for u in places) / len(places)
        assert torch.allclose(found[label], mean, atol=1e-5)
    shared = untrained(residual=True, output_projection=output).model
    assert torch.equal(shared.A_visual, method.model.A_visual)  # the same numbers are drawn
    assert torch.equal(shared.K, method.model.K)


def test_an_identity_start_learns_in_every_part():
    method = trained(start="identity", residual=True, output_projection=True)
    start = untrained(start="identity", residual=True, output_projection=True)
    for name in ("Q", "W_2", "V", "O"):
        assert not torch.allclose(getattr(method.model, name), getattr(start.model, name)), name

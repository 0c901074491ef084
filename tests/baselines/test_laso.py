"""laso: set operations that can be checked by hand, their losses, heads, augmentation, resuming."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mlfsic_baselines import laso_training
from mlfsic_baselines.classifier import with_one
from mlfsic_baselines.laso import LaSO
from mlfsic_baselines.laso_networks import ANALYTIC, ON_SETS, Heads, start_head
from mlfsic_baselines.laso_training import LaSOParams, draw_pairs
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import mse_loss

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import FitContext, Images, Support, TrainingPart
from mlfsic_bench.randomness import torch_generator
from tests.fakes.source import FakeSource, TrainableFakeSource, fake_support, learnable_part

BLOCK, LABELS = 4, 6
OPERATIONS = ("subtraction", "intersection", "union")
SHORT = {"classifier_epochs": 2, "epochs": 2, "tune_epochs": 3}
# 150 images: an epoch of 150 pairs; rates fit for features of 24 numbers
TRAINED = {"classifier_epochs": 60, "classifier_lr": 0.03, "epochs": 15, "lr": 0.02}
TRAINED |= {"pairs_per_image": 2, "batch": 32}


class Blocks(FakeSource):
    """Features in which label l is coordinates 4 l to 4 l + 3 being about 1, and the rest about 0.

    So the union of two images is their maximum, the intersection their minimum, and the
    difference relu(a - b). An image's id says its labels, as in "x7:0,2".
    """

    def __init__(self):
        super().__init__(channels=BLOCK * LABELS)

    def pooled(self, ids):
        return torch.stack([self._one(i) for i in ids])

    def _one(self, name):
        noise = torch.rand(self.channels, generator=torch_generator("blocks", name))
        labels = [int(x) for x in name.split(":")[1].split(",")]
        return targets_of([labels])[0].repeat_interleave(BLOCK) * 0.9 + 0.1 * noise


def targets_of(sets):
    Y = torch.zeros(len(sets), LABELS)
    for row, labels in zip(Y, sets, strict=True):
        row[labels] = 1
    return Y


def block_part(n, prefix="x"):
    g = torch_generator("block labels", prefix)
    Y = (torch.rand(n, LABELS, generator=g) < 0.35).float()
    Y[torch.arange(n), torch.arange(n) % LABELS] = 1
    sets = [row.nonzero()[:, 0].tolist() for row in Y]
    ids = tuple(f"{prefix}{i}:{','.join(map(str, s))}" for i, s in enumerate(sets))
    names = tuple(f"label {i}" for i in range(LABELS))
    return TrainingPart(Images(ids, Blocks()), Y, names, None, lambda i: pytest.fail("episode"))


def method(**settings):
    return LaSO(LaSOParams(**settings))


def support_of(part, rows, seed=3):
    images = part.images.subset(rows)
    return Support(images, part.targets[list(rows)], part.labels, None, seed)


@pytest.fixture(scope="module")
def trained():
    laso = method(**TRAINED)
    laso.fit(block_part(150), None, FitContext(1))
    return laso


def agreement(laso, operation, answer):
    """Share of labels rightly told of what `operation` makes of new pairs, if `answer` is right."""
    part = block_part(80, "new")
    f, Y = part.images.pooled(), part.targets
    i, j = torch.from_numpy(draw_pairs(Y.numpy() > 0, 200, 5).T)
    with torch.no_grad():
        made = getattr(laso.operations, operation)(f[i], f[j], None)
        told = with_one(made) @ laso.classifier.T > 0
    return (told == (ON_SETS[answer](Y[i], Y[j]) > 0)).float().mean().item()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_trained_networks_make_the_right_sets(trained, operation):
    untrained = method(**TRAINED | {"epochs": 0})
    untrained.fit(block_part(150), None, FitContext(1))
    assert torch.equal(untrained.classifier, trained.classifier)
    right = agreement(trained, operation, operation)
    wrong = [agreement(trained, operation, other) for other in OPERATIONS if other != operation]
    assert right > 0.97
    assert right > agreement(untrained, operation, operation) + 0.1
    assert right > max(wrong) + 0.1


def test_the_base_classifier_knows_the_blocks(trained):
    part = block_part(80, "new")
    told = with_one(part.images.pooled()) @ trained.classifier.T > 0
    assert (told == (part.targets > 0)).float().mean() > 0.99


def test_analytic_terms_and_sets_are_exact():
    a, b = torch.tensor([[0.0, 2.0, 3.0]]), torch.tensor([[1.0, 0.5, 3.0]])
    A, B = torch.tensor([[0.0, 1, 1]]), torch.tensor([[1.0, 0, 1]])
    for table, operands, expected in (
        (ANALYTIC, (a, b), {"subtraction": [0, 1.5, 0], "intersection": [0, 0.5, 3]}),
        (ANALYTIC, (a, b), {"union": [1, 2.5, 6]}),
        (ON_SETS, (A, B), {"subtraction": [0, 1, 0], "intersection": [0, 0, 1]}),
        (ON_SETS, (A, B), {"union": [1, 1, 1]}),
    ):
        for operation, value in expected.items():
            assert table[operation](*operands).tolist() == [value]


@pytest.mark.parametrize("networks", ["residual", "paper"])
def test_the_loss_is_the_sum_of_the_eighteen_outputs(networks):
    c, n = 5, 7
    ops = method(networks=networks)._new(c, torch_generator("test ops")).eval()
    g = torch_generator("test loss")
    a, b = torch.rand(2, n, c, generator=g)
    A, B = (torch.rand(2, n, 3, generator=g) < 0.5).float()
    W = torch.randn(3, c, generator=g)

    def S(x, y):
        return ops.subtraction(x, y, None)

    def cut(x, y):
        return ops.intersection(x, y, None)

    def join(x, y):
        return ops.union(x, y, None)

    classes = errors = 0
    for x, y, X, Y in ((a, b, A, B), (b, a, B, A)):
        anew = join(S(x, cut(y, x)), cut(x, y))
        minus, both, either = X * (1 - Y), X * Y, torch.maximum(X, Y)
        same = [S(S(x, y), y), S(x, cut(y, x)), S(x, cut(x, y))]
        claims = [(anew, X), (S(x, y), minus), *((out, minus) for out in same)]
        claims += [(cut(x, y), both), (cut(cut(x, y), y), both)]
        claims += [(join(x, y), either), (join(join(x, y), y), either)]
        classes += sum(bce(out @ W.T, target) for out, target in claims)
        errors += mse_loss(anew, x) + sum(mse_loss(out, S(x, y)) for out in same)
    errors += mse_loss(join(a, b), join(b, a)) + mse_loss(cut(a, b), cut(b, a))

    def loss(*weights):
        return ops.loss(a, b, A, B, lambda x: x @ W.T, weights, None)

    torch.testing.assert_close(loss(1, 1), classes + errors)
    torch.testing.assert_close(loss(2, 0.5), 2 * classes + 0.5 * errors)


def test_the_papers_generators_end_in_tanh_and_drop_in_training_only():
    a, b = 9 * torch.randn(2, 6, 5, generator=torch_generator("test tanh"))
    ops = method(networks="paper")._new(5, torch_generator("test ops")).eval()
    free = method(networks="paper", tanh=False)._new(5, torch_generator("test ops")).eval()
    torch.testing.assert_close(ops.union(a, b, None), free.union(a, b, None).tanh())
    assert ops.subtraction.linears[1].weight.shape == (20, 20)
    assert ops.union.linears[1].weight.shape == (5, 5)
    first, again = (ops.union(a, b, torch_generator("drop", 1)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, ops.union(a, b, None))


def test_pairs_share_a_label_and_labels_take_turns():
    rng = np.random.default_rng(4)
    Y = rng.random((60, 5)) < [0.9, 0.5, 0.2, 0.1, 0]
    Y[7, 4] = True  # the label of one image makes no pair
    pairs = draw_pairs(Y, 4000, 1)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert (Y[pairs[:, 0]] & Y[pairs[:, 1]]).any(1).all()
    assert np.array_equal(pairs, draw_pairs(Y, 4000, 1))
    assert not np.array_equal(pairs, draw_pairs(Y, 4000, 2))
    shared = (Y[pairs[:, 0]] & Y[pairs[:, 1]]).mean(0)
    assert shared[:4].min() >= 0.25  # a quarter of the pairs is drawn for each of four labels
    assert set(pairs.ravel()) >= set(np.flatnonzero(Y[:, :4].any(1)))
    with pytest.raises(BenchError, match="no pair"):
        draw_pairs(np.eye(4, dtype=bool), 10, 1)


def test_unions_are_of_every_two_images_with_the_union_of_their_labels(trained):
    part = block_part(5, "s")
    f, Y = part.images.pooled(), part.targets
    made, union = trained.unions(f, Y)
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    expected = [[max(x, y) for x, y in zip(Y[i], Y[j], strict=True)] for i, j in pairs]
    assert union.tolist() == torch.tensor(expected).tolist()
    k = pairs.index((1, 3))
    with torch.no_grad():
        one = trained.operations.union(f[1:2], f[3:4], None)
    torch.testing.assert_close(made[k], one[0])
    assert [len(x) for x in method(augment="none").unions(f, Y)] == [0, 0]


def test_the_unions_change_the_head(trained):
    part, query = block_part(6, "s"), block_part(9, "q").images
    bare = method(**TRAINED, augment="none")
    with_unions = trained.adapt(support_of(part, range(6)))(query)
    without = bare.adapt(support_of(part, range(6)))(query)
    assert (with_unions - without).abs().max() > 0.1
    # a lone image has no partner, so there is nothing to add
    alone = support_of(part, [0])
    assert torch.equal(trained.adapt(alone)(query), bare.adapt(alone)(query))


def sequential(head, c, layers, labels):
    """The same head of torch's own layers."""
    modules = []
    for k in range(layers):
        linear, norm = torch.nn.Linear(c, c, bias=False), torch.nn.BatchNorm1d(c)
        with torch.no_grad():
            for own, start in zip((linear.weight, norm.weight, norm.bias), head[3 * k :]):  # noqa: B905
                own.copy_(start)
        modules += [linear, norm, torch.nn.LeakyReLU(0.2)]
    last = torch.nn.Linear(c, labels)
    with torch.no_grad():
        last.weight.copy_(head[-1][:, :-1])
        last.bias.copy_(head[-1][:, -1])
    return torch.nn.Sequential(*modules, last)


@pytest.mark.parametrize("layers", [0, 3])
def test_heads_are_torchs_own_layers_side_by_side(layers):
    c, labels, n = 6, 4, 9
    g = torch_generator("test heads")
    rows = [torch_generator("row", i) for i in range(labels)]
    starts = [start_head(c, layers, rows, g) for _ in range(3)]
    x = torch.randn(3, n, c, generator=g)
    heads = Heads(starts, p=0.0)
    nets = [sequential(start, c, layers, labels) for start in starts]
    train = [torch_generator("drop", e) for e in range(3)]
    for _ in range(2):
        expected = torch.stack([net.train()(x[e]) for e, net in enumerate(nets)])
        torch.testing.assert_close(heads.logits(x, train), expected)
    expected = torch.stack([net.eval()(x[e]) for e, net in enumerate(nets)])
    torch.testing.assert_close(heads.logits(x), expected)
    torch.testing.assert_close(heads.of(1).logits(x[1:2])[0], expected[1])


def test_heads_drop_only_in_training_and_not_after_the_last_layer():
    c = 50
    g = torch_generator("test drop")
    x = torch.randn(1, 8, c, generator=g)

    def logits(layers, p, training):
        head = start_head(c, layers, [torch_generator("row", 0)], torch_generator("hidden"))
        return Heads([head], p).logits(x, [torch_generator("drop")] if training else None)

    assert torch.equal(logits(1, 0.5, True), logits(1, 0, True))
    assert not torch.allclose(logits(2, 0.5, True), logits(2, 0, True))
    assert torch.equal(logits(2, 0.5, False), logits(2, 0, False))


@pytest.mark.parametrize("layers", [0, 3])
def test_episodes_together_are_episodes_alone(trained, layers):
    laso = method(**TRAINED, head_layers=layers)
    laso.load_state(trained.state())
    part, query = block_part(40, "s"), block_part(9, "q").images
    shapes = [range(6), range(6, 12), range(4), range(12, 18)]
    supports = [support_of(part, rows, seed) for seed, rows in enumerate(shapes)]
    together = [labeller(query) for labeller in laso.adapt_all(supports)]
    for support, scores in zip(supports, together, strict=True):
        torch.testing.assert_close(laso.adapt(support)(query), scores, atol=1e-4, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_labels_in_another_order_give_scores_in_that_order(trained):
    support, query = support_of(block_part(6, "s"), range(6)), block_part(9, "q").images
    order = [3, 5, 0, 1, 4, 2]
    names = tuple(support.labels[i] for i in order)
    other = replace(support, targets=support.targets[:, order], labels=names)
    expected = trained.adapt(support)(query)[:, order]
    torch.testing.assert_close(trained.adapt(other)(query), expected, atol=1e-4, rtol=1e-4)


def test_tuning_fits_the_support(trained):
    part = block_part(6, "s")
    for layers in (0, 3):
        laso = method(**TRAINED, head_layers=layers)
        laso.load_state(trained.state())
        query = block_part(60, "q")
        scores = laso.adapt(support_of(part, range(6)))(query.images)
        assert scores[query.targets > 0].mean() > scores[query.targets == 0].mean() + 1


class KilledError(Exception):
    pass


def test_a_killed_training_resumes_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(laso_training, "CHECKPOINT_SECONDS", 0.0)

    def run(folder, stop_after):
        def log(line):
            if line.startswith(f"set operations, epoch {stop_after}/"):
                raise KilledError

        settings = {"networks": "paper", "warmup_epochs": 1, "epochs": 6, "pairs_per_image": 1}
        laso = method(classifier_epochs=1, **settings)
        laso.fit(learnable_part("base"), None, FitContext(5, folder, log))
        return laso.state()

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KilledError):
        run(tmp_path / "cut", 5)
    again = run(tmp_path / "cut", None)
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    with pytest.raises(BenchError, match="another training"):
        method(classifier_epochs=1, epochs=9).fit(
            learnable_part("base"), None, FitContext(5, tmp_path / "cut")
        )


def test_the_rate_warms_up_and_halves_when_the_loss_stands_still():
    lines = []
    flat = {"class_weight": 0, "error_weight": 0, "pairs_per_image": 0.1}  # one step an epoch
    laso = method(classifier_epochs=1, epochs=16, warmup_epochs=2, warmup_lr=1, lr=3, **flat)
    laso.fit(learnable_part("base"), None, FitContext(5, log=lines.append))
    rates = [float(line.rpartition("lr ")[2]) for line in lines if line.startswith("set")]
    # the rate in force when an epoch ends: four more epochs without progress are borne, then a
    # fifth halves it, and an epoch's respite follows
    assert rates == [1, 2, *[3] * 6, *[1.5] * 6, *[0.75] * 2]


def test_divergence_is_an_error():
    laso = method(**SHORT | {"error_weight": 1e30})
    with pytest.raises(BenchError, match="diverged"):
        laso.fit(learnable_part("base"), None, FitContext(5))


@pytest.mark.parametrize("augment", ["union", "none"])
def test_a_trainable_backbone_is_trained_with_the_classifier_and_then_left_alone(augment):
    source = TrainableFakeSource(8)
    part = learnable_part("base", source=source)
    laso = method(**SHORT, augment=augment)
    laso.fit(part, None, FitContext(1))
    after = source.state()
    assert not torch.equal(after["weight"], torch.eye(8))
    assert source.training is False
    laso.adapt(part.episode(0).support)
    assert torch.equal(source.state()["weight"], after["weight"])
    only_classifier = TrainableFakeSource(8)
    other = learnable_part("base", source=only_classifier)
    method(**SHORT, augment="none").fit(other, None, FitContext(1))
    assert torch.equal(only_classifier.weight, source.weight)


def test_the_state_of_other_networks_is_refused(trained):
    with pytest.raises(BenchError, match="does not fit"):
        method(networks="paper").load_state(trained.state())
    with pytest.raises(BenchError, match="does not fit"):
        method().load_state({"mean": torch.zeros(3)})


class Untouchable(FakeSource):
    def pooled(self, ids):
        raise AssertionError("features were asked for")


def test_nothing_is_trained_that_could_not_change_a_score():
    lines = []
    laso = method(augment="none")
    laso.fit(learnable_part("base", source=Untouchable()), None, FitContext(1, log=lines.append))
    assert laso.state() == {}
    assert "no base training" in lines[0]


def test_unions_need_a_trained_method():
    with pytest.raises(BenchError, match="no set operations"):
        method().adapt(fake_support(FakeSource()))

"""laso: set operations that can be checked by hand, their losses, pairs and unions."""

import numpy as np
import pytest
import torch
from mlfsic_baselines.classifier import with_one
from mlfsic_baselines.laso_networks import ANALYTIC, ON_SETS, draw_pairs
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import mse_loss

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import FitContext
from mlfsic_bench.randomness import torch_generator
from tests.baselines.small_laso import TRAINED, block_part, method

OPERATIONS = ("subtraction", "intersection", "union")


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
def test_trained_networks_make_the_right_sets(trained_laso, operation):
    untrained = method(**TRAINED | {"epochs": 0})
    untrained.fit(block_part(150), None, FitContext(1))
    torch.testing.assert_close(untrained.classifier, trained_laso.classifier)
    right = agreement(trained_laso, operation, operation)
    wrong = [
        agreement(trained_laso, operation, other) for other in OPERATIONS if other != operation
    ]
    assert right > 0.97
    assert right > agreement(untrained, operation, operation) + 0.1
    assert right > max(wrong) + 0.1


def test_the_base_classifier_knows_the_blocks(trained_laso):
    part = block_part(80, "new")
    told = with_one(part.images.pooled()) @ trained_laso.classifier.T > 0
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
    torch.testing.assert_close(first, again)
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


def test_unions_are_of_every_two_images_with_the_union_of_their_labels(trained_laso):
    part = block_part(5, "s")
    f, Y = part.images.pooled(), part.targets
    made, union = trained_laso.unions(f, Y)
    pairs = [(i, j) for i in range(5) for j in range(i + 1, 5)]
    expected = [[max(x, y) for x, y in zip(Y[i], Y[j], strict=True)] for i, j in pairs]
    assert union.tolist() == torch.tensor(expected).tolist()
    k = pairs.index((1, 3))
    with torch.no_grad():
        one = trained_laso.operations.union(f[1:2], f[3:4], None)
    torch.testing.assert_close(made[k], one[0])
    assert [len(x) for x in method(augment="none").unions(f, Y)] == [0, 0]

"""laso: heads of episodes, side by side and alone, with and without unions."""

from dataclasses import replace

import pytest
import torch
from mlfsic_baselines.laso import LaSO
from mlfsic_baselines.laso_networks import Heads, start_head
from pydantic import ValidationError

from mlfsic_bench.methods.contract import FitContext
from mlfsic_bench.randomness import torch_generator
from tests.baselines.small_laso import TRAINED, block_part, method, support_of

pytestmark = pytest.mark.slow


def test_the_unions_change_the_head(trained_laso):
    part, query = block_part(6, "s"), block_part(9, "q").images
    bare = method(augment="none")
    with_unions = trained_laso.adapt(support_of(part, range(6)))(query)
    without = bare.adapt(support_of(part, range(6)))(query)
    assert (with_unions - without).abs().max() > 0.1
    # a lone image has no partner, so there is nothing to add
    alone = support_of(part, [0])
    torch.testing.assert_close(trained_laso.adapt(alone)(query), bare.adapt(alone)(query))


def test_the_controls_are_presets():
    """One leaves the unions out, the other the hidden layers too; neither reads the base part."""
    for name, layers in (("no-unions", 3), ("linear-head", 0)):
        laso = method(**LaSO.presets[name])
        laso.fit(block_part(6), None, FitContext(1))
        assert laso.state() == {}
        assert laso.adapt(support_of(block_part(6, "s"), range(6)))
        assert laso.params.head_layers == layers
    with pytest.raises(ValidationError, match=r"dropout=0\.2 would have no effect"):
        method(**LaSO.presets["linear-head"], dropout=0.2)


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

    torch.testing.assert_close(logits(1, 0.5, True), logits(1, 0, True))
    assert not torch.allclose(logits(2, 0.5, True), logits(2, 0, True))
    torch.testing.assert_close(logits(2, 0.5, False), logits(2, 0, False))


@pytest.mark.parametrize("layers", [0, 3])
def test_episodes_together_are_episodes_alone(trained_laso, layers):
    laso = method(**TRAINED, head_layers=layers)
    laso.load_state(trained_laso.state())
    part, query = block_part(40, "s"), block_part(9, "q").images
    shapes = [range(6), range(6, 12), range(4), range(12, 18)]
    supports = [support_of(part, rows, seed) for seed, rows in enumerate(shapes)]
    together = [predictor(query) for predictor in laso.adapt_all(supports)]
    for support, scores in zip(supports, together, strict=True):
        torch.testing.assert_close(laso.adapt(support)(query), scores, atol=1e-4, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_labels_in_another_order_give_scores_in_that_order(trained_laso):
    support, query = support_of(block_part(6, "s"), range(6)), block_part(9, "q").images
    order = [3, 5, 0, 1, 4, 2]
    names = tuple(support.labels[i] for i in order)
    other = replace(support, targets=support.targets[:, order], labels=names)
    expected = trained_laso.adapt(support)(query)[:, order]
    torch.testing.assert_close(trained_laso.adapt(other)(query), expected, atol=1e-4, rtol=1e-4)


def test_tuning_fits_the_support(trained_laso):
    part = block_part(6, "s")
    for layers in (0, 3):
        laso = method(**TRAINED, head_layers=layers)
        laso.load_state(trained_laso.state())
        query = block_part(60, "q")
        scores = laso.adapt(support_of(part, range(6)))(query.images)
        assert scores[query.targets > 0].mean() > scores[query.targets == 0].mean() + 1

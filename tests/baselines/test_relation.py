"""relation-network: its score and loss against pairs of maps put through torch's own layers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mlfsic_baselines.prototypes.relation import RelationNetwork, RelationParams

from mlfsic_bench.methods.contract import FitContext, Images
from mlfsic_bench.randomness import torch_generator
from mlfsic_bench.training.loop import val_macro_ap
from tests.fakes.source import FakeSource, fake_support, learnable_part

SMALL = {"channels": 5, "hidden": 4, "steps": 2, "select_every": 1}


def relation(**changes):
    return RelationNetwork(RelationParams(**(SMALL | changes)))


def drawn(method, source):
    """Weights of float64 for `method`, none of them zero."""
    generator = torch_generator("relation test")
    shapes = method.shapes(source)
    return {n: 0.4 * torch.randn(s, generator=generator).double() for n, s in shapes.items()}


def one_pair(w, query, supports):
    """The logit of one query map [c, h, w] with the maps of one label's support images."""
    nn = torch.nn.functional

    def reduce(f):
        return nn.conv2d(f[None], w["reduce"], w["reduce_bias"])[0].relu()

    label = sum(reduce(f) for f in supports) / len(supports)
    z = torch.cat([reduce(query), label])[None]
    for block in ("block1", "block2"):
        z = nn.conv2d(z, w[block], padding=1)
        z = (z - z.mean()) / (z.var(unbiased=False) + 1e-5).sqrt()
        z = z * (1 + w[f"{block}_scale"])[:, None, None] + w[f"{block}_bias"][:, None, None]
        z = z.relu()
        h, width = z.shape[2:]
        z = torch.stack(
            [
                torch.stack(
                    [z[0, :, i : i + 2, j : j + 2].amax((1, 2)) for j in range(0, width, 2)]
                )
                for i in range(0, h, 2)
            ]
        ).permute(2, 0, 1)[None]
    hidden = (w["hidden"] @ z.flatten() + w["hidden_bias"]).relu()
    return float((w["out"] @ hidden + w["out_bias"])[0])


@pytest.mark.parametrize("grid", [(2, 3), (5, 4), (9, 9), (1, 1)])
def test_scores_are_those_of_pairs_of_maps(grid):
    source, method = FakeSource(6, grid, dtype=torch.float64), relation()
    w = drawn(method, source)
    method.load_state(w)
    support = fake_support(source, 3, images=5, extra=0.4)
    query = Images(("a", "b"), source)
    scores = method.adapt(replace(support, targets=support.targets.double()))(query)
    maps = support.images.local()
    for i, x in enumerate(query.local()):
        for c in range(3):
            carriers = [maps[j] for j in range(5) if support.targets[j, c] > 0]
            assert scores[i, c].item() == pytest.approx(one_pair(w, x, carriers), abs=1e-9)


@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_the_loss_is_that_of_some_labels_and_their_queries(loss):
    base = learnable_part("base", labels=5)
    method = relation(ways=3, loss=loss)
    weights = {name: t.float() for name, t in drawn(method, base.images.source).items()}
    method.load_state(weights)
    episode, seen = base.episode(2), set()
    for seed in range(6):
        found = method.loss(weights, base, 2, seed).item()
        scores = method.adapt(episode.support)(episode.query).double()
        Y, options = episode.query_targets.double(), {}
        for labels in ([a, b, c] for a in range(5) for b in range(a) for c in range(b)):
            asked = Y[:, labels].any(1)
            P, T = scores[asked][:, labels].sigmoid(), Y[asked][:, labels]
            terms = -(T * P.log() + (1 - T) * (1 - P).log()) if loss == "bce" else (P - T) ** 2
            options[tuple(labels)] = terms.mean().item()
        near = [labels for labels, value in options.items() if np.isclose(value, found, rtol=1e-4)]
        assert near
        seen.update(near)
    assert len(seen) > 1


class Everywhere(FakeSource):
    """Images that show the patterns of their labels at all places."""

    def _map(self, image_id):
        u = torch.rand(self.channels, *self.grid, generator=torch_generator("map", image_id))
        return u + 2 * self.patterns[list(self.carried[image_id])].sum(0)[:, None, None].relu()


def shown_everywhere(name, **changes):
    part = learnable_part(name, channels=12, **changes)
    source = part.images.source
    source = Everywhere(12, patterns=source.patterns, carried=source.carried)
    return learnable_part(name, channels=12, source=source, **changes)


def test_it_learns_to_compare():
    base = shown_everywhere("base", labels=12, images=120)
    val = shown_everywhere("val", images=60, n_episodes=8)
    method = relation(steps=100, select_every=25, lr=0.01, channels=12)
    method.fit(base, val, FitContext(2))
    assert val_macro_ap(method.adapt_all, val) > 0.62  # chance is about 0.4, no training 0.55

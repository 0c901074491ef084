"""soft-kmeans-prototypes against its equations in loops; queries that refine a prototype."""

import numpy as np
import pytest
import torch
from mlfsic_baselines.prototypes.soft_kmeans import (
    SoftKMeansParams,
    SoftKMeansPrototypes,
    assignment,
    refined,
    share,
)

from mlfsic_bench.methods.contract import Images
from tests.fakes.source import FakeSource, fake_support

SOURCE = FakeSource()
QUERY = Images(tuple(f"q{i}" for i in range(7)), SOURCE)


def naive(support, query, scale, iterations, centre):
    """Label by label, image by image, with plain squared distances."""
    f = support.images.pooled().double().numpy()
    g = query.pooled().double().numpy()
    if centre == "episode":
        m = np.concatenate([f, g]).mean(0)
        f, g = f - m, g - m
    f = f / np.linalg.norm(f, axis=1, keepdims=True)
    g = g / np.linalg.norm(g, axis=1, keepdims=True)
    scores = np.zeros((len(g), len(support.labels)))
    for c in range(len(support.labels)):
        y = support.targets[:, c].tolist()
        n = sum(y)
        b = np.log((n + 1) / (len(y) - n + 1))
        z = None
        for _ in range(iterations + 1):
            pair = []
            for sign in (1, 0):
                top, weight = np.zeros(f.shape[1]), 0.0
                for x, has in zip(f, y, strict=True):
                    w = has if sign else 1 - has
                    top, weight = top + w * x, weight + w
                for x, w in zip(g, z or [], strict=z is not None):
                    w = w if sign else 1 - w
                    top, weight = top + w * x, weight + w
                pair.append(top / weight if weight else f.mean(0))
            p, other = pair
            scores[:, c] = [
                scale * (((x - other) ** 2).sum() - ((x - p) ** 2).sum()) + b for x in g
            ]
            z = [1 / (1 + np.exp(-s)) for s in scores[:, c]]
    return scores


@pytest.mark.parametrize("iterations", [0, 1, 3])
@pytest.mark.parametrize("centre", ["none", "episode"])
def test_it_is_its_equations(iterations, centre):
    support = fake_support(SOURCE, extra=0.3)
    support.targets[:, 2] = 1  # no image without it
    support.targets[:, 3] = 0  # none with it
    settings = {"iterations": iterations, "centre": centre, "scale": 6.0}
    method = SoftKMeansPrototypes(SoftKMeansParams(**settings))
    scores = method.adapt(support)(QUERY)
    expected = naive(support, QUERY, 6.0, iterations, centre)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_unlabelled_images_move_a_prototype_to_the_middle_of_its_cluster():
    generator = torch.Generator().manual_seed(3)
    middles = torch.tensor([[3.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    cloud = torch.randn(2, 40, 2, generator=generator, dtype=torch.float64)
    queries = (middles[:, None] + 0.5 * cloud).flatten(0, 1)
    x = middles + torch.tensor([[0.9, 0.9], [-0.9, 0.9]], dtype=torch.float64)  # far off
    Y = torch.eye(2, dtype=torch.float64)
    before, _ = refined(x, Y, queries, 1.0, 0)
    after, other = refined(x, Y, queries, 1.0, 3)
    assert (after - middles).norm(dim=1).max() < 0.3 < (before - middles).norm(dim=1).min()
    assert assignment(queries, after, other, share(Y), 1.0)[:40, 0].min() > 0

"""random, prior, constant and protonet against definitions written out."""

import math

import pytest
import torch
from mlfsic_baselines.chance.constant import Constant
from mlfsic_baselines.chance.prior import Prior
from mlfsic_baselines.chance.random_scores import RandomScores
from mlfsic_baselines.prototypes.protonet import ProtoNet, ProtoNetParams

from mlfsic_bench.errors import BenchError
from mlfsic_bench.methods.contract import Images
from mlfsic_bench.methods.registry import make_method
from mlfsic_bench.randomness import splitmix64, stream_seed
from tests.fakes.source import FakeSource, fake_support

SOURCE = FakeSource()
QUERY = Images(tuple(f"q{i}" for i in range(6)), SOURCE)


def test_random_is_keyed_by_episode_image_and_label():
    support = fake_support(SOURCE, seed=2**64 - 1)
    scores = RandomScores().adapt(support)(QUERY)
    for i, image in enumerate(QUERY.ids):
        for c, label in enumerate(support.labels):
            word = splitmix64(
                stream_seed("random", f"image/{support.seed}", image),
                stream_seed("random", "label", label),
            )
            assert scores[i, c] == 2 * ((word >> 40) / 2**24) - 1
    other = RandomScores().adapt(fake_support(SOURCE, seed=8))(QUERY)
    assert not (scores == other).any()


def test_random_scores_spread_evenly_around_0():
    query = Images(tuple(str(i) for i in range(4000)), SOURCE)
    scores = RandomScores().adapt(fake_support(SOURCE))(query).double()
    # the standard deviation of the mean of 20,000 uniform draws on [-1, 1) is 0.0041
    assert abs(scores.mean()) < 0.02
    assert abs(scores.var() - 1 / 3) < 0.01
    assert abs((scores > 0).double().mean() - 0.5) < 0.02
    assert torch.corrcoef(scores.T).fill_diagonal_(0).abs().max() < 0.08
    assert len(scores.unique()) > 0.99 * scores.numel()


def test_prior_is_the_logit_of_the_share():
    support = fake_support(SOURCE, labels=4, images=8)
    support.targets[:] = 0
    support.targets[:4, 0] = 1
    support.targets[:, 1] = 1
    support.targets[0, 2] = 1
    scores = Prior().adapt(support)(QUERY)
    expected = [0.0, math.log(8.5 / 0.5), math.log(1.5 / 7.5), math.log(0.5 / 8.5)]
    assert scores.shape == (6, 4)
    for row in scores.tolist():
        assert row == pytest.approx(expected, abs=1e-6)


def test_constant_is_0_and_predicts_nothing():
    scores = Constant().adapt(fake_support(SOURCE))(QUERY)
    assert torch.equal(scores, torch.zeros(6, 5))


def naive_protonet(support, query, *, scale, score, centre):
    """The definition with loops, in float64."""
    f = support.images.pooled().double()
    mean = f.mean(0) if centre == "support" else torch.zeros(f.shape[1])
    rows = []
    for x in query.pooled().double():
        row = []
        for c in range(len(support.labels)):
            carriers = [f[i] for i in range(len(f)) if support.targets[i, c] == 1]
            p = sum(carriers) / len(carriers) - mean
            a, b = (x - mean) / (x - mean).norm(), p / p.norm()
            row.append(scale * (a @ b if score == "cosine" else 1 - (a - b).norm()))
        rows.append(row)
    return torch.tensor(rows)


@pytest.mark.parametrize("score", ["cosine", "margin_distance"])
@pytest.mark.parametrize("centre", ["none", "support"])
def test_protonet_is_its_definition(score, centre):
    support = fake_support(SOURCE, labels=4, images=9, extra=0.4)
    params = ProtoNetParams(scale=7, score=score, centre=centre)
    scores = ProtoNet(params).adapt(support)(QUERY)
    naive = naive_protonet(support, QUERY, scale=7, score=score, centre=centre)
    torch.testing.assert_close(scores.double(), naive, atol=1e-4, rtol=1e-4)


def test_protonet_scores_rank_alike():
    support = fake_support(SOURCE)
    cosine = ProtoNet(ProtoNetParams(score="cosine")).adapt(support)(QUERY)
    margin = ProtoNet().adapt(support)(QUERY)
    ranked = margin.flatten()[cosine.flatten().argsort()]
    assert (ranked.diff() > -1e-5).all()
    assert (cosine > 0).all()  # the features are not negative: why this is not the default
    clear = (cosine - 10).abs() > 1e-4
    assert clear.sum() > 10
    assert torch.equal(margin[clear] > 0, cosine[clear] > 10)  # 20 cos 60 degrees


def test_protonet_of_the_same_image_is_the_scale():
    support = fake_support(SOURCE, extra=1e-9)  # one label an image
    scores = ProtoNet().adapt(support)(support.images)
    torch.testing.assert_close(scores.diag(), torch.full((5,), 20.0), atol=0.02, rtol=0)


@pytest.mark.parametrize("preset", [{}, ProtoNet.presets["centred"]])
def test_protonet_is_finite_without_support_for_a_label(preset):
    support = fake_support(SOURCE)
    support.targets[:, 2] = 0
    scores = ProtoNet(ProtoNetParams(**preset)).adapt(support)(QUERY)
    assert scores.isfinite().all()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("bcr", {"eta": "0", "gamma": "0", "hidden": "50"}),
        ("kggr", {"tune_epochs": "0", "head_lr": "0.1"}),
        ("laso", {"tune_epochs": "0", "tune_lr": "0.1"}),
        ("linear", {"tune_epochs": "0", "head_lr": "0.1"}),
        ("lpn", {"projection": "none", "select_every": "10"}),
        ("pla", {"tune_epochs": "0", "rows_lr": "0.1"}),
        ("text-probe", {"tune_epochs": "0", "constraint": "none"}),
        ("text-probe", {"tune_epochs": "0", "penalty": "1"}),
        ("text-probe", {"tune_epochs": "0", "head_lr": "1"}),
        ("tip-adapter", {"alpha": "0", "beta": "5"}),
        ("word-prior", {"prior": "0", "ridge": "1"}),
    ],
)
def test_a_setting_that_changes_nothing_is_refused(name, settings):
    with pytest.raises(BenchError, match="go together") as caught:
        make_method(name, settings, None)
    assert "no effect" in caught.value.found
    make_method(name, dict(list(settings.items())[:-1]), None)

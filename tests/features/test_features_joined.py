"""Two networks' features side by side."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import avg_pool2d

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones import registry as backbones
from mlfsic_bench.features.backbones.base import Backbone, Squash
from mlfsic_bench.features.backbones.registry import build_backbones, split_name, split_weights
from mlfsic_bench.features.extract import extract
from mlfsic_bench.features.live import LiveFeatures
from mlfsic_bench.features.sources import (
    FeatureSource,
    JoinedFeatures,
    StoredFeatures,
    describe,
    join,
    to_grid,
)
from tests.features.feature_fakes import (
    MEAN,
    SIZE,
    FolderDataset,
    make_images,
    picked_backbone,
    small_backbone,
)

pytestmark = pytest.mark.slow


class Fine(nn.Module):
    """Every other pixel times a weight: maps of 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.norm = nn.Parameter(torch.full((3, 1, 1), 2.0)), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(x[:, :, ::2, ::2] * self.gain)


def fine_backbone() -> Backbone:
    return Backbone(
        "fine",
        Fine(),
        channels=3,
        grid=(8, 8),
        transform=Squash(SIZE, "bicubic", MEAN, MEAN),
        weights="none",
    ).eval()


@pytest.fixture
def dataset(tmp_path):
    make_images(tmp_path / "images", 6)
    return FolderDataset(tmp_path / "images")


def live(dataset, trainable=False) -> JoinedFeatures:
    pair = [picked_backbone(), fine_backbone()]
    source = join(pair, [LiveFeatures(b, dataset, trainable=trainable) for b in pair])
    assert isinstance(source, JoinedFeatures)
    return source


# --- grids ---------------------------------------------------------------------------------------


def test_a_grid_that_divides_is_average_pooled():
    maps = torch.randn(2, 5, 14, 14, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(to_grid(maps, (7, 7)), avg_pool2d(maps, 2), atol=1e-6)
    assert to_grid(maps, (14, 14)) is maps


@given(st.tuples(*[st.integers(1, 9)] * 4))
def test_cells_share_by_area_and_the_average_stays(sizes):
    (h, less_h), (w, less_w) = sorted(sizes[:2], reverse=True), sorted(sizes[2:], reverse=True)
    maps = torch.randn(1, 2, h, w, generator=torch.Generator().manual_seed(1)).double()
    coarse = to_grid(maps, (less_h, less_w))
    # repeating every cell gives a map that any grid divides
    repeated = maps.repeat_interleave(less_h, 2).repeat_interleave(less_w, 3)
    assert torch.allclose(coarse, avg_pool2d(repeated, (h, w)), atol=1e-12)
    assert torch.allclose(coarse.mean((2, 3)), maps.mean((2, 3)), atol=1e-12)


# --- the source ----------------------------------------------------------------------------------


def test_maps_and_pooled_features_lie_side_by_side(dataset):
    source = live(dataset)
    assert isinstance(source, FeatureSource)
    assert (source.channels, source.grid) == (7, (4, 4))
    ids = ["img003", "img000", "img003"]
    picked, fine = (one.local(ids) for one in source.sources.values())
    maps = source.local(ids)
    torch.testing.assert_close(maps[:, :4], picked)
    assert torch.allclose(maps[:, 4:], avg_pool2d(fine, 2), atol=1e-6)
    assert torch.allclose(source.pooled(ids), maps.mean((2, 3)), atol=1e-5)
    assert source.local([]).shape == (0, 7, 4, 4)
    assert source.pooled([]).shape == (0, 7)


def test_stored_ones_are_the_live_ones(dataset, tmp_path):
    pair = [picked_backbone(), fine_backbone()]
    ids = dataset.annotations().image_ids
    stores = [extract(dataset, ids, b, tmp_path / b.name) for b in pair]
    stored = join(pair, [StoredFeatures(store) for store in stores])
    assert torch.allclose(stored.local(ids), live(dataset).local(ids), atol=5e-3)
    assert torch.allclose(stored.pooled(ids), live(dataset).pooled(ids), atol=1e-5)
    assert stored.trainable_parameters() == []
    assert stored.state() == {}
    stored.load_state({})


def test_one_network_is_not_wrapped(dataset):
    source = LiveFeatures(picked_backbone(), dataset)
    assert join([picked_backbone()], [source]) is source


def test_both_networks_are_trained_saved_and_restored(dataset):
    source = live(dataset, trainable=True)
    ids = dataset.annotations().image_ids
    before, old = source.state(), source.local(ids).detach()
    assert {key.split("/")[0] for key in before} == {"picked", "fine"}
    source.train(True)
    assert all(one.backbone.training for one in source.sources.values())
    parameters = source.trainable_parameters()
    assert len(parameters) == 4
    source.local(ids).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters[:2])
    torch.optim.SGD(parameters, lr=0.1).step()
    source.train(False)
    assert not any(one.backbone.training for one in source.sources.values())
    new = source.local(ids).detach()
    assert not torch.allclose(new[:, :4], old[:, :4])
    assert not torch.allclose(new[:, 4:], old[:, 4:])
    other = live(dataset, trainable=True)
    other.load_state(source.state())
    torch.testing.assert_close(other.local(ids), new)
    source.load_state(before)
    torch.testing.assert_close(source.local(ids), old)


@pytest.mark.parametrize("change", ["other network", "missing"])
def test_a_state_of_other_networks_is_refused(dataset, change):
    source = live(dataset, trainable=True)
    state = source.state()
    if change == "missing":
        state = {key: value for key, value in state.items() if key.startswith("fine/")}
    else:
        state["small/body.gain"] = torch.ones(())
    with pytest.raises(BenchError, match=r"other networks|does not fit"):
        source.load_state(state)


# --- names and weights ---------------------------------------------------------------------------


def test_names():
    assert split_name("resnet50") == ("resnet50",)
    assert split_name("resnet50+vit_b_16") == ("resnet50", "vit_b_16")
    assert split_name("c+a+b") == ("c", "a", "b")


@pytest.mark.parametrize("name", ["a+", "+a", "a++b", "+", "a+b+a", "a+a"])
def test_names_that_are_none(name):
    with pytest.raises(BenchError, match="not a list of networks") as error:
        split_name(name)
    assert ("'a' twice" if name.count("a") == 2 else "empty") in error.value.found


def test_weights_for_each_network():
    assert split_weights("some+file.pt", ("a",)) == ("some+file.pt",)
    for word in ("default", "imagenet", "none"):
        assert split_weights(word, ("a", "b")) == (word, word)
    assert split_weights("default+x/y.pt", ("a", "b")) == ("default", "x/y.pt")


@pytest.mark.parametrize("weights", ["file.pt", "a+b+c", "default+", "+", ""])
def test_weights_that_do_not_say_what_each_gets(weights):
    with pytest.raises(BenchError, match="do not say what each of 2") as error:
        split_weights(weights, ("a", "b"))
    assert "for a, b" in error.value.expected


def test_all_names_are_looked_up_before_a_network_is_built(monkeypatch):
    monkeypatch.setattr(backbones, "build_backbone", lambda *given: pytest.fail("was built"))
    with pytest.raises(BenchError, match="unknown backbone 'resnet5O'") as error:
        build_backbones("scenes-small+resnet5O")
    assert "did you mean 'resnet50'" in error.value.remedy
    assert "timm:resnet5O" in error.value.remedy


def test_each_network_gets_its_weights():
    pair = build_backbones("scenes-small+scenes-patch", "default+none")
    assert [b.name for b in pair] == ["scenes-small", "scenes-patch"]
    assert [b.weights for b in pair] == ["default", "none"]


def test_the_description_of_one_network_is_its_own():
    one = small_backbone()
    found = describe([one])
    assert (found.name, found.weights_hash) == ("small", one.weights_hash)
    assert (found.transform, found.channels, found.grid) == (one.transform_id, 6, (4, 4))


def test_the_description_of_two_covers_both():
    found = describe([picked_backbone(), fine_backbone()])
    assert found.name == "picked+fine"
    assert found.transform.split(" + ") == [
        picked_backbone().transform_id,
        fine_backbone().transform_id,
    ]
    assert (found.channels, found.grid) == (7, (4, 4))
    hashes = {
        describe(pair).weights_hash
        for pair in (
            [picked_backbone(), small_backbone(0)],
            [picked_backbone(), small_backbone(1)],
            [small_backbone(0), picked_backbone()],
            [fine_backbone(), small_backbone(0)],
        )
    }
    assert len(hashes) == 4
    assert all(len(h) == 64 for h in hashes)


def test_a_resnet_and_a_vit_meet_on_seven_by_seven(dataset):
    pair = build_backbones("resnet50+vit_b_16", "none")
    source = join(pair, [LiveFeatures(b, dataset) for b in pair])
    assert (source.channels, source.grid) == (2816, (7, 7))
    maps = source.local(["img000"])
    assert maps.shape == (1, 2816, 7, 7)
    assert torch.isfinite(maps).all()
    averages = source.averaged(["img000"])
    np.testing.assert_allclose(maps.mean((2, 3)), averages, atol=1e-4)
    pooled = source.pooled(["img000"])
    assert source.vector == "mean + class token"
    assert torch.equal(pooled[:, :2048], averages[:, :2048])
    assert not torch.allclose(pooled[:, 2048:], averages[:, 2048:], atol=1e-2)

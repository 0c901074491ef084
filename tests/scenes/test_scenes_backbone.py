import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mlfsic_bench.data.scenes import Scenes
from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones import scenes as networks
from mlfsic_bench.features.backbones import scenes as scenes_backbone
from mlfsic_bench.features.backbones.registry import build_backbone
from mlfsic_bench.features.compute import Runner
from tools import train_scenes as train_scenes_backbone

pytestmark = pytest.mark.slow

NAMES = ("scenes-small", "scenes-deep", "scenes-patch")
CHANNELS = {"scenes-small": 128, "scenes-deep": 128, "scenes-patch": 96}
# Weights may not change silently: stores and runs made with them are keyed by these hashes.
HASHES = {
    "scenes-small": "b62a553b6ff035576e6104b5aa560792ba1e83619926427ab81d4302bfc002c0",
    "scenes-deep": "78bf2ea8e520bc820be6ebc4fc3281606c7a9e4769003210780395ddc5266444",
    "scenes-patch": "b52c92beb6cb3cb767cee4d1fc144c1d919605f443cbdfab8181e630db6ad0c8",
}


def test_every_network_has_a_recipe_and_a_name_in_the_table():
    assert tuple(scenes_backbone.VARIANTS) == NAMES
    assert tuple(train_scenes_backbone.RECIPES) == NAMES
    with pytest.raises(BenchError, match="unknown backbone of scenes 'scenes-tiny'"):
        scenes_backbone.variant("scenes-tiny")


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_weights_are_small_finite_and_fit(name):
    backbone = build_backbone(name)
    assert (backbone.name, backbone.channels) == (name, CHANNELS[name])
    assert (backbone.grid, backbone.input_size) == ((7, 7), 112)
    assert all(torch.isfinite(p).all() for p in backbone.parameters())
    file = scenes_backbone.VARIANTS[name].weights_file
    path = scenes_backbone.files("mlfsic_bench.features.backbones").joinpath(file)
    assert len(path.read_bytes()) <= 700_000
    with torch.inference_mode():
        maps = backbone(torch.zeros(2, 3, 112, 112))
    assert maps.shape == (2, CHANNELS[name], 7, 7)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_and_initial_weights_have_hashes_that_stay(name):
    assert build_backbone(name).weights_hash == HASHES[name]
    none = build_backbone(name, "none")
    assert none.weights_hash != HASHES[name]
    assert none.weights_hash == build_backbone(name, "none").weights_hash


@pytest.mark.parametrize("name", NAMES)
def test_the_forward_pass_repeats(name):
    scenes = Scenes()
    backbone = build_backbone(name)
    images = [backbone.transform(scenes.open_image(f"scenes/{i:06d}")) for i in range(8)]
    first, second = (Runner(backbone, torch.device("cpu"), "fp32")(images) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    with torch.inference_mode():  # batch norms merged or not
        maps = backbone(torch.stack(images)).permute(0, 2, 3, 1).flatten(1, 2)
    np.testing.assert_allclose(first[0], maps, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_trained_cells_tell_objects_from_ground(name):
    # On val images, which it has not seen: one direction in feature space, found on half of them.
    scenes = Scenes(base_images=0, val_images=40, novel_images=0)
    backbone = build_backbone(name)
    ids = scenes.annotations().image_ids
    x = torch.stack([backbone.transform(scenes.open_image(i)) for i in ids])
    with torch.no_grad():
        maps = backbone(x).permute(0, 2, 3, 1).reshape(40, 49, CHANNELS[name]).numpy()
    shares = [
        np.sum(list(scenes.masks(i).values()), axis=0).reshape(7, 16, 7, 16).mean((1, 3)).ravel()
        for i in ids
    ]
    share = np.stack(shares)
    train = maps[:20].reshape(-1, CHANNELS[name])
    on, off = train[share[:20].ravel() > 0.6].mean(0), train[share[:20].ravel() == 0].mean(0)
    along = maps[20:] @ (on - off)
    objects, ground = along[share[20:] > 0.6], along[share[20:] == 0]
    assert (objects[:, None] > ground[None]).mean() > 0.95


def test_the_deep_network_is_deeper_and_starts_as_a_chain_without_its_blocks():
    def convolutions(net):
        return [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]

    deep = networks.deep().eval()
    assert len(convolutions(deep)) == 25 > 4 * len(convolutions(networks.small()))
    block = next(m for m in deep if isinstance(m, networks.Bottleneck))
    x = torch.rand(1, 48, 5, 5)
    assert torch.equal(block(x), x)
    torch.nn.init.ones_(block.residual[-1].weight)
    assert not torch.equal(block(x), x)


def test_the_transformer_sees_every_patch_and_where_it_is():
    torch.manual_seed(0)
    net = networks.PatchTransformer().eval()
    x = torch.zeros(1, 3, 112, 112)
    other = x.clone()
    other[:, :, :16, :16] = 1.0
    with torch.no_grad():
        change = (net(other) - net(x)).abs().amax(1)[0]
        level = net(x)[0].flatten(1)
    assert (change > 1e-7).all()  # one patch reaches all
    assert not torch.allclose(level[:, 0], level[:, 1])  # equal patches, other places


def test_training_targets_are_shares_of_cells():
    pixels, targets = train_scenes_backbone.training_data(3)
    assert pixels.shape == (3, 112, 112, 3)
    assert targets.shape == (3, 11, 7, 7)
    assert targets.min() == 0.0
    assert targets.max() <= 1.0
    # whether there is an object at all is the largest of its attributes
    np.testing.assert_array_equal(targets[:, 0], targets.max(1))


@pytest.mark.parametrize("name", NAMES)
def test_packed_weights_load_again(name, tmp_path):
    net = scenes_backbone.VARIANTS[name].network().eval()
    path = tmp_path / "weights.npz"
    path.write_bytes(train_scenes_backbone.pack(net))
    with np.load(path, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype == np.float16 for name in arrays.files)
        assert set(arrays.files) == {
            n for n in net.state_dict() if not n.endswith("num_batches_tracked")
        }


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", NAMES)
def test_training_is_the_same_every_time(name, tmp_path):
    def trained(file, *more):
        short = ["--images", "16", "--batch", "4", "--epochs", "1", "--out", str(tmp_path / file)]
        args = [*short, "--backbone", name, *more]
        threads = torch.get_num_threads()
        try:
            done = CliRunner().invoke(train_scenes_backbone.main, args)
        finally:
            torch.set_num_threads(threads)
        assert done.exit_code == 0, done.output
        assert "step 4/4" in done.output
        return (tmp_path / file).read_bytes()

    assert trained("a.npz") == trained("b.npz")
    assert trained("a.npz") != trained("c.npz", "--lr", "1e-5")
    assert trained("a.npz") != trained("d.npz", "--epochs", "1", "--images", "17", "--batch", "4")

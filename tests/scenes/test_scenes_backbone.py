import numpy as np
import torch

from mlfsic_bench.data.scenes import Scenes
from mlfsic_bench.features import scenes_backbone, train_scenes_backbone
from mlfsic_bench.features.backbones import build_backbone


def test_the_shipped_weights_are_small_finite_and_fit():
    backbone = build_backbone("scenes-small")
    assert (backbone.channels, backbone.grid, backbone.input_size) == (128, (7, 7), 112)
    assert all(torch.isfinite(p).all() for p in backbone.parameters())
    folder = scenes_backbone.files("mlfsic_bench.features")
    assert len(folder.joinpath(scenes_backbone.WEIGHTS_FILE).read_bytes()) < 1_000_000


def test_shipped_and_initial_weights_have_different_hashes():
    assert (
        build_backbone("scenes-small").weights_hash == build_backbone("scenes-small").weights_hash
    )
    none = build_backbone("scenes-small", "none")
    assert none.weights_hash != build_backbone("scenes-small").weights_hash
    assert none.weights_hash == build_backbone("scenes-small", "none").weights_hash


def test_trained_cells_tell_objects_from_ground():
    # On val images, which it has not seen: one direction in feature space, found on half of them.
    scenes = Scenes(base_images=0, val_images=40, novel_images=0)
    backbone = build_backbone("scenes-small")
    ids = scenes.annotations().image_ids
    x = torch.stack([backbone.transform(scenes.open_image(i)) for i in ids])
    with torch.no_grad():
        maps = backbone(x).permute(0, 2, 3, 1).reshape(40, 49, 128).numpy()
    shares = [
        np.sum(list(scenes.masks(i).values()), axis=0).reshape(7, 16, 7, 16).mean((1, 3)).ravel()
        for i in ids
    ]
    share = np.stack(shares)
    train = maps[:20].reshape(-1, 128)
    on, off = train[share[:20].ravel() > 0.6].mean(0), train[share[:20].ravel() == 0].mean(0)
    along = maps[20:] @ (on - off)
    objects, ground = along[share[20:] > 0.6], along[share[20:] == 0]
    assert (objects[:, None] > ground[None]).mean() > 0.95


def test_training_targets_are_shares_of_cells():
    pixels, targets = train_scenes_backbone.training_data(3)
    assert pixels.shape == (3, 112, 112, 3)
    assert targets.shape == (3, 11, 7, 7)
    assert targets.min() == 0.0
    assert targets.max() <= 1.0
    # whether there is an object at all is the largest of its attributes
    np.testing.assert_array_equal(targets[:, 0], targets.max(1))


def test_packed_weights_load_again(tmp_path):
    net = scenes_backbone.network().eval()
    path = tmp_path / "weights.npz"
    path.write_bytes(train_scenes_backbone.pack(net))
    with np.load(path, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype == np.float16 for name in arrays.files)
        assert set(arrays.files) == {
            n for n in net.state_dict() if not n.endswith("num_batches_tracked")
        }

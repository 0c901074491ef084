"""A backbone whose global vector is not the mean of its map."""

import torch
from torch import Tensor, nn

from mlfsic_bench.features.backbones.base import Backbone, Squash
from mlfsic_bench.features.compute import Runner
from mlfsic_bench.features.live import LiveFeatures
from mlfsic_bench.features.sources import StoredFeatures
from mlfsic_bench.features.store.manifest import manifest_of, read_manifest
from mlfsic_bench.features.store.store import FeatureStore
from mlfsic_bench.features.store.writer import StoreWriter


class TwoOutputs(nn.Module):
    """Maps of three channels and a projection of five numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = nn.functional.avg_pool2d(x, 4)
        return maps, self.project(maps.amax((2, 3)))


def backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone(
        "two-outputs", TwoOutputs(), channels=3, grid=(2, 2), transform=Squash(8),
        weights="none", vector="projection", dim=5,
    )  # fmt: skip


def test_a_global_vector_of_its_own_is_stored_beside_the_map(tmp_path):
    made = backbone()
    images = [torch.rand(3, 8, 8) for _ in range(4)]
    maps, vectors = Runner(made, torch.device("cpu"), "fp32")(images)
    assert maps.shape == (4, 4, 3)
    assert vectors.shape == (4, 5)
    manifest = manifest_of("fake", made, "fp32")
    with StoreWriter(tmp_path / "s", manifest) as writer:
        writer.add(list("abcd"), ["0"] * 4, maps, vectors)
    assert read_manifest(tmp_path / "s") == manifest
    source = StoredFeatures(FeatureStore(tmp_path / "s"))
    assert (source.dim, source.vector) == (5, "projection")
    torch.testing.assert_close(source.pooled("ca"), torch.from_numpy(vectors[[2, 0]]))
    expected = source.local("ca").mean((2, 3))
    torch.testing.assert_close(source.averaged("ca"), expected)


def test_what_the_global_vector_is_belongs_to_the_key_unless_it_is_the_mean():
    made = backbone()
    own = manifest_of("fake", made, "fp32")
    made.vector, made.dim = "class token", 5
    assert manifest_of("fake", made, "fp32").key != own.key
    made.vector, made.dim = "mean", 3
    mean = manifest_of("fake", made, "fp32")
    assert "vector" not in mean.as_json()
    assert mean.dim == 3


class OneImage:
    def open_image(self, image_id: str):
        from PIL import Image

        return Image.new("RGB", (8, 8), (int(image_id), 0, 0))


def test_a_live_source_gives_the_vectors_of_the_network():
    made = backbone()
    live = LiveFeatures(made, OneImage())  # type: ignore[arg-type]
    maps, vectors = made.features(live.inputs(["3", "200"]))
    torch.testing.assert_close(live.pooled(["3", "200"]), vectors)
    torch.testing.assert_close(live.averaged(["3", "200"]), maps.mean((2, 3)))

"""A folder of small images and two small backbones, for tests of the features room."""

import hashlib
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from mlfsic_bench.data.dataset import Annotations, Dataset
from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.base import Backbone, Squash

SIZE = 16
MEAN = (0.5, 0.5, 0.5)


class FolderDataset(Dataset):
    name = "fake"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def annotations(self) -> Annotations:
        ids = tuple(sorted(path.stem for path in self.folder.glob("*.png")))
        none = np.zeros((len(ids), 0), dtype=bool)
        return Annotations((), ids, none, none)

    def available(self, image_ids):
        return np.array([(self.folder / f"{i}.png").is_file() for i in image_ids])

    def image_bytes(self, image_id):
        return (self.folder / f"{image_id}.png").read_bytes()

    def open_image(self, image_id):
        try:
            return Image.open(io.BytesIO(self.image_bytes(image_id))).convert("RGB")
        except OSError as error:
            raise BenchError(
                f"{image_id}.png is corrupt", expected="a PNG", found=str(error), remedy="refetch"
            ) from error


def make_images(folder: Path, count: int) -> tuple[str, ...]:
    """`count` images whose pixels follow from their names; returns the ids."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = tuple(f"img{i:03d}" for i in range(count))
    for name in ids:
        (folder / f"{name}.png").write_bytes(image_of(name))
    return ids


def image_of(name: str) -> bytes:
    """A PNG whose pixels follow from a name."""
    pixels = np.frombuffer(hashlib.sha256(name.encode()).digest() * 24, np.uint8)
    made = io.BytesIO()
    Image.fromarray(pixels.reshape(SIZE, SIZE, 3)).save(made, "png")
    return made.getvalue()


class Picked(nn.Module):
    """Chosen pixels, unchanged: independent of the batch to the last bit."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return torch.cat([x[:, :, ::4, ::4], x[:, :1, 1::4, 1::4]], dim=1) * self.gain


class SmallNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.tail = nn.Sequential(nn.Conv2d(8, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6))

    def forward(self, x):
        return torch.relu(self.tail(torch.relu(self.bn1(self.conv1(x)))))


def picked_backbone(gain: float | None = None) -> Backbone:
    body = Picked()
    if gain is not None:
        nn.init.constant_(body.gain, gain)
    return Backbone(
        "picked",
        body,
        channels=4,
        grid=(4, 4),
        transform=Squash(SIZE, "bilinear", MEAN, MEAN),
        weights="none",
    ).eval()


def small_backbone(seed: int = 0) -> Backbone:
    generator = torch.Generator().manual_seed(seed)
    net = SmallNet()
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.3)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.abs_().add_(0.5)
    return Backbone(
        "small",
        net,
        channels=6,
        grid=(4, 4),
        transform=Squash(SIZE, "bilinear", MEAN, MEAN),
        weights="none",
        conv_norm_pairs=(("conv1", "bn1"),),
    ).eval()

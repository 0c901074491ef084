"""Features on which set operations can be checked by hand, and methods of `laso` on them."""

import pytest
import torch
from mlfsic_baselines.laso import LaSO, LaSOParams

from mlfsic_bench.methods.contract import Images, Support, TrainingPart
from mlfsic_bench.randomness import torch_generator
from tests.fakes.source import FakeSource

BLOCK, LABELS = 4, 6
SHORT = {"classifier_epochs": 2, "epochs": 2, "tune_epochs": 3}
# 150 images: an epoch of 150 pairs; rates fit for features of 24 numbers
TRAINED = {"classifier_epochs": 60, "classifier_lr": 0.03, "epochs": 15, "lr": 0.02}
TRAINED |= {"pairs_per_image": 2, "batch": 32}


class Blocks(FakeSource):
    """Features in which label l is coordinates 4 l to 4 l + 3 being about 1, and the rest about 0.

    So the union of two images is their maximum, the intersection their minimum, and the
    difference relu(a - b). An image's id says its labels, as in "x7:0,2".
    """

    def __init__(self):
        super().__init__(channels=BLOCK * LABELS)

    def pooled(self, ids):
        return torch.stack([self._one(i) for i in ids])

    def _one(self, name):
        noise = torch.rand(self.channels, generator=torch_generator("blocks", name))
        labels = [int(x) for x in name.split(":")[1].split(",")]
        return targets_of([labels])[0].repeat_interleave(BLOCK) * 0.9 + 0.1 * noise


def targets_of(sets):
    Y = torch.zeros(len(sets), LABELS)
    for row, labels in zip(Y, sets, strict=True):
        row[labels] = 1
    return Y


def block_part(n, prefix="x"):
    g = torch_generator("block labels", prefix)
    Y = (torch.rand(n, LABELS, generator=g) < 0.35).float()
    Y[torch.arange(n), torch.arange(n) % LABELS] = 1
    sets = [row.nonzero()[:, 0].tolist() for row in Y]
    ids = tuple(f"{prefix}{i}:{','.join(map(str, s))}" for i, s in enumerate(sets))
    names = tuple(f"label {i}" for i in range(LABELS))
    return TrainingPart(Images(ids, Blocks()), Y, names, None, lambda i: pytest.fail("episode"))


def method(**settings):
    return LaSO(LaSOParams(**settings))


def support_of(part, rows, seed=3):
    images = part.images.subset(rows)
    return Support(images, part.targets[list(rows)], part.labels, None, seed)

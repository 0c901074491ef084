"""Makes the weights of the backbones of `scenes`.

    python -m tools.train_scenes --backbone scenes-small

All of them get the same lesson on the same base images. The images' masks say which objects a cell
of the 7 x 7 map shows, and the cell learns those objects' attributes (disc, ..., dotted, halved)
and whether there is an object at all, by binary cross-entropy. What a cell learns is thus made of
what labels share, as in a backbone trained on a large set of other labels; no val or novel label,
and no image of theirs, is seen. The seed fixes images, order and initial weights. Torch does not
promise equal sums on other processors or in other releases, so a new training elsewhere gives
weights of the same worth, not the same bytes. It takes two to four minutes on one core.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from mlfsic_bench.data.scenes import ATTRIBUTES, Scenes
from mlfsic_bench.features.backbones.scenes import CELL, GRID, VARIANTS, variant
from mlfsic_bench.features.backbones.weights import initialised
from mlfsic_bench.files import write_bytes
from mlfsic_bench.randomness import splitmix64_array, stream_seed

PACKAGE = Path(str(files("mlfsic_bench.features.backbones")))


@dataclass(frozen=True)
class Recipe:
    """What differs between the networks: passes over the images, and the highest learning rate."""

    epochs: int
    lr: float


RECIPES = {
    "scenes-small": Recipe(3, 4e-3),
    "scenes-deep": Recipe(3, 4e-3),
    "scenes-patch": Recipe(16, 1.5e-3),  # a transformer learns slower, but a pass costs less
}


def training_data(count: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """The first `count` base images: uint8 [n, 112, 112, 3], and float32 [n, a, 7, 7] targets.

    A target is the square root of the share of the cell that an object with the attribute covers
    (the largest such share), so that a cell at an object's rim counts too. Attribute 0 is "an
    object".
    """
    scenes = Scenes(base_images=count, val_images=0, novel_images=0)
    ids = scenes.annotations().image_ids
    pixels = np.stack([scenes.pixels(image_id) for image_id in ids])
    targets = np.zeros((count, 1 + len(ATTRIBUTES), *GRID), np.float32)
    for row, image_id in enumerate(ids):
        for label, mask in scenes.masks(image_id).items():
            has = np.concatenate([[True], scenes.label_embeddings([label])[0] > 0])
            share = mask.reshape(GRID[0], CELL, GRID[1], CELL).mean((1, 3))
            targets[row, has] = np.maximum(targets[row, has], share)
    return pixels, np.sqrt(targets)


def train(name: str, count: int, epochs: int, batch: int, lr: float) -> nn.Module:
    """The trained network; prints the loss as it goes."""
    pixels, targets = training_data(count)
    x_all, y_all = torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(targets)
    net = initialised(variant(name).network, name).to(memory_format=torch.channels_last)
    head = nn.Conv2d(variant(name).channels, targets.shape[1], 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)  # type: ignore[arg-type]
    parameters = [*net.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01)
    steps = epochs * (count // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.15)
    start, losses = time.monotonic(), []
    for step in range(steps):
        epoch, at = divmod(step, count // batch)
        rows = torch.from_numpy(_order(name, count, epoch)[at * batch : (at + 1) * batch])
        x = x_all[rows].to(memory_format=torch.channels_last).float() / 127.5 - 1
        x, y = _flipped(step, x), _flipped(step, y_all[rows])
        loss = functional.binary_cross_entropy_with_logits(head(net(x)), y)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % 50 == 0 or step + 1 == steps:
            seconds = time.monotonic() - start
            click.echo(f"step {step + 1}/{steps} loss {np.mean(losses[-50:]):.4f} {seconds:.0f} s")
    return net.eval()


def _order(name: str, count: int, epoch: int) -> npt.NDArray[np.int64]:
    seed = np.array(stream_seed(name, "order", epoch), np.uint64)
    return np.argsort(splitmix64_array(seed, np.arange(count, dtype=np.uint64)), kind="stable")


def _flipped(step: int, x: Tensor) -> Tensor:
    # Steps go through the four mirror images in turn.
    axes = [axis for axis, bit in ((3, 1), (2, 2)) if step & bit]
    return x.flip(axes) if axes else x


def pack(net: nn.Module) -> bytes:
    """The network's weights as the bytes of an .npz file of float16 arrays."""
    arrays = {
        name: value.numpy().astype(np.float16)
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    stream = BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


@click.command()
@click.option(
    "--backbone",
    type=click.Choice(list(VARIANTS)),
    default="scenes-small",
    show_default=True,
    help="Which network to train.",
)
@click.option("--images", default=6000, show_default=True, help="Base images to train on.")
@click.option("--epochs", type=int, help="Passes over them (default: the network's own).")
@click.option("--batch", default=32, show_default=True, help="Images a step.")
@click.option("--lr", type=float, help="Highest learning rate (default: the network's own).")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the weights go (default: the file in the package).",
)
def main(
    backbone: str, images: int, epochs: int | None, batch: int, lr: float | None, out: Path | None
) -> None:
    """Train a backbone of scenes on its base images and write the weights."""
    torch.set_num_threads(1)  # another number adds up in another order
    recipe = RECIPES[backbone]
    out = out or PACKAGE / variant(backbone).weights_file
    net = train(backbone, images, epochs or recipe.epochs, batch, lr or recipe.lr)
    write_bytes(out, pack(net))
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main()

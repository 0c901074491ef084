"""The parameters of `laso`, and training its set operations on pairs of base images."""

from __future__ import annotations

import math
import time
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from mlfsic_baselines.epochs import read_checkpoint
from mlfsic_baselines.laso_networks import SetOperations
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import linear

from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import hash_bytes, hash_json
from mlfsic_bench.methods.contract import FitContext, MethodParams, TrainingPart
from mlfsic_bench.paths import exists
from mlfsic_bench.randomness import splitmix64_array, stream_seeds, torch_generator
from mlfsic_bench.training.checkpoints import save_checkpoint

CHECKPOINT_SECONDS = 30.0
AT_TEST = {"augment", "head_layers", "dropout", "tune_epochs", "tune_lr", "tune_batch"}
# what is trained and used of the set operations alone; epochs stays, so that a short run may be
# asked for in either case
OPERATIONS = (
    "networks",
    "layers",
    "tanh",
    "generator_dropout",
    "pairs_per_image",
    "batch",
    "warmup_lr",
    "lr",
    "warmup_epochs",
    "momentum",
    "weight_decay",
    "class_weight",
    "error_weight",
)
FEATURES_AT_ONCE = 256  # images whose features are asked for together


class LaSOParams(MethodParams):
    """Parameters of LaSO."""

    networks: Literal["residual", "paper"] = Field(
        "residual", description="set operations with analytic terms, or the paper's generators"
    )
    layers: int = Field(1, ge=1, description="layers with an analytic term (residual)")
    tanh: bool = Field(True, description="tanh at the end of a generator (paper)")
    generator_dropout: float = Field(0.5, ge=0, lt=1, description="dropout of generators (paper)")
    classifier_epochs: int = Field(200, ge=0, description="epochs of the base classifier")
    classifier_lr: float = Field(1e-3, gt=0, description="its learning rate (Adam)")
    classifier_batch: int = Field(64, ge=1, description="its images in a step")
    epochs: int = Field(50, ge=0, description="epochs of the set operations")
    pairs_per_image: float = Field(4.0, gt=0, description="pairs in an epoch, for a base image")
    batch: int = Field(16, ge=1, description="pairs in a step")
    warmup_lr: float = Field(1e-4, gt=0, description="learning rate of the first step (SGD)")
    lr: float = Field(2e-3, gt=0, description="learning rate after the warm-up")
    warmup_epochs: int = Field(3, ge=0, description="epochs of linear warm-up")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay")
    class_weight: float = Field(1.0, ge=0, description="weight of the classification losses")
    error_weight: float = Field(1.0, ge=0, description="weight of the squared errors")
    augment: Literal["union", "none"] = Field("union", description="what joins the support")
    head_layers: int = Field(3, ge=0, description="hidden layers of the head; 0: linear head")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout between layers of the head")
    tune_epochs: int = Field(40, ge=0, description="epochs on each support set")
    tune_lr: float = Field(0.01, gt=0, description="learning rate of the head (Adam)")
    tune_batch: int = Field(4, ge=2, description="support images in a step, beside the unions")

    @model_validator(mode="after")
    def _consistent(self) -> LaSOParams:
        if self.augment == "none":
            self.without_effect("augment=none", *OPERATIONS)
        elif self.networks == "residual":
            self.without_effect("networks=residual", "tanh", "generator_dropout")
        else:
            self.without_effect("networks=paper", "layers")
        return self


def draw_pairs(Y: npt.NDArray[np.bool_], pairs: int, seed: int) -> npt.NDArray[np.int64]:
    """Positions [pairs, 2] of two different images that share a label, in a drawn order.

    Y: bool [n, L]. The shared label goes round all labels that two images carry, so rare labels
    come as often as common ones; the two images are drawn from those that carry it.
    """
    pools = [np.flatnonzero(column) for column in Y.T]
    pools = [pool for pool in pools if len(pool) > 1]
    if not pools:
        raise BenchError(
            "laso finds no pair of base images that shares a label",
            expected="a base label that two images carry",
            found=f"{len(Y)} images and {Y.shape[1]} labels, none of them shared",
            remedy="use a base part with more images, or choose augment=none",
        )
    index = np.arange(pairs, dtype=np.uint64)
    seeds = stream_seeds(["laso/pairs", seed], range(3))
    first, second, order = (splitmix64_array(np.array([s], np.uint64), index) for s in seeds)
    sizes = np.array([len(pool) for pool in pools], np.uint64)
    starts = np.cumsum(sizes) - sizes
    label = np.arange(pairs) % len(pools)
    size = sizes[label]
    i = first % size
    j = (i + 1 + second % (size - 1)) % size
    flat, start = np.concatenate(pools), starts[label]
    found = np.stack([flat[start + i], flat[start + j]], 1)[np.argsort(order)]
    return found.astype(np.int64)


def train_operations(
    networks: SetOperations,
    W: Tensor,
    base: TrainingPart,
    p: LaSOParams,
    context: FitContext,
) -> None:
    """Train `networks` in place on the base part, whose classifier W [L, c + 1] stays as it is.

    The learning rate rises linearly, then halves when the mean loss of an epoch has not fallen for
    more than 4 epochs (counted anew an epoch after that). With a folder in the context, a killed
    training resumes after its last checkpoint and takes the same steps. Afterwards the networks
    are in evaluation mode.
    """
    pairs = max(2, round(p.pairs_per_image * len(base.images)))
    f, Y = _features(base), base.targets
    carried = (Y > 0).cpu().numpy()
    steps = max(1, pairs // p.batch)
    sgd = torch.optim.SGD(
        networks.parameters(),
        lr=p.lr,
        momentum=p.momentum,
        weight_decay=p.weight_decay,
    )
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, factor=0.5, patience=4, cooldown=1)
    key = _key(W, base, p, context.seed)
    path = context.folder / "set_operations.pt" if context.folder is not None else None
    step, total = 0, torch.zeros((), dtype=torch.float64, device=f.device)
    if path is not None and exists(path):
        content = read_checkpoint(path, key)
        networks.load_state_dict(content["networks"])
        sgd.load_state_dict(content["sgd"])
        plateau.load_state_dict(content["plateau"])
        step, total = content["step"], content["total"].to(f.device)
        context.log(f"resuming after step {step} of {p.epochs * steps}")
    saved_at, parts = time.monotonic(), None
    networks.train()
    while step < p.epochs * steps:
        epoch, k = divmod(step, steps)
        if parts is None or k == 0:
            seed = stream_seeds(["laso/epoch", context.seed], [epoch])[0]
            parts = np.array_split(draw_pairs(carried, pairs, seed), steps)
        if epoch < p.warmup_epochs:
            done = step / (p.warmup_epochs * steps)
            sgd.param_groups[0]["lr"] = p.warmup_lr + (p.lr - p.warmup_lr) * done
        elif k == 0 and epoch == p.warmup_epochs:
            sgd.param_groups[0]["lr"] = p.lr
        i, j = torch.from_numpy(parts[k].T).to(f.device)
        with torch.enable_grad():
            loss = networks.loss(
                f[i],
                f[j],
                Y[i],
                Y[j],
                lambda x: linear(x, W[:, :-1], W[:, -1]),
                (p.class_weight, p.error_weight),
                torch_generator("laso/pair dropout", context.seed, step),
            )
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        step, total = step + 1, total + loss.detach()  # read once an epoch
        if step % steps == 0:
            mean, total = total.item() / steps, torch.zeros_like(total)
            rate = sgd.param_groups[0]["lr"]
            _check(mean, rate)
            line = f"set operations, epoch {epoch + 1}/{p.epochs}: loss {mean:.4f}, lr {rate:.2e}"
            context.log(line)
            if epoch >= p.warmup_epochs:
                plateau.step(mean)
        due = step == p.epochs * steps or time.monotonic() - saved_at >= CHECKPOINT_SECONDS
        if path is not None and due:
            content = {
                "key": key,
                "step": step,
                "total": total,
                "networks": networks.state_dict(),
                "sgd": sgd.state_dict(),
                "plateau": plateau.state_dict(),
            }
            save_checkpoint(path, content)
            saved_at = time.monotonic()
    networks.eval()


@torch.no_grad()
def _features(base: TrainingPart) -> Tensor:
    """float32 [n, c]: pooled features of all base images, from the backbone as it is now."""
    n = len(base.images)
    rows = range(0, n, FEATURES_AT_ONCE)
    parts = [base.images.subset(range(r, min(n, r + FEATURES_AT_ONCE))).pooled() for r in rows]
    return torch.cat(parts)


def _check(loss: float, rate: float) -> None:
    if not math.isfinite(loss):
        raise BenchError(
            "training the set operations diverged",
            expected="a finite loss",
            found=f"{loss} at learning rate {rate:.3g}",
            remedy="lower the learning rate (--set lr=5e-4), and verify the features",
        )


def _key(W: Tensor, base: TrainingPart, p: LaSOParams, seed: int) -> str:
    """What the training depends on; the classifier stands for the features it was trained on."""
    return hash_json(
        {
            "classifier": hash_bytes(W.cpu().numpy().tobytes()),
            "ids": base.images.ids,
            "targets": hash_bytes(base.targets.cpu().numpy().tobytes()),
            "params": p.model_dump(mode="json", exclude=AT_TEST),
            "seed": seed,
        }
    )

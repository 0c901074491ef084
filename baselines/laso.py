"""The `laso` row: set operations learnt on pairs of base images, unions as extra support."""

from __future__ import annotations

import copy
import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from mlfsic_baselines.classifier import (
    is_due,
    kept,
    read_checkpoint,
    selection_key,
    train_classifier,
)
from mlfsic_baselines.laso_networks import (
    Generators,
    Heads,
    Operation,
    Residual,
    SetOperations,
    draw_pairs,
    start_head,
    uniform,
)
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import linear

from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import hash_bytes, hash_json
from mlfsic_bench.methods.contract import (
    FitContext,
    Images,
    Method,
    MethodParams,
    Predictor,
    Support,
    TrainingPart,
)
from mlfsic_bench.methods.refusals import loading_state
from mlfsic_bench.paths import exists
from mlfsic_bench.progress import progress
from mlfsic_bench.randomness import splitmix64_array, stream_seed, stream_seeds, torch_generator
from mlfsic_bench.training.adam import Adam
from mlfsic_bench.training.light import SGD
from mlfsic_bench.training.loop import save_checkpoint, val_macro_ap
from mlfsic_bench.works import ALFASSY_2019

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
    select_every: int | None = Field(
        None, ge=1, description="epochs between evaluations on val; none: keep the last weights"
    )
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
        if self.head_layers < 2:
            self.without_effect(f"head_layers={self.head_layers}", "dropout")
        if self.tune_epochs == 0:
            self.without_effect("tune_epochs=0", "tune_lr", "tune_batch", "dropout")
        return self


def train_operations(
    networks: SetOperations,
    W: Tensor,
    base: TrainingPart,
    p: LaSOParams,
    context: FitContext,
    evaluate: Callable[[], float] | None = None,
    chosen_on: object = None,
) -> None:
    """Train `networks` in place on the base part, whose classifier W [L, c + 1] stays as it is.

    The learning rate rises linearly, then halves when the mean loss of an epoch has not fallen for
    more than 4 epochs (counted anew an epoch after that). With `evaluate`, the value on val of the
    networks as they are, the best weights are kept and not the last; `chosen_on` says what that
    value depends on (`selection_key`). With a folder in the context, a killed
    training resumes after its last checkpoint and takes the same steps. Afterwards the networks
    are in evaluation mode.
    """
    pairs = max(2, round(p.pairs_per_image * len(base.images)))
    f, Y = _features(base), base.targets
    carried = (Y > 0).cpu().numpy()
    steps = max(1, pairs // p.batch)
    sgd = SGD(
        networks.parameters(),
        lr=p.lr,
        momentum=p.momentum,
        weight_decay=p.weight_decay,
    )
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, factor=0.5, patience=4, cooldown=1)
    key = _key(W, base, p, context.seed, chosen_on)
    best: dict[str, Any] | None = None
    path = context.folder / "set_operations.pt" if context.folder is not None else None
    step, total = 0, torch.zeros((), dtype=torch.float64, device=f.device)
    if path is not None and exists(path):
        content = read_checkpoint(path, key)
        networks.load_state_dict(content["networks"])
        sgd.load_state_dict(content["sgd"])
        plateau.load_state_dict(content["plateau"])
        step, total = content["step"], content["total"].to(f.device)
        best = content.get("best")
        context.log(f"resuming after step {step} of {p.epochs * steps}")
    saved_at, parts = time.monotonic(), None
    networks.train()
    with progress("set operations", p.epochs * steps, context.log, "steps", done=step) as advance:
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
            advance(1)
            looked = False
            if step % steps == 0:
                mean, total = total.item() / steps, torch.zeros_like(total)
                rate = sgd.param_groups[0]["lr"]
                _check(mean, rate)
                where = f"set operations, epoch {epoch + 1}/{p.epochs}"
                context.log(f"{where}: loss {mean:.4f}, lr {rate:.2e}")
                if epoch >= p.warmup_epochs:
                    plateau.step(mean)
                looked = is_due(epoch + 1, p.select_every, epoch + 1 == p.epochs)
                if evaluate is not None and looked:
                    networks.eval()
                    value = evaluate()
                    networks.train()
                    context.log(f"{where}: val {100 * value:.2f}")
                    if best is None or value > best["value"]:
                        weights = copy.deepcopy(networks.state_dict())
                        best = {"epoch": epoch + 1, "value": value, "weights": weights}
            last = step == p.epochs * steps
            due = looked or last or time.monotonic() - saved_at >= CHECKPOINT_SECONDS
            if path is not None and due:
                content = {
                    "key": key,
                    "step": step,
                    "total": total,
                    "networks": networks.state_dict(),
                    "sgd": sgd.state_dict(),
                    "plateau": plateau.state_dict(),
                    "best": best,
                }
                save_checkpoint(path, content)
                saved_at = time.monotonic()
    networks.eval()
    if best is not None:
        networks.load_state_dict(best["weights"])
        context.log(kept("set operations", best))


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


def _key(W: Tensor, base: TrainingPart, p: LaSOParams, seed: int, chosen_on: object) -> str:
    """What the training depends on; the classifier stands for the features it was trained on."""
    later = set() if chosen_on else AT_TEST
    return hash_json(
        {
            "classifier": hash_bytes(W.cpu().numpy().tobytes()),
            "ids": base.images.ids,
            "targets": hash_bytes(base.targets.cpu().numpy().tobytes()),
            "params": p.model_dump(mode="json", exclude=later),
            "seed": seed,
            "chosen_on": chosen_on,
        }
    )


CHUNK_WEIGHTS = 1 << 22  # weights of the heads tuned together; more would leave the cache
Index = npt.NDArray[np.int64]


class LaSO(Method):
    """Alfassy, Karlinsky, Aides, Shtok, Harary, Feris, Giryes and Bronstein, CVPR 2019.

    (LaSO: Label-Set Operations Networks for Multi-Label Few-Shot Learning.) Three networks learn on
    pairs of base images to make, from pooled features a and b, a feature whose labels are the
    union, the intersection or the difference of theirs. In an episode the union of every two
    support images joins the support, and a new classifier is tuned on both for 40 epochs.

        pair (a, A), (b, B) that shares a label;  U(a, b) is to be classified as A u B, and so on
        head loss = mean BCE over support images (f_i, y_i) and unions (U(f_i, f_j), max(y_i, y_j))

    Base training: a linear classifier of the base labels (as in `linear`; the backbone with it
    where it is trainable), then, both fixed, the networks, by SGD. Rates and batches are those of
    the original code's ResNet recipe, the head is its 3-layer one; the residual networks have one
    layer, where that recipe has two, and its few-shot script knows the generators alone. What was
    read from that code and what we decided stands in docs/methodology.md, M31.

    The last weights are kept, or with `select_every` those with the best few-shot macro-AP on val:
    of the networks as they augment val supports, and, where the backbone is trained, first of
    classifier and backbone with the support alone.

    Controls: preset `no-unions` leaves the set operations out and keeps head, rates and steps;
    `linear-head` is no more than a linear head at these rates.

    The drawn pairs, dropout and starts are keyed by the seeds; a label's row of the head by its
    name. Queries meet running statistics alone. With `augment=none`, set operations could not
    change a score, and are not trained.
    """

    name = "laso"
    version = 2  # torch's batch norm: rounding moves, and Adam makes it grow
    Params = LaSOParams
    presets = {  # noqa: RUF012
        "paper-generators": {"networks": "paper"},
        "no-unions": {"augment": "none"},
        "linear-head": {"augment": "none", "head_layers": 0},
    }
    check_settings = {"classifier_epochs": "2", "epochs": "2", "tune_epochs": "2"}  # noqa: RUF012
    trains = True
    adapts_by_gradient = True
    printed = "LaSO"
    citation = (
        "Alfassy et al., LaSO: Label-Set Operations Networks for Multi-Label Few-Shot Learning, "
        "CVPR 2019"
    )
    bibtex = ALFASSY_2019

    params: LaSOParams

    def __init__(self, params: MethodParams | None = None) -> None:
        super().__init__(params)
        self.operations: SetOperations | None = None
        self.classifier: Tensor | None = None  # [L, c + 1], of the base labels

    # -- base part ------------------------------------------------------------------------------

    def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
        """Train classifier (and backbone), then the set operations, on the base part."""
        p, source = self.params, base.images.source
        if p.augment == "none" and not source.trainable_parameters():
            context.log("laso: frozen backbone and no augmentation: no base training")
            return
        device = base.targets.device
        rows = _rows("base", context.seed, base.labels)
        start = torch.stack([uniform((source.dim + 1,), source.dim, g) for g in rows])
        chosen = selection_key(val, p.select_every)

        def on_val(method: LaSO) -> float:
            assert val is not None
            return val_macro_ap(method.adapt_all, val)

        # what a new head can do on val depends on the classifier through the backbone alone
        plain = LaSO(p.model_copy(update={"augment": "none"}))
        selects = chosen is not None and bool(source.trainable_parameters())
        W = train_classifier(
            base,
            context,
            W=start.to(device),
            epochs=p.classifier_epochs,
            lr=p.classifier_lr,
            batch=p.classifier_batch,
            evaluate=(lambda _: on_val(plain)) if selects else None,
            select_every=p.select_every,
            selection=hash_json([chosen, p.model_dump(mode="json")]) if selects else "",
        )
        if p.augment == "none":
            return
        networks = self._new(source.dim, torch_generator("laso/networks", context.seed))
        self.operations, self.classifier = networks.to(device), W
        evaluate = None if chosen is None else partial(on_val, self)
        train_operations(self.operations, W, base, p, context, evaluate, chosen)

    def _new(self, c: int, generator: Generator) -> SetOperations:
        p = self.params

        def make(operation: Operation) -> nn.Module:
            form: nn.Module = (
                Residual(operation, c, p.layers, generator)
                if p.networks == "residual"
                else Generators(operation, c, p.generator_dropout, p.tanh, generator)
            )
            return form

        return SetOperations(make)

    def state(self) -> dict[str, Tensor]:
        """The networks under `operations.`, and `classifier`; nothing with `augment=none`."""
        if self.operations is None or self.classifier is None:
            return {}
        weights = self.operations.state_dict().items()
        return {f"operations.{k}": v.detach().clone() for k, v in weights} | {
            "classifier": self.classifier
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        if not state:
            return
        with loading_state(self.name):
            self.classifier = state["classifier"]
            c = self.classifier.shape[1] - 1
            self.operations = self._new(c, torch_generator("laso/networks", 0)).eval()
            weights = {k[11:]: v for k, v in state.items() if k.startswith("operations.")}
            self.operations.load_state_dict(weights)

    # -- episodes -------------------------------------------------------------------------------

    def adapt(self, support: Support) -> Predictor:
        """A head for one episode; scores float32 [q, L]."""
        return self.adapt_all([support])[0]

    def adapt_all(self, supports: Sequence[Support]) -> list[Predictor]:
        """Heads for many episodes: those of equal shape are tuned side by side, in chunks."""
        groups: dict[torch.Size, list[int]] = defaultdict(list)
        for i, support in enumerate(supports):
            groups[support.targets.shape].append(i)
        predictors: dict[int, Predictor] = {}
        for members in groups.values():
            c = supports[members[0]].images.source.dim
            size = max(1, CHUNK_WEIGHTS // max(1, c * c * self.params.head_layers))
            for first in range(0, len(members), size):
                chunk = members[first : first + size]
                heads = self._tune([supports[i] for i in chunk])
                predictors.update({i: _predictor(heads.of(e)) for e, i in enumerate(chunk)})
        return [predictors[i] for i in range(len(supports))]

    def unions(self, f: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
        """The union of every two of s support images, each pair once: [P, c], [P, L].

        f: [s, c] features, Y: [s, L] of 0 and 1; P = s (s - 1) / 2, none with `augment=none`.
        """
        if self.params.augment == "none":
            return f[:0], Y[:0]
        if self.operations is None:
            raise BenchError(
                "laso has no set operations to augment with",
                expected="fit or load_state before adapt, with augment=union",
                found="a method that has seen no base part",
                remedy="fit the method first, or choose augment=none",
            )
        i, j = torch.triu_indices(len(f), len(f), offset=1, device=f.device)
        with torch.no_grad():
            made = self.operations.to(f.device).union(f[i], f[j], None)
        return made, torch.maximum(Y[i], Y[j])

    def _tune(self, supports: Sequence[Support]) -> Heads:
        """Heads of episodes of equal shape after `tune_epochs` of Adam.

        An epoch deals the support images, and the unions, into as many steps as there are whole
        batches of images; one lone image is taken twice, for a variance needs two.
        """
        p, device = self.params, supports[0].targets.device
        starts, Fs, Ys, generators = [], [], [], []
        for one in supports:
            with torch.no_grad():
                f, Y = one.images.pooled(), one.targets
            made, union = self.unions(f, Y)
            if len(f) == 1:
                f, Y = f.repeat(2, 1), Y.repeat(2, 1)
            Fs.append(torch.cat([f, made]))
            Ys.append(torch.cat([Y, union]))
            rows = _rows("head", one.seed, one.labels)
            start = start_head(
                f.shape[1], p.head_layers, rows, torch_generator("laso/hidden", one.seed)
            )
            starts.append([weight.to(device) for weight in start])
            generators.append(torch_generator("laso/dropout", one.seed))
        X, Y, s = torch.stack(Fs), torch.stack(Ys), max(2, len(supports[0].images))
        heads, steps = Heads(starts, p.dropout), max(1, s // p.tune_batch)
        for weight in heads.weights:
            weight.requires_grad_()
        adam = Adam(heads.weights, lr=p.tune_lr, fused=True)
        who = torch.arange(len(supports), device=device)[:, None]
        for epoch in range(p.tune_epochs):
            order = np.stack([_deal(one.seed, epoch, s, X.shape[1]) for one in supports])
            parts = [np.array_split(part, steps, axis=1) for part in np.split(order, [s], axis=1)]
            for part in zip(*parts, strict=True):
                images = torch.from_numpy(np.concatenate(part, axis=1)).to(device)
                with torch.enable_grad():
                    logits = heads.logits(X[who, images], generators)
                    loss = len(supports) * bce(logits, Y[who, images])
                adam.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                adam.step()
        return heads


def _rows(what: str, seed: int, labels: Sequence[str]) -> list[Generator]:
    """A generator for each label, which does not depend on where the label stands."""
    return [torch_generator(f"laso/{what}", seed, label) for label in labels]


def _deal(seed: int, epoch: int, s: int, n: int) -> Index:
    """The order of an epoch: s support images in some order, then the unions s to n - 1."""
    seeds = np.array([stream_seed("laso/order", seed, epoch)], np.uint64)
    words = splitmix64_array(seeds, np.arange(n, dtype=np.uint64))
    return np.concatenate([np.argsort(words[:s]), s + np.argsort(words[s:])])


def _predictor(head: Heads) -> Predictor:
    def predictor(query: Images) -> Tensor:
        scores: Tensor = head.logits(query.pooled()[None])[0]
        return scores

    return predictor

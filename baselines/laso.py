"""The `laso` row: set operations learnt on pairs of base images, unions as extra support."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from mlfsic_baselines.classifier import train_classifier
from mlfsic_baselines.laso_networks import (
    Generators,
    Heads,
    Operation,
    Residual,
    SetOperations,
    start_head,
    uniform,
)
from mlfsic_baselines.laso_training import LaSOParams, train_operations
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from mlfsic_bench.errors import BenchError
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
from mlfsic_bench.randomness import splitmix64_array, stream_seed, torch_generator

CHUNK_WEIGHTS = 1 << 24  # weights of the heads tuned together, which bounds their memory
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
    where it is trainable), then, both fixed, the networks, by SGD. Defaults are the original
    code's: its ResNet recipe for the networks, its 3-layer head. What was read from that code and
    what we decided stands in docs/methodology.md, M31.

    The drawn pairs, dropout and starts are keyed by the seeds; a label's row of the head by its
    name. Queries meet running statistics alone. With `augment=none`, set operations could not
    change a score, and are not trained.
    """

    name = "laso"
    Params = LaSOParams
    presets = {"paper-generators": {"networks": "paper"}}  # noqa: RUF012
    check_settings = {"classifier_epochs": "2", "epochs": "2", "tune_epochs": "2"}  # noqa: RUF012
    trains = True
    adapts_by_gradient = True
    printed = "LaSO"
    citation = (
        "Alfassy et al., LaSO: Label-Set Operations Networks for Multi-Label Few-Shot Learning, "
        "CVPR 2019"
    )
    bibtex = """\
@inproceedings{alfassy2019laso,
  title = {{LaSO}: Label-Set Operations Networks for Multi-Label Few-Shot Learning},
  author = {Alfassy, Amit and Karlinsky, Leonid and Aides, Amit and Shtok, Joseph and Harary,
    Sivan and Feris, Rogerio and Giryes, Raja and Bronstein, Alex M.},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern
    Recognition (CVPR)},
  pages = {6548--6557}, year = {2019}
}"""

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
        start = torch.stack([uniform((source.channels + 1,), source.channels, g) for g in rows])
        W = train_classifier(
            base, context, W=start.to(device),
            epochs=p.classifier_epochs, lr=p.classifier_lr, batch=p.classifier_batch,
        )  # fmt: skip
        if p.augment == "none":
            return
        networks = self._new(source.channels, torch_generator("laso/networks", context.seed))
        self.operations, self.classifier = networks.to(device), W
        train_operations(self.operations, W, base, p, context)

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
            c = supports[members[0]].images.source.channels
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
        adam = torch.optim.Adam(heads.weights, lr=p.tune_lr, fused=True)
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

"""A split, features and methods in memory: a whole run's inputs without images or backbones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mlfsic_bench.embeddings.label_embeddings import LabelEmbeddings, make_label_embeddings
from mlfsic_bench.episodes.files import draw_episodes
from mlfsic_bench.episodes.per_label import ONE_PER_LABEL
from mlfsic_bench.evaluation.inputs import Inputs
from mlfsic_bench.evaluation.meta import FeaturesMeta
from mlfsic_bench.evaluation.parts import select_parts
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.methods.contract import (
    FitContext,
    Images,
    Method,
    MethodParams,
    Predictor,
    Support,
    TrainingPart,
)
from mlfsic_bench.methods.limited import LimitedFeatures
from mlfsic_bench.randomness import splitmix64, stream_seed
from mlfsic_bench.splits.split import Part, Split
from mlfsic_bench.training.loop import load_checkpoint, save_checkpoint

CHANNELS = 12
LABELS = {
    "base": ("ant", "bee", "cat", "dog"),
    "val": ("elk", "fox", "gnu"),
    "novel": ("hen", "ibis", "jay"),
}


def fake_part(name: str, images_per_label: int = 20) -> Part:
    """Image i of a part shows label i mod L, every third image one more."""
    labels = LABELS[name]
    n = images_per_label * len(labels)
    targets = np.zeros((n, len(labels)), bool)
    for i in range(n):
        targets[i, i % len(labels)] = True
        if i % 3 == 0:
            targets[i, splitmix64(stream_seed("fake", name), i) % len(labels)] = True
    return Part(labels, tuple(f"{name}/{i:06d}" for i in range(n)), targets)


def fake_split(subset: dict[str, object] | None = None, **pools: int) -> Split:
    """A split of 4/3/3 labels; `base=3` gives that part 3 images a label.

    `subset` may leave out keys that say nothing is missing.
    """
    if subset is not None:
        nothing: dict[str, object] = {
            "available_only": False,
            "min_pool": None,
            "images_missing": dict.fromkeys(LABELS, 0),
            "labels_left": {name: {} for name in LABELS},
        }
        subset = {**nothing, **subset}
    parts = {name: fake_part(name, pools.get(name, 20)) for name in LABELS}
    content = {n: [list(p.image_ids), p.targets.astype(int).tolist()] for n, p in parts.items()}
    digest = hash_json({"content": content, "subset": subset})
    return Split("fake-4-3-3-v1", digest, "fake", "open", parts, subset)


class FakeFeatures:
    """A frozen source: the sum of the image's label directions, plus noise of its own."""

    channels = dim = CHANNELS
    grid = (1, 1)
    vector = "mean"

    def __init__(self, split: Split, asked: set[str] | None = None) -> None:
        self.split = split
        self.device = torch.device("cpu")
        self.asked = asked if asked is not None else set()

    def pooled(self, ids: Sequence[str]) -> Tensor:
        self.asked.update(ids)
        return torch.stack([self._vector(name) for name in ids])

    def local(self, ids: Sequence[str]) -> Tensor:
        return self.pooled(ids)[:, :, None, None]

    def averaged(self, ids: Sequence[str]) -> Tensor:
        return self.pooled(ids)

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        return []

    def train(self, mode: bool) -> None:
        pass

    def begin_episode(self, number: int, upcoming: Sequence[str]) -> None:
        pass

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        pass

    def _vector(self, name: str) -> Tensor:
        part = self.split.parts[name.partition("/")[0]]  # type: ignore[index]
        row = part.targets_of((name,))[0]
        shown = [label for label, has in zip(part.labels, row, strict=True) if has]
        vectors = [_direction("label", label) for label in shown]
        return torch.stack(vectors).sum(0) + 0.8 * _direction("image", name)


def _direction(kind: str, name: str) -> Tensor:
    seed = stream_seed("fake direction", kind, name)
    words = [splitmix64(seed, i) / 2**64 for i in range(CHANNELS)]
    return torch.tensor(words, dtype=torch.float32) - 0.5


class MeanParams(MethodParams):
    scale: float = Field(4.0, description="factor of the cosine")


class Mean(Method):
    """Mean prototypes, cosine."""

    name = "fake-mean"
    Params = MeanParams
    presets = {"sharp": {"scale": 20.0}}  # noqa: RUF012

    def adapt(self, support: Support) -> Predictor:
        f = torch.nn.functional.normalize(support.images.pooled(), dim=1)
        prototypes = torch.nn.functional.normalize(support.targets.T @ f, dim=1)
        scale = self.params.scale

        def predictor(query: Images) -> Tensor:
            return scale * torch.nn.functional.normalize(query.pooled(), dim=1) @ prototypes.T

        return predictor


class TrainedParams(MeanParams):
    steps: int = Field(30, description="training steps")


class Trained(Mean):
    """A diagonal metric learnt on base episodes, with a checkpoint every third step."""

    name = "fake-trained"
    Params = TrainedParams
    trains = True

    def __init__(self, params: MethodParams | None = None) -> None:
        super().__init__(params)
        self.weight = torch.ones(CHANNELS)

    def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
        weight, first = torch.ones(CHANNELS), 0
        path = context.folder / "last.pt" if context.folder else None
        if path is not None and path.exists():
            kept = load_checkpoint(path)
            weight, first = kept["weight"], kept["step"]
        for step in range(first, self.params.steps):
            episode = base.episode(step)
            w = weight.clone().requires_grad_()
            prototypes = episode.support.targets.T @ (episode.support.images.pooled() * w)
            logits = (episode.query.pooled() * w) @ prototypes.T
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                logits, episode.query_targets
            )
            (gradient,) = torch.autograd.grad(loss, w)
            weight = weight - 0.1 * gradient
            context.log(f"step {step + 1}")
            if path is not None and step % 3 == 2:
                save_checkpoint(path, {"weight": weight, "step": step + 1})
        self.weight = weight

    def adapt(self, support: Support) -> Predictor:
        prototypes = support.targets.T @ (support.images.pooled() * self.weight)
        return lambda query: (query.pooled() * self.weight) @ prototypes.T - 0.5

    def state(self) -> dict[str, Tensor]:
        return {"weight": self.weight}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.weight = state["weight"]


def fake_embeddings(split: Split) -> LabelEmbeddings:
    labels = [label for part in split.parts.values() for label in part.labels]
    vectors = np.stack([_direction("word", label).numpy() for label in labels])
    return make_label_embeddings(labels, vectors, "fake-words")


def fake_inputs(
    method: type[Method] = Mean,
    params: dict[str, object] | None = None,
    *,
    split: Split | None = None,
    episodes: int = 45,
    count: int | None = None,
    seed: int = 0,
    embeddings: bool = False,
    asked: set[str] | None = None,
) -> Inputs:
    """Inputs of a run of a fake method on the fake split."""
    split = split or fake_split()

    def make() -> Method:
        return method(method.Params(**(params or {})))

    return Inputs(
        split=split,
        episodes=draw_episodes(ONE_PER_LABEL, split, "novel", episodes),
        count=count or episodes,
        selection=select_parts(split) if method.trains else None,
        embeddings=fake_embeddings(split) if embeddings else None,
        method=make(),
        make_method=make,
        method_source="fakes 1",
        preset=None,
        seed=seed,
        features=FeaturesMeta(
            mode="stored",
            backbone="fake",
            weights="none",
            weights_hash="0" * 64,
            transform="none",
            precision="fp32",
            channels=CHANNELS,
            grid=(1, 1),
        ),
        device=torch.device("cpu"),
        open_source=lambda wanted, others, log: LimitedFeatures(FakeFeatures(split, asked)),
    )


def fake_run(folder: Path, method: type[Method] = Mean, **options: object) -> Path:
    """A finished run of a fake method in `folder`."""
    from mlfsic_bench.evaluation.runner import execute

    return execute(fake_inputs(method, **options), folder)  # type: ignore[arg-type]

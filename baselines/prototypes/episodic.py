"""Training a few weights over the features on base episodes: what prototype methods share."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import Parameter

from mlfsic_bench.features.sources import FeatureSource
from mlfsic_bench.hashing import hash_bytes, hash_json
from mlfsic_bench.methods.contract import FitContext, Method, MethodParams, TrainingPart
from mlfsic_bench.methods.refusals import untrained, wrong_state
from mlfsic_bench.randomness import torch_generator
from mlfsic_bench.training.loop import WarmupCosine, train_episodic, val_macro_ap

Weights = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]
DECAY = 32  # the learning rate falls to this part of `lr` at the last step


class EpisodicParams(MethodParams):
    """Parameters of the training."""

    steps: int = Field(500, ge=0, description="training steps, each on one base episode")
    lr: float = Field(1e-3, gt=0, description="learning rate of Adam at the first step")
    select_every: int = Field(50, ge=1, description="steps between two evaluations on val")


class EpisodicMethod(Method):
    """A method with named weights that are trained on base episodes.

    Adam, one episode a step, the learning rate on a cosine from `lr` to lr / 32. The weights with
    the best macro-AP on the val episodes are kept, without a val part the last ones. A trainable
    backbone is trained with them at the same rate. A killed training resumes after its last
    checkpoint and takes the same steps.

    A subclass says the `shapes` of its weights and the `loss` of an episode, and takes the weights
    from `weights_for` when it adapts. What is needed in training alone is in `training_shapes`.
    """

    trains = True
    params: EpisodicParams

    def __init__(self, params: MethodParams | None = None) -> None:
        super().__init__(params)
        self._weights: Weights = {}

    @abstractmethod
    def shapes(self, source: FeatureSource) -> Shapes:
        """Names and shapes of the weights for features of this source."""

    @abstractmethod
    def loss(self, weights: Weights, base: TrainingPart, number: int, seed: int) -> Tensor:
        """The scalar loss of base episode `number`; `seed` is the training's."""

    def training_shapes(self, source: FeatureSource, base: TrainingPart) -> Shapes:
        """Names and shapes of what learns beside the weights and is dropped after training."""
        return {}

    def start(self, name: str, shape: tuple[int, ...], generator: Generator) -> Tensor:
        """The value a weight starts from: normal with variance 2 / inputs, a vector zero."""
        if len(shape) < 2:
            return torch.zeros(shape)
        return torch.randn(shape, generator=generator) * math.sqrt(2 / math.prod(shape[1:]))

    def fit(self, base: TrainingPart, val: TrainingPart | None, context: FitContext) -> None:
        """Train on base episodes; keep the weights with the best macro-AP on val."""
        p, source = self.params, base.images.source
        shapes = self.shapes(source)
        learning = {
            name: Parameter(
                self.start(name, shape, torch_generator(self.name, name, context.seed)).to(
                    source.device
                )
            )
            for name, shape in (shapes | self.training_shapes(source, base)).items()
        }
        self._weights = {name: learning[name] for name in shapes}

        def loss(number: int) -> Tensor:
            source.train(True)
            return self.loss(dict(learning), base, number, context.seed)

        def evaluate() -> float:
            assert val is not None
            source.train(False)
            val.images.source.load_state(source.state())
            return val_macro_ap(self.adapt_all, val)

        def get_state() -> Weights:
            state = {name: tensor.detach().clone() for name, tensor in learning.items()}
            return state | {f"backbone.{name}": tensor for name, tensor in source.state().items()}

        def set_state(state: Weights) -> None:
            with torch.no_grad():
                for name, tensor in learning.items():
                    tensor.copy_(state[name])
            backbone = {k[9:]: v for k, v in state.items() if k.startswith("backbone.")}
            source.load_state(backbone)

        trained = train_episodic(
            parameters=[*learning.values(), *source.trainable_parameters()],
            loss=loss,
            learning_rate=WarmupCosine(base=p.lr, steps=p.steps, final=p.lr / DECAY),
            steps=p.steps,
            get_state=get_state,
            set_state=set_state,
            evaluate=None if val is None else evaluate,
            evaluate_every=p.select_every,
            row_every=p.select_every,
            folder=context.folder,
            key=self._key(base, val, context.seed),
            log=context.log,
        )
        source.train(False)
        if trained.best is not None:
            set_state(trained.best)
            value = 100 * (trained.best_value or 0)
            context.log(f"kept step {trained.best_step}: macro-AP {value:.2f} on val")
        self._weights = {name: learning[name].detach() for name in shapes}

    def weights_for(self, source: FeatureSource) -> Weights:
        """The weights on the source's device; BenchError when its features don't fit them."""
        if not self._weights:
            raise untrained(self.name)
        wanted = self.shapes(source)
        found = {name: tuple(tensor.shape) for name, tensor in self._weights.items()}
        if found != wanted:
            names = sorted(n for n in {*found, *wanted} if found.get(n) != wanted.get(n))
            text = ", ".join(f"{n}: {found.get(n)} in place of {wanted.get(n)}" for n in names)
            raise wrong_state(self.name, text)
        return {name: tensor.to(source.device) for name, tensor in self._weights.items()}

    def state(self) -> Weights:
        """The weights, without what is needed in training alone."""
        return {name: tensor.detach().clone() for name, tensor in self._weights.items()}

    def load_state(self, state: Weights) -> None:
        """Restore what `state` returned."""
        self._weights = dict(state)

    def _key(self, base: TrainingPart, val: TrainingPart | None, seed: int) -> str:
        """What the training depends on, as a hash: a checkpoint of another key is refused."""
        parts = [
            {
                "labels": part.labels,
                "ids": part.images.ids,
                "targets": hash_bytes(part.targets.cpu().numpy().tobytes()),
                "episodes": part.n_episodes,
            }
            for part in (base, val)
            if part is not None
        ]
        source = base.images.source
        features = [source.channels, *source.grid, source.dim]
        params = self.params.model_dump(mode="json")
        given = {"params": params, "parts": parts, "seed": seed, "features": features}
        return hash_json({"method": self.name, **given})


def semi_orthogonal(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """float32 [d_out, d], rows or columns orthogonal, which keeps the mean squared distance."""
    d_out, d = shape
    Q, R = torch.linalg.qr(torch.randn(max(shape), min(shape), generator=generator))
    Q = Q * R.diagonal().sign()
    W: Tensor = (Q if d_out >= d else Q.T) * math.sqrt(max(d / d_out, 1))
    return W

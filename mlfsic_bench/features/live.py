"""Features of a network that runs when it is asked: frozen, or trained end to end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.augmentation import augmented
from mlfsic_bench.features.backbones.base import MEAN
from mlfsic_bench.features.backbones.weights import load_strictly
from mlfsic_bench.features.compute import features_of, parse_device
from mlfsic_bench.features.image_cache import open_cache
from mlfsic_bench.features.live_inputs import LiveInputs
from mlfsic_bench.features.memory import (
    Footprint,
    batch_norms,
    checkpoint_blocks,
    computed_again,
    footprint,
    free_memory,
    require_memory,
)
from mlfsic_bench.features.sources import FeatureSource
from mlfsic_bench.features.training_options import PLAIN, Training
from mlfsic_bench.randomness import stream_seed

if TYPE_CHECKING:
    from mlfsic_bench.data.dataset import Dataset
    from mlfsic_bench.features.backbones.base import Backbone
    from mlfsic_bench.features.store.manifest import Precision

Log = Callable[[str], None]
BATCH = (32, 256)  # images at once without a graph, on a CPU and on a GPU
CALLS = "training.calls"  # in the state: how often training asked outside of an episode


@dataclass(frozen=True)
class LiveOptions:
    """How a live network is computed, beside what it is.

    Attributes
    ----------
    training: see there.
    precision: `fp32`, or `bf16` for autocast: products in bfloat16, weights in float32.
    batch_size: images at once without a graph; None for what suits the device.
    workers: decoding threads; None for what suits the machine.
    cache: the folder below which decoded images are kept; None for nowhere.
    ids: the images that may be asked for.
    seed: the training seed, which names the random streams.
    """

    training: Training = PLAIN
    precision: Precision = "fp32"
    batch_size: int | None = None
    workers: int | None = None
    cache: Path | None = None
    ids: tuple[str, ...] = ()
    seed: int = 0


class LiveFeatures(FeatureSource):
    """A FeatureSource that decodes images and runs the backbone when asked.

    With `trainable` the backbone's weights receive gradients and `train(True)` puts it in training
    mode, with batch norms as `Training.batch_norm` says; without, it stays in evaluation mode and
    builds no graph. Without a graph images go through the network in batches of bounded size. Each
    call runs the network: a method that wants both maps and pooled features of the same images
    should average the maps itself. The backbone given is moved to `device`, laid out channels last
    and used, not copied.

    What training draws at random, augmentation and the network's own dropout, is drawn from streams
    named by the training seed and the episode, so that a resumed training draws the same. Where a
    method trains on no episodes and something is drawn, its calls are counted, and the count is in
    `state`.

    Attributes
    ----------
    log: gets lines on kept images and on memory.
    """

    def __init__(
        self,
        backbone: Backbone,
        dataset: Dataset,
        device: str | torch.device = "cpu",
        trainable: bool = False,
        options: LiveOptions | None = None,
    ) -> None:
        self.options = options or LiveOptions()
        self.log: Log = lambda line: None
        training = self.options.training
        self.device = parse_device(device)
        moved = backbone.to(self.device).to(memory_format=torch.channels_last)
        self.backbone = moved.requires_grad_(trainable).eval()
        self.trainable = trainable
        self.channels, self.grid = backbone.channels, (backbone.grid[0], backbone.grid[1])
        self.dim, self.vector = backbone.dim, backbone.vector
        self._dataset = dataset
        self._inputs: LiveInputs | None = None
        self._norms = batch_norms(backbone) if training.frozen_norms else []
        self._again = computed_again(self._run, backbone)
        self._episode: int | None = None
        self._calls = 0
        self._draws = bool(training.augment)
        self._checked = 0
        self._footprint: Footprint | None = None
        if training.checkpointing:
            checkpoint_blocks(backbone)
        if training.compile:
            backbone.body.compile()

    def local(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c, h, w] on `device`, in the graph when trainable."""
        return self._features(ids, lambda maps, vectors: maps, (self.channels, *self.grid))

    def pooled(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, d] on `device`: the global vectors, in the graph when trainable."""
        return self._features(ids, lambda maps, vectors: vectors, (self.dim,))

    def averaged(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, c] on `device`: the averages of the maps, in the graph when trainable."""
        if self.vector == MEAN:
            return self.pooled(ids)
        return self._features(ids, lambda maps, vectors: maps.mean(dim=(2, 3)), (self.channels,))

    def _features(
        self,
        ids: Sequence[str],
        choose: Callable[[Tensor, Tensor], Tensor],
        shape: tuple[int, ...],
    ) -> Tensor:
        if not len(ids):
            return torch.empty(0, *shape, device=self.device)
        if self.trainable and torch.is_grad_enabled():
            return choose(*self._in_graph(ids))
        size = self.options.batch_size or BATCH[self.device.type == "cuda"]
        if self.backbone.training:  # batch norms take their statistics over what is asked for
            size = len(ids)
        batches = [ids[start : start + size] for start in range(0, len(ids), size)]
        chosen = []
        with torch.no_grad():
            for batch, after in zip(batches, [*batches[1:], ()], strict=True):
                x = self.inputs(batch)
                self.prefetch(after)
                chosen.append(choose(*self._run(x)))
        return torch.cat(chosen)

    def _in_graph(self, ids: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Maps and vectors of all images in the graph, in micro-batches where these are asked for.

        All but the last are computed without a graph, and again when the gradients of their
        features are known. The last one's backward pass comes first: it is computed once.
        """
        self._require_memory(len(ids))
        with self._drawing():
            x = self.inputs(ids)
            kinds = self.options.training.augment
            if kinds and self.backbone.training:
                x = augmented(x, kinds, [self._stream("augment", name) for name in ids])
            size = self.options.training.micro_batch or len(ids)
            parts = torch.split(x, size)
            made = [self._again(part) for part in parts[:-1]] + [self._run(parts[-1])]
        maps, vectors = zip(*made, strict=True)
        return (maps[0], vectors[0]) if len(made) == 1 else (torch.cat(maps), torch.cat(vectors))

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """float32 maps and vectors of inputs."""
        lower = self.options.precision == "bf16"
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=lower):
                maps, vectors = features_of(self.backbone, x)
        except BenchError as error:
            if self.options.training.compile:
                error.remedy = "leave --compile out: it is torch.compile that may fail here"
            raise
        return maps.float().contiguous(), vectors.float()

    # -- what training draws ----------------------------------------------------------------------

    def begin_episode(self, number: int, upcoming: Sequence[str]) -> None:
        """Training episode `number` begins; the images of the next one are decoded meanwhile."""
        self._episode = number
        self.prefetch(upcoming)

    def prefetch(self, ids: Sequence[str]) -> None:
        """Begin to decode images that are likely to be asked for next."""
        if len(ids):
            self._reader().prefetch(ids)

    def _stream(self, *names: str) -> int:
        """The seed of a stream of this episode, or of this call where no episode has begun."""
        where = ("call", self._calls) if self._episode is None else ("episode", self._episode)
        return stream_seed("live", self.options.seed, *where, *names)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Dropout and its like draw from this call's stream; the caller's generators stay."""
        if not self.backbone.training:
            yield
            return
        if self._episode is None:
            self._calls += 1
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            seed = self._stream("network") >> 1
            torch.default_generator.manual_seed(seed)
            if devices:
                with torch.cuda.device(self.device):
                    torch.cuda.manual_seed(seed)
            before = self._generators()
            yield
            self._draws |= self._generators() != before

    def _generators(self) -> list[bytes]:
        """The states of the generators that a network on this device draws from."""
        states = [torch.default_generator.get_state()]
        if self.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.device))
        return [state.numpy().tobytes() for state in states]

    # -- state ------------------------------------------------------------------------------------

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """The backbone's parameters when trainable, else none."""
        return list(self.backbone.parameters()) if self.trainable else []

    def train(self, mode: bool) -> None:
        """Training or evaluation mode; a frozen network stays in evaluation mode itself."""
        self._episode = None
        self.backbone.train(mode and self.trainable)
        for norm in self._norms:
            norm.eval()

    def state(self) -> dict[str, Tensor]:
        """Copies of the backbone's weights on the CPU when trainable, else nothing."""
        if not self.trainable:
            return {}
        state = self.backbone.state_dict()
        made = {name: value.detach().cpu().clone() for name, value in state.items()}
        return made | ({CALLS: torch.tensor(self._calls)} if self._calls and self._draws else {})

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned; BenchError when it does not fit."""
        if self.trainable or state:
            calls = state.get(CALLS)
            weights = {name: value for name, value in state.items() if name != CALLS}
            load_strictly(self.backbone, weights, "the saved state of the backbone")
            self._calls = 0 if calls is None else int(calls)

    # -- inputs and memory ------------------------------------------------------------------------

    def inputs(self, ids: Sequence[str]) -> Tensor:
        """float32 [n, 3, height, width] on `device`: what the network is given."""
        return self._reader()(ids)

    def _reader(self) -> LiveInputs:
        if self._inputs is None:
            options = self.options
            reader = LiveInputs(self.backbone, self._dataset, self.device, options.workers)
            wanted = options.training.image_cache
            if options.cache is not None and reader.splits and wanted is not False:
                reader.cache = open_cache(
                    options.cache,
                    self._dataset.name,
                    self.backbone.transform_id,
                    self._dataset.annotations().image_ids,
                    options.ids,
                    self.backbone.input_size,
                    reader.pixels,
                    self.log,
                )
            self._inputs = reader
        return self._inputs

    def _require_memory(self, images: int) -> None:
        """BenchError where a step with more images than any before can't fit."""
        if images <= self._checked:
            return
        if not self._checked:
            self._footprint = footprint(self.backbone)
        self._checked, free = images, free_memory(self.device)
        if self._footprint is not None and free is not None:
            o = self.options
            require_memory(
                self.backbone, self._footprint, images, o.precision, o.training, free, self.log
            )

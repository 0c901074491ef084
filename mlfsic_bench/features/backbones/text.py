"""The text side of a network that has one: texts into the space of its global vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.weights import hash_weights
from mlfsic_bench.hashing import hash_json
from mlfsic_bench.offline import offline

BATCH = 64


class TextTower:
    """A text tower and its tokenizer, which is read when the first text comes.

    It belongs to no module, so that neither the weights' hash nor a copy of the backbone has it.

    Parameters
    ----------
    model: the whole network; it stays on its device.
    name: of the backbone, for errors.
    tokenizer: reads the tokenizer, from this machine; texts -> what `embed` takes.
    embed: tokens -> float [n, d].
    image_side: prefixes of the weights that no text reaches.
    cut: what says how texts are cut into tokens.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        tokenizer: Callable[[], Callable[[list[str]], Any]],
        embed: Callable[[Any], Tensor],
        image_side: tuple[str, ...],
        cut: object,
    ) -> None:
        self.model = model
        self.name = name
        self._read, self._embed = tokenizer, embed
        self._image_side, self._cut = image_side, cut

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the weights of the text side, and of how texts are cut into tokens."""
        state = self.model.state_dict()
        own = {k: v for k, v in state.items() if not k.startswith(self._image_side)}
        return hash_json([hash_weights(own), self._cut])

    @cached_property
    def _tokenizer(self) -> Callable[[list[str]], Any]:
        try:
            with offline():
                return self._read()
        except Exception as error:
            raise BenchError(
                f"the tokenizer of {self.name} is not on this machine, or can't be read",
                expected="its files in the folder or the cache of the network",
                found=f"{type(error).__name__}: {error}",
                remedy="fetch the whole repository of the network, then try again",
            ) from error

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32 [n, d]: one vector for each text, not normalised; BenchError for no tokenizer."""
        made = [
            self._embed(self._tokenizer(list(texts[start : start + BATCH]))).float().cpu().numpy()
            for start in range(0, len(texts), BATCH)
        ]
        return np.concatenate(made)

    def __deepcopy__(self, memo: object) -> TextTower:
        return self

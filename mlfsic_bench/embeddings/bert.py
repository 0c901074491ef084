"""A frozen BERT that turns mentions of a label into contextual vectors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlfsic_bench.embeddings.bert_folder import (
    REMEDY,
    read_config,
    read_weights,
    tokenizer_paths,
    weight_path,
)
from mlfsic_bench.embeddings.mentions import Mention
from mlfsic_bench.errors import BenchError

if TYPE_CHECKING:
    import torch

BATCH = 32


class Bert:
    """A BERT model with its tokenizer, in evaluation mode.

    Attributes
    ----------
    dimension: length of its vectors.
    layers: number of its layers.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        transformers = _transformers()
        import torch

        config, weights = read_config(folder), weight_path(folder)
        tokenizer_paths(folder)
        self.dimension: int = config["hidden_size"]
        self.layers: int = config["num_hidden_layers"]
        self._longest: int = config["max_position_embeddings"]
        self._device = device
        self._tokenizer = _tokenizer(folder, config["vocab_size"])
        with torch.random.fork_rng(devices=[]):  # its initialisers draw; nobody else should notice
            settings = transformers.BertConfig(**config, attn_implementation="eager")
            self._model = transformers.BertModel(settings, add_pooling_layer=False)
        _load(self._model, read_weights(weights), weights)
        self._model.to(device).eval()

    def vectors(
        self, mentions: Sequence[Mention], *, masked: bool, layer: int
    ) -> npt.NDArray[np.float64]:
        """float64 [n, dimension]: for each mention the mean of the label's tokens at `layer`.

        Layers count from 1 to `layers`. With `masked` the label's words are replaced by one
        [MASK] token, whose vector is taken. A sentence longer than the model takes is cut to a
        window with the label in its middle.
        """
        inputs = [self._tokens(mention, masked) for mention in mentions]
        rows = [self._batch(inputs[at : at + BATCH], layer) for at in range(0, len(inputs), BATCH)]
        return np.concatenate(rows)

    def _tokens(self, mention: Mention, masked: bool) -> tuple[list[int], int, int]:
        """Token ids with [CLS] and [SEP], and the label's first token and the one after its last.

        Positions are found by the characters that each token stands for.
        """
        tokenizer, (start, end) = self._tokenizer, (mention.start, mention.end)
        text = mention.sentence
        if masked:
            mask = str(tokenizer.mask_token)
            text = f"{text[:start]}{mask}{text[end:]}"
            end = start + len(mask)
        coded = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        own = [i for i, (a, b) in enumerate(coded["offset_mapping"]) if a < end and b > start]
        if not own:
            raise BenchError(
                f"the tokenizer makes nothing of {mention.sentence[mention.start : mention.end]!r}",
                expected="at least one token for a label",
                found=f"none in the sentence {text[:60]!r}",
                remedy="leave this label out, or name a model whose tokenizer knows its characters",
            )
        room = self._longest - 2
        first, count = own[0], own[-1] + 1 - own[0]
        begin = max(0, min(first - (room - count) // 2, len(coded["input_ids"]) - room))
        ids = coded["input_ids"][begin : begin + room]
        first += 1 - begin
        return [tokenizer.cls_token_id, *ids, tokenizer.sep_token_id], first, first + count

    def _batch(
        self, inputs: Sequence[tuple[list[int], int, int]], layer: int
    ) -> npt.NDArray[np.float64]:
        import torch

        longest = max(len(ids) for ids, _, _ in inputs)
        padding = [longest - len(ids) for ids, _, _ in inputs]
        ids = torch.tensor([ids + [0] * n for (ids, _, _), n in zip(inputs, padding, strict=True)])
        seen = torch.tensor([[1] * (longest - n) + [0] * n for n in padding])
        with torch.no_grad():
            states = self._model(
                input_ids=ids.to(self._device),
                attention_mask=seen.to(self._device),
                output_hidden_states=True,
            ).hidden_states[layer]
        rows = [
            states[row, first:end].double().mean(dim=0)
            for row, (_, first, end) in enumerate(inputs)
        ]
        result: npt.NDArray[np.float64] = torch.stack(rows).cpu().numpy()
        return result


def transformers_version() -> str:
    """The version of transformers that is installed."""
    return str(_transformers().__version__)


def _transformers() -> Any:
    """The library, told before its import that nothing may be fetched."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import safetensors.torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise BenchError(
            "averaging over mentions needs the extra `bert`",
            expected="the packages transformers and safetensors",
            found=str(error),
            remedy="pip install 'mlfsic-bench[bert]'",
        ) from error
    return transformers


def _tokenizer(folder: Path, vocabulary: int) -> Any:
    """The folder's fast tokenizer; BenchError when it is damaged or does not fit the network."""
    try:
        tokenizer = _transformers().BertTokenizerFast.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        named = ("cls_token_id", "sep_token_id", "mask_token_id")
        ids = {name: getattr(tokenizer, name) for name in named}
        largest = max(tokenizer.get_vocab().values())
    except Exception as error:  # a damaged file can fail in any of the library's readers
        raise BenchError(
            f"the tokenizer of {folder} can't be read",
            expected="tokenizer.json or vocab.txt of a BERT model",
            found=f"{type(error).__name__}: {str(error).strip().splitlines()[:1]}",
            remedy=REMEDY,
        ) from error
    absent = [name.removesuffix("_token_id") for name, value in ids.items() if value is None]
    if absent or largest >= vocabulary:
        raise BenchError(
            f"the tokenizer of {folder} does not fit the model",
            expected=f"tokens for cls, sep and mask, and ids below {vocabulary}",
            found=f"no token for {', '.join(absent)}" if absent else f"id {largest}",
            remedy=REMEDY,
        )
    return tokenizer


def _load(model: Any, state: dict[str, torch.Tensor], path: Path) -> None:
    """Load strictly: a tensor left at its random start would spoil every vector in silence."""
    own = model.state_dict()
    wrong = [f"no {key}" for key in own if key not in state and "position_ids" not in key]
    wrong += [f"unknown {key}" for key in state if key not in own]
    wrong += [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    wrong += [f"not finite: {key}" for key, value in state.items() if not value.isfinite().all()]
    if wrong:
        raise BenchError(
            f"{path} does not fit the model's config.json",
            expected=f"its {len(own)} tensors, finite",
            found="; ".join(wrong[:5]) + (" ..." if len(wrong) > 5 else ""),
            remedy=REMEDY,
        )
    model.load_state_dict(state, strict=False)

"""A BERT model from a local folder: nothing is fetched and nothing in the folder is executed.

The folder is what Hugging Face's `save_pretrained` writes for a model of type `bert`: config.json,
model.safetensors or pytorch_model.bin, and tokenizer.json or vocab.txt. The network is
transformers' own BertModel, built from numbers of config.json; other settings of it, such as code
of the folder's own, are not looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular, read_json
from mlfsic_bench.paths import exists, is_file, is_folder
from mlfsic_bench.torch_files import read_torch_file, unreadable

if TYPE_CHECKING:
    from torch import Tensor

REMEDY = "name a folder with a BERT model as save_pretrained writes it, such as bert-base-uncased"
CONTENT = "named tensors of a BERT model"

# numbers of config.json that make the network -> the most that is accepted
_SIZES = {
    "vocab_size": 1_000_000,
    "hidden_size": 8192,
    "num_hidden_layers": 100,
    "num_attention_heads": 256,
    "intermediate_size": 65_536,
    "max_position_embeddings": 65_536,
    "type_vocab_size": 16,
}
_ACTIVATIONS = ("gelu", "gelu_new", "relu")
# what else a checkpoint of BERT may hold: heads that the last layer does not need
_HEADS = ("cls.", "pooler.", "classifier.", "qa_outputs.", "embeddings.position_ids")


def read_config(folder: Path) -> dict[str, Any]:
    """The settings of config.json that BertModel takes; BenchError for another kind of model."""
    if not is_folder(folder):
        raise BenchError(
            f"the model {folder} is not a folder",
            expected="a folder with config.json, weights and tokenizer (nothing is downloaded)",
            found="a file" if exists(folder) else "nothing at that path",
            remedy=REMEDY,
        )
    path = folder / "config.json"
    values = read_json(path, kind="model configuration", limit=1 << 20)
    kind = values.get("model_type") if isinstance(values, dict) else None
    position = values.get("position_embedding_type", "absolute") if kind == "bert" else None
    if kind != "bert" or position != "absolute":
        raise BenchError(
            f"{path} is not the configuration of a BERT model",
            expected="model_type 'bert' with absolute positions",
            found=f"model_type {kind!r}" + (f", positions {position!r}" if kind == "bert" else ""),
            remedy=REMEDY,
        )
    config: dict[str, Any] = {}
    for name, most in _SIZES.items():
        value = values.get(name, 2 if name == "type_vocab_size" else None)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise _bad_setting(path, name, f"a whole number from 1 to {most}", value)
        config[name] = value
    if config["hidden_size"] % config["num_attention_heads"]:
        expected = "a divisor of hidden_size"
        raise _bad_setting(path, "num_attention_heads", expected, config["num_attention_heads"])
    config["hidden_act"] = values.get("hidden_act", "gelu")
    if config["hidden_act"] not in _ACTIVATIONS:
        expected = f"one of {', '.join(_ACTIVATIONS)}"
        raise _bad_setting(path, "hidden_act", expected, config["hidden_act"])
    config["layer_norm_eps"] = values.get("layer_norm_eps", 1e-12)
    if not isinstance(config["layer_norm_eps"], float) or not 0 < config["layer_norm_eps"] < 1:
        expected = "a number between 0 and 1"
        raise _bad_setting(path, "layer_norm_eps", expected, config["layer_norm_eps"])
    return config


def weight_path(folder: Path) -> Path:
    """The folder's weight file, safetensors first; BenchError when it has none."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if is_file(folder / name):
            return folder / name
    raise BenchError(
        f"the model {folder} has no weights",
        expected="model.safetensors or pytorch_model.bin",
        found="neither",
        remedy=REMEDY,
    )


def tokenizer_paths(folder: Path) -> list[Path]:
    """The files the tokenizer is made of; BenchError when there are none."""
    names = ("tokenizer.json", "vocab.txt", "tokenizer_config.json")
    paths = [folder / name for name in names if is_file(folder / name)]
    if not any(path.name != "tokenizer_config.json" for path in paths):
        raise BenchError(
            f"the model {folder} has no tokenizer",
            expected="tokenizer.json or vocab.txt",
            found="neither",
            remedy=REMEDY,
        )
    return paths


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of BertModel in a weight file, under BertModel's own names.

    Checkpoints of BERT with a head on top prefix them with `bert.`, and old ones call the weights
    of layer normalisation gamma and beta. Heads are left out. A .bin file is read with
    `weights_only`, so pickled objects are refused.
    """
    import torch

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            open_regular(path).close()  # the library opens whatever it is told to
            state = load_file(path)
        except BenchError:
            raise
        except Exception as error:  # the library's own error type, or the system's
            found = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            raise unreadable(path, "weight file", CONTENT, found, REMEDY) from error
    else:
        state = read_torch_file(path, "weight file", CONTENT, REMEDY)
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        found = "other things than named tensors"
        raise unreadable(path, "weight file", CONTENT, found, REMEDY)
    named: dict[str, Tensor] = {}
    for key, tensor in state.items():
        own = str(key).removeprefix("bert.")
        if own.startswith(_HEADS):
            continue
        own = own.replace("LayerNorm.gamma", "LayerNorm.weight")
        named[own.replace("LayerNorm.beta", "LayerNorm.bias")] = tensor
    return named


def _bad_setting(path: Path, name: str, expected: str, found: object) -> BenchError:
    return BenchError(
        f"{path}: {name} can't be used",
        expected=expected,
        found=repr(found)[:80],
        remedy=REMEDY,
    )

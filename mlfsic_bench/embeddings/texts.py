"""Label embeddings from texts: a label is written into templates, and an encoder reads them.

The encoder is the text side of a backbone, whose vectors live in the space of its global vectors,
or a sentence encoder in a local folder. Nothing is downloaded, and nothing in a folder is executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from mlfsic_bench.embeddings.label_embeddings import (
    LabelEmbeddings,
    check_labels,
    make_label_embeddings,
    spaced_form,
    write_label_table,
)
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import open_regular, read_json
from mlfsic_bench.hashing import hash_file, hash_json
from mlfsic_bench.offline import transformers_offline
from mlfsic_bench.paths import is_file, is_folder

if TYPE_CHECKING:
    import torch

TEMPLATES = ("a photo of a {}.",)  # as CLIP's authors write a label when they use one template
PLACE = "{}"
LONGEST = 200  # characters of a template
MOST = 1000  # templates
BATCH = 64  # texts read together
CONFIG, POOLING = "config.json", "1_Pooling/config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class TextEncoder(Protocol):
    """What makes vectors of texts.

    Attributes
    ----------
    hash: SHA-256 of all that its vectors depend on: weights, and how texts are cut into tokens.
    """

    @property
    def hash(self) -> str: ...  # noqa: D102

    def encode(self, texts: Sequence[str]) -> Any:
        """float32 [n, d], an array or a tensor: one vector for each text, of any length."""


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """The templates; BenchError for a list that is empty, or one that has no place for a label."""
    bad = [
        one
        for one in templates
        if not isinstance(one, str)
        or one.count(PLACE) != 1
        or len(one) > LONGEST
        or not one.isprintable()
    ]
    if bad or not 1 <= len(templates) <= MOST or len(set(templates)) != len(templates):
        raise BenchError(
            "the templates are not ones to write labels into",
            expected=f"1 to {MOST} different lines of at most {LONGEST} characters, each with one "
            f"{PLACE} where the label goes, such as {TEMPLATES[0]!r}",
            found=repr(bad[0])[:LONGEST]
            if bad
            else ("none" if not templates else f"{len(templates)}, some of them twice or too many"),
            remedy="correct --template",
        )
    return tuple(templates)


def embed_labels(
    labels: Sequence[str],
    encoder: TextEncoder,
    templates: Sequence[str] = TEMPLATES,
    *,
    name: str,
    space: str = "",
) -> LabelEmbeddings:
    """Label embeddings float32 [L, d] of unit length, from an encoder's vectors of texts.

    Every template is filled with the label (VOC's joined spellings taken apart); each vector is
    brought to unit length, they are averaged over the templates, and the mean is brought to unit
    length (Radford et al., ICML 2021, section 3.1.4). The hash is that of labels, templates and
    encoder rather than of the numbers, which differ in their last bits between machines.

    Parameters
    ----------
    name: what the embeddings are called in a record.
    space: the backbone whose space they live in; empty for a space of their own.
    """
    from mlfsic_bench.plugins.foreign import plugin_call  # imports torch

    check_labels(labels)
    templates = check_templates(templates)
    texts = [one.replace(PLACE, spaced_form(label)) for label in labels for one in templates]
    with plugin_call("text encoder", name, "while it read the labels", _correct):
        batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
        parts = [np.asarray(encoder.encode(batch)) for batch in batches]
        vectors = np.concatenate(parts).astype(np.float64)
    _refuse_bad(vectors, texts, name)
    unit = _unit(vectors).reshape(len(labels), len(templates), -1).mean(axis=1)
    made = make_label_embeddings(labels, _unit(unit), name)
    what = {"labels": list(labels), "templates": list(templates), "encoder": encoder.hash}
    return LabelEmbeddings(made.labels, made.vectors, name, hash_json(what), templates, space)


def _correct(error: BaseException) -> str:
    return "correct encode(): a list of texts -> finite floating numbers [n, d]"


def _unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: npt.NDArray[np.float64] = vectors / np.where(norms == 0, 1, norms)
    return unit


def _refuse_bad(vectors: npt.NDArray[np.float64], texts: Sequence[str], name: str) -> None:
    if vectors.ndim != 2 or len(vectors) != len(texts) or not vectors.shape[1]:
        found = f"an array of shape {list(vectors.shape)}"
    elif not np.isfinite(vectors).all():
        bad = int((~np.isfinite(vectors)).any(axis=1).argmax())
        found = f"NaN or infinity for {texts[bad]!r}"
    elif not vectors.any(axis=1).all():
        found = f"a vector of zeros for {texts[int((~vectors.any(axis=1)).argmax())]!r}"
    else:
        return
    raise BenchError(
        f"{name}: the encoder's vectors of {len(texts)} texts can't be used",
        expected="one finite vector that is not zero for every text",
        found=found,
        remedy="check the encoder and its weights",
    )


def write_embeddings(made: LabelEmbeddings, out: Path) -> None:
    """Write the label embeddings, and what they were made of (`write_label_table`)."""
    what = {"made_by": made.name, "templates": list(made.templates), "hash": made.hash}
    what |= {"space": made.space} if made.space else {}
    write_label_table(out, made.labels, made.vectors, what)


class SentenceEncoder:
    """A sentence encoder from a local folder, as transformers or sentence-transformers wrote it.

    A text's vector is the mean of its tokens' vectors in the last layer, or that of the first token
    where the folder's `1_Pooling/config.json` says so. Reads configuration, weights and tokenizer
    with transformers' own classes; code in the folder is never executed.

    Raises BenchError for a folder that is no such model.
    """

    def __init__(self, folder: Path, device: str | torch.device = "cpu") -> None:
        import torch

        self.folder, self.device = folder, torch.device(device)
        files = self._files()
        self.first = self._pools_first_token()
        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            with (
                transformers_offline("bert") as transformers,
                torch.random.fork_rng(devices=[]),  # its initialisers draw random numbers
            ):
                model, report = transformers.AutoModel.from_pretrained(
                    str(folder), weights_only=True, output_loading_info=True, **options
                )
                tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **options)
        except BenchError:
            raise
        except Exception as error:  # a damaged file can fail in any of the libraries' readers
            first = (str(error).strip() or "no reason given").splitlines()[0]
            raise self._refused(f"{type(error).__name__}: {first}") from error
        # The pooler is not read; any other tensor at its random start would spoil every vector.
        missing = [key for key in report["missing_keys"] if "pooler" not in str(key)]
        if missing:
            raise self._refused(f"no tensor for {sorted(map(str, missing))[0]}")
        self.model = model.float().to(self.device).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.hash = hash_json({"files": [hash_file(path) for path in files], "first": self.first})

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """float32 [n, d]."""
        import torch

        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, return_tensors="pt", verbose=False
        ).to(self.device)
        with torch.inference_mode():
            states = self.model(**tokens).last_hidden_state
        if self.first:
            pooled = states[:, 0]
        else:
            mask = tokens["attention_mask"][:, :, None].to(states)
            pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        result: npt.NDArray[np.float32] = pooled.float().cpu().numpy()
        return result

    def _files(self) -> list[Path]:
        """Configuration, weights and tokenizer, sorted; BenchError where one lacks."""
        if not is_folder(self.folder):
            raise self._refused("no folder at that path")
        weights = [self.folder / name for name in WEIGHTS if is_file(self.folder / name)][:1]
        tokenizer = sorted(
            path
            for pattern in ("tokenizer*", "vocab*", "*.model", "merges.txt", "special_tokens*")
            for path in self.folder.glob(pattern)
            if is_file(path)
        )
        config = self.folder / CONFIG
        if not weights or not tokenizer or not is_file(config):
            lacks = "weights" if not weights else "tokenizer" if not tokenizer else CONFIG
            raise self._refused(f"no {lacks}")
        files = [config, *weights, *tokenizer]
        for path in files:  # the libraries would wait for a pipe, and can't name an LFS pointer
            open_regular(path).close()
        return files

    def _pools_first_token(self) -> bool:
        path = self.folder / POOLING
        if not is_file(path):
            return False
        said = read_json(path, kind="pooling configuration", limit=1 << 16)
        said = said if isinstance(said, dict) else {}
        modes = {k for k, v in said.items() if k.startswith("pooling_mode_") and v is True}
        if modes not in ({"pooling_mode_mean_tokens"}, {"pooling_mode_cls_token"}):
            raise self._refused(
                f"a pooling that is not known here: {', '.join(sorted(modes)) or 'none'}"
            )
        return "pooling_mode_cls_token" in modes

    def _refused(self, found: str) -> BenchError:
        return BenchError(
            f"{self.folder} is not a sentence encoder that can be read",
            expected="a folder with config.json, weights (model.safetensors or pytorch_model.bin) "
            "and tokenizer, as save_pretrained writes it; nothing is downloaded",
            found=found,
            remedy="name such a folder, for example a copy of all-MiniLM-L6-v2",
        )

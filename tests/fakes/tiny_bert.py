"""A BERT model with random weights in a folder, as save_pretrained writes it, and a corpus."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

WORDS = [
    "a",
    "the",
    "and",
    "on",
    "of",
    "in",
    "with",
    "red",
    "hot",
    "big",
    "old",
    "dog",
    "dogs",
    "cat",
    "bus",
    "buses",
    "wine",
    "glass",
    "glasses",
    "potted",
    "plant",
    "sat",
    "ran",
    "stood",
    "near",
    "house",
    "table",
    "##s",
    "##es",
    "##ing",
    "tv",
    "monitor",
    ".",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SENTENCES = (
    "A dog sat on the table.",
    "the cat and the DOG ran",
    "Two dogs stood near a bus",
    "A hot dog with wine",
    "the old hot-dog house",
    "a wine glass on the table",
    "wine glasses and a cat",
    "buses ran near the house",
    "the big red bus stood with the cat",
    "a potted plant in the house",
    "dogma has no place here",
    "the tv monitor sat on the table near a cat and a dog",
)


def write_tiny_bert(folder: Path, *, seed: int = 0, longest: int = 32) -> Path:
    """Three layers of 12 units over a few words; returns the folder."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = [*SPECIAL, *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=12,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=longest,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(config)
    model.save_pretrained(folder)
    return folder


def write_corpus(path: Path, sentences: tuple[str, ...] = SENTENCES) -> Path:
    """One sentence a line; gzip'd when the name ends in .gz."""
    data = "".join(f"{sentence}\n" for sentence in sentences).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path

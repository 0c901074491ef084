"""Label embeddings that an encoder makes of texts: templates, averaging, sentence encoders."""

import json
import os
from contextlib import suppress

import numpy as np
import pytest
import torch

from mlfsic_bench.embeddings.label_embeddings import load_embeddings
from mlfsic_bench.embeddings.texts import (
    TEMPLATES,
    SentenceEncoder,
    check_templates,
    embed_labels,
    write_embeddings,
)
from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.registry import build_backbone
from mlfsic_bench.hashing import hash_bytes

transformers = pytest.importorskip("transformers")
LABELS = ("dog", "hot dog", "tvmonitor")


class Letters:
    """An encoder that counts letters; `texts` are those it was asked for."""

    hash = hash_bytes(b"letters")

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts):
        self.texts += texts
        return np.array([[text.count(c) + 0.5 for c in "adgot"] for text in texts], np.float32)


def test_each_vector_has_unit_length_before_and_after_the_mean():
    encoder, templates = Letters(), ("a photo of a {}.", "{} again and again")
    made = embed_labels(LABELS, encoder, templates, name="letters")
    assert "a photo of a tv monitor." in encoder.texts
    rows = []
    for label in ("dog", "hot dog", "tv monitor"):
        two = [Letters().encode([t.format(label)])[0].astype(np.float64) for t in templates]
        mean = np.mean([v / np.sqrt((v**2).sum()) for v in two], axis=0)
        rows.append(mean / np.sqrt((mean**2).sum()))
    np.testing.assert_allclose(made.vectors, rows, rtol=1e-6)
    assert made.templates == templates


def test_the_hash_is_that_of_labels_templates_and_encoder():
    made = embed_labels(LABELS, Letters(), name="a")
    assert embed_labels(LABELS, Letters(), TEMPLATES, name="another name").hash == made.hash
    other = Letters()
    other.hash = hash_bytes(b"others")
    changed = [
        embed_labels(LABELS, Letters(), ("a {}",), name="a"),
        embed_labels(LABELS[:2], Letters(), name="a"),
        embed_labels(LABELS, other, name="a"),
    ]
    assert made.hash not in {one.hash for one in changed}


@pytest.mark.parametrize(
    "templates", [(), ("no place",), ("{} and {}",), ("{}\n",), ("{}", "{}"), ("x" * 300 + "{}",)]
)
def test_templates_that_cannot_be_filled_are_refused(templates):
    with pytest.raises(BenchError, match="templates"):
        check_templates(templates)


@pytest.mark.parametrize(
    ("vectors", "found"),
    [
        (np.full((3, 2), np.nan), "NaN"),
        (np.zeros((3, 2)), "zeros"),
        (np.ones((2, 2)), "shape"),
        (np.ones(3), "shape"),
    ],
)
def test_vectors_that_cannot_be_used_are_one_clear_error(vectors, found):
    class Bad:
        hash = ""

        def encode(self, texts):
            return vectors

    with pytest.raises(BenchError) as refused:
        embed_labels(LABELS, Bad(), name="bad")
    assert found in refused.value.found


@pytest.mark.parametrize(
    "encode",
    [
        lambda texts: 1 / 0,
        lambda texts: exit(0),
        lambda texts: os._exit(0),
        lambda texts: [[1.0], [1.0, 2.0], [3.0]],
        lambda texts: torch.ones(3, 2, requires_grad=True),
        lambda texts: [["a", "b"]] * 3,
        lambda texts: torch.ones(3, 2, device="meta"),
    ],
)
def test_an_encoder_that_fails_is_one_clear_error(encode):
    class Failing:
        hash = ""

        def encode(self, texts):
            return encode(texts)

    with pytest.raises(BenchError, match="text encoder 'bad' failed") as refused:
        embed_labels(LABELS, Failing(), name="bad")
    assert "encode()" in refused.value.remedy


def test_a_table_that_is_written_is_read_back_exactly(tmp_path):
    made = embed_labels(LABELS, Letters(), name="letters", space="net")
    write_embeddings(made, tmp_path / "letters.txt")
    again = load_embeddings(tmp_path / "letters.txt", ("dog", "tvmonitor"))
    np.testing.assert_array_equal(again.vectors, made.vectors[[0, 2]])
    said = json.loads((tmp_path / "letters.txt.json").read_text())
    assert said["templates"] == list(TEMPLATES)
    assert said["space"] == "net"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny random BERT, as save_pretrained writes it."""
    path = tmp_path_factory.mktemp("encoder")
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *["a", "photo", "of", "dog", "hot", "tv", "monitor", "."],
    ]
    (path / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(vocab=str(path / "vocab.txt")).save_pretrained(path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=len(words), hidden_size=12, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=8, max_position_embeddings=32,
        )  # fmt: skip
        transformers.BertModel(config).save_pretrained(path)
    return path


def test_a_sentence_encoder_averages_over_its_tokens(folder):
    encoder = SentenceEncoder(folder)
    texts = ["a photo of a dog.", "dog"]
    together = encoder.encode(texts)
    for row, text in zip(together, texts, strict=True):
        tokens = encoder.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            states = encoder.model(**tokens).last_hidden_state[0]
        np.testing.assert_allclose(row, states.mean(0).numpy(), atol=1e-5)


def test_a_folder_may_say_that_the_first_token_is_taken(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "1_Pooling").mkdir()
    said = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(said))
    mean, first = SentenceEncoder(folder), SentenceEncoder(tmp_path)
    tokens = first.tokenizer("dog", return_tensors="pt")
    with torch.no_grad():
        expected = first.model(**tokens).last_hidden_state[0, 0].numpy()
    np.testing.assert_allclose(first.encode(["dog"])[0], expected, atol=1e-6)
    assert first.hash != mean.hash
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(BenchError, match="not a sentence encoder"):
        SentenceEncoder(tmp_path)


def test_code_in_a_folder_is_never_run(folder, tmp_path, monkeypatch):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    ran = tmp_path / "ran"
    (tmp_path / "own.py").write_text(f"open({str(ran)!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda *asked: "y")
    said = json.loads((folder / "config.json").read_text())
    said["auto_map"] = {
        name: f"own.{name}" for name in ("AutoConfig", "AutoModel", "AutoImageProcessor")
    }
    for kind in ("bert", "own"):
        (tmp_path / "config.json").write_text(json.dumps({**said, "model_type": kind}))
        for read in (
            lambda: SentenceEncoder(tmp_path),
            lambda: build_backbone(f"hf:{tmp_path}"),
            lambda: build_backbone(f"hf:{tmp_path}", "none"),
        ):
            with suppress(BenchError):
                read()
            assert not ran.exists(), kind


@pytest.mark.parametrize("gone", ["config.json", "model.safetensors", "tokenizer"])
def test_a_folder_that_lacks_a_part_is_refused(folder, tmp_path, gone):
    for file in folder.iterdir():
        if not (file.name.startswith(gone) or (gone == "tokenizer" and "vocab" in file.name)):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(BenchError, match="not a sentence encoder"):
        SentenceEncoder(tmp_path)

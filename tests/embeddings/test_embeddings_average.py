"""Contextual averages of a tiny BERT against a plain loop, and folders that are refused."""

import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

from mlfsic_bench.embeddings.label_embeddings import load_embeddings  # noqa: E402
from mlfsic_bench.embeddings.text_encoder import (  # noqa: E402
    AveragePlan,
    Bert,
    Mention,
    average,
)
from mlfsic_bench.errors import BenchError  # noqa: E402
from tests.fakes.tiny_bert import SENTENCES, write_corpus, write_tiny_bert  # noqa: E402

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
LABELS = ("dog", "hot dog", "bus", "wine glass", "cat", "potted plant")
# which sentences of the fake corpus mention a label, and as what: written down by hand
MENTIONED = {
    "dog": {0: "dog", 1: "DOG", 2: "dogs", 11: "dog"},
    "hot dog": {3: "hot dog", 4: "hot-dog"},
    "bus": {2: "bus", 7: "buses", 8: "bus"},
    "wine glass": {5: "wine glass", 6: "wine glasses"},
    "cat": {1: "cat", 6: "cat", 8: "cat", 11: "cat"},
    "potted plant": {9: "potted plant"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_bert(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "corpus.txt")


def naive(model: Path, masked: bool, layer: int) -> dict[str, np.ndarray]:
    """One sentence at a time, no padding, tokens of the label found by tokenising its sides."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(model), local_files_only=True)
    network = AutoModel.from_pretrained(str(model), local_files_only=True).eval()
    means = {}
    for label, places in MENTIONED.items():
        vectors = []
        for number, words in places.items():
            left, right = re.split(re.escape(words), SENTENCES[number], maxsplit=1)
            own = "[MASK]" if masked else words
            parts = [tokenizer.tokenize(part) for part in (left, own, right)]
            tokens = ["[CLS]", *parts[0], *parts[1], *parts[2], "[SEP]"]
            ids = torch.tensor([tokenizer.convert_tokens_to_ids(tokens)])
            with torch.no_grad():
                states = network(ids, output_hidden_states=True).hidden_states[layer][0]
            start = 1 + len(parts[0])
            vectors.append(states[start : start + len(parts[1])].numpy().mean(axis=0))
        means[label] = np.mean(vectors, axis=0)
    return means


@pytest.mark.parametrize(("masked", "layer"), [(True, 3), (False, 3), (False, 2), (True, 1)])
@pytest.mark.parametrize("name", ["corpus.txt", "corpus.txt.gz"])
def test_the_table_is_what_a_plain_loop_gives(model, tmp_path, masked, layer, name):
    out = tmp_path / "table.txt"
    corpus = write_corpus(tmp_path / name)
    used = average(AveragePlan(model, corpus, LABELS, masked=masked, layer=layer), out, CPU)
    assert {label: len(taken) for label, taken in used.taken.items()} == {
        label: len(places) for label, places in MENTIONED.items()
    }
    words = load_embeddings(out, LABELS)
    expected = naive(model, masked, layer)
    assert np.allclose(words.vectors, [expected[label] for label in LABELS], atol=2e-5)


def test_the_last_layer_is_the_default(model, corpus, tmp_path):
    tables = []
    for layer in (None, 3, 2):
        out = tmp_path / f"{layer}.txt"
        average(AveragePlan(model, corpus, LABELS, layer=layer), out, CPU)
        tables.append(out.read_bytes())
    assert tables[0] == tables[1] != tables[2]


def test_what_was_averaged_is_written_down(model, corpus, tmp_path):
    from mlfsic_bench.hashing import hash_file

    out = tmp_path / "deep" / "table.txt"
    average(AveragePlan(model, corpus, LABELS, mentions=2, masked=False), out, CPU)
    written = json.loads((tmp_path / "deep" / "table.txt.json").read_text())
    assert written["labels"]["cat"] == {"sentences": 4, "taken": 2}
    assert written["labels"]["potted plant"] == {"sentences": 1, "taken": 1}
    assert written["model"]["model.safetensors"] == hash_file(model / "model.safetensors")
    assert written["model"]["vocab.txt"] == hash_file(model / "vocab.txt")
    assert written["corpus"]["sha256"] == hash_file(corpus)
    assert (written["masked"], written["layer"], written["mentions"]) == (False, 3, 2)
    assert str(tmp_path) not in json.dumps(written)
    lines = out.read_text().splitlines()
    assert [line.split(" ")[0] for line in lines] == ["_".join(name.split()) for name in LABELS]


def test_only_the_mentions_taken_count(model, corpus, tmp_path):
    some = average(AveragePlan(model, corpus, ("cat",), mentions=2), tmp_path / "two.txt", CPU)
    bert = Bert(model, CPU)
    rows = bert.vectors(some.taken["cat"], masked=True, layer=3)
    assert rows.shape == (2, 12)
    expected = rows.mean(axis=0).astype(np.float32)
    np.testing.assert_allclose(
        load_embeddings(tmp_path / "two.txt", ["cat"]).vectors[0], expected, rtol=1e-5, atol=1e-6
    )


def test_a_long_sentence_is_cut_to_a_window_around_the_label(model):
    bert = Bert(model, CPU)
    for before, after in ((0, 60), (60, 0), (40, 40)):
        left, right = "the " * before, " a" * after
        mention = Mention(f"{left}dog{right}", len(left), len(left) + 3)
        ids, first, end = bert._tokens(mention, masked=False)
        assert len(ids) == 32
        assert [bert._tokenizer.convert_ids_to_tokens(i) for i in ids[first:end]] == ["dog"]
        assert bert.vectors([mention], masked=True, layer=3).shape == (1, 12)
        if before and after:
            assert 13 <= first <= 18


def test_labels_without_enough_mentions_are_listed(model, corpus, tmp_path):
    labels = (*LABELS, "zebra", "giraffe")
    with pytest.raises(BenchError, match="2 of 8 labels") as error:
        average(AveragePlan(model, corpus, labels), tmp_path / "t", CPU)
    assert error.value.found == "zebra 0, giraffe 0"
    with pytest.raises(BenchError) as error:
        average(AveragePlan(model, corpus, LABELS, min_mentions=3), tmp_path / "t", CPU)
    assert error.value.found == "hot dog 2, wine glass 2, potted plant 1"
    assert list(tmp_path.iterdir()) == [corpus]


def test_torchs_own_random_stream_is_left_alone(model, corpus, tmp_path):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    average(AveragePlan(model, corpus, LABELS), tmp_path / "t", CPU)
    assert torch.equal(before, torch.random.get_rng_state())


def copy(model: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def edit(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_checkpoint_with_heads_old_names_and_bin_gives_the_same_vectors(model, tmp_path):
    from safetensors.torch import load_file

    folder = copy(model, tmp_path / "old")
    state = load_file(folder / "model.safetensors")
    old = {
        "bert."
        + key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for key, value in state.items()
    }
    old["cls.predictions.bias"] = torch.zeros(3)
    old["bert.embeddings.position_ids"] = torch.arange(32)[None]
    (folder / "model.safetensors").unlink()
    torch.save(old, folder / "pytorch_model.bin")
    mention = [Mention("a dog sat", 2, 5)]
    rows = [Bert(place, CPU).vectors(mention, masked=False, layer=3) for place in (model, folder)]
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-5, atol=1e-6)


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def _pickle(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps((Payload(), "x" * 99999)))


def _pickle_in_torch(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"x": Payload(), "y": torch.zeros(99999)}, folder / "pytorch_model.bin")


def _code(folder):
    (folder / "evil.py").write_text("open('executed', 'w')\nclass M: pass\n")
    edit(folder, auto_map={"AutoModel": "evil.M", "AutoConfig": "evil.M"}, model_type="evil")


def _lack(folder):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, folder / "model.safetensors")


def _not_finite(folder):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    state["encoder.layer.1.output.dense.weight"][0, 0] = float("nan")
    save_file(state, folder / "model.safetensors")


def _pointer(folder):
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"
    (folder / "model.safetensors").write_text(text)


def _more_words(folder):
    path = folder / "vocab.txt"
    path.write_text("\n".join([*path.read_text().split(), "more", "words"]) + "\n")


BAD = {
    "a pickle": (_pickle, "not a BERT model that can be read"),
    "a pickle in torch's format": (_pickle_in_torch, "pickled objects"),
    "code of its own": (_code, "model_type 'evil'"),
    "another kind": (lambda f: edit(f, model_type="roberta"), "model_type 'roberta'"),
    "other positions": (lambda f: edit(f, position_embedding_type="relative_key"), "positions"),
    "a huge network": (lambda f: edit(f, hidden_size=10**9), "more than model.safetensors has"),
    "many layers": (lambda f: edit(f, num_hidden_layers=10**9), "at most 100"),
    "a size that is no number": (lambda f: edit(f, vocab_size="9"), "vocab_size"),
    "heads that do not divide": (lambda f: edit(f, num_attention_heads=5), "attention heads"),
    "another activation": (lambda f: edit(f, hidden_act="evil"), "KeyError: 'evil'"),
    "another width": (lambda f: edit(f, intermediate_size=30), "one of another shape"),
    "a tensor too few": (_lack, "for encoder.layer.1.output.dense.weight"),
    "NaN in the weights": (_not_finite, "not finite in encoder.layer.1.output.dense.weight"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no weights"),
    "cut weights": (lambda f: (f / "model.safetensors").write_bytes(b"\x09" * 99999), "header"),
    "no tokenizer": (lambda f: (f / "vocab.txt").unlink(), "no tokenizer"),
    "a broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "line 1 column 2"),
    "more words than the network": (_more_words, "does not fit the model"),
    "no configuration": (lambda f: (f / "config.json").unlink(), "no model configuration"),
    "a list for a configuration": (lambda f: (f / "config.json").write_text("[]"), "model_type"),
    "an LFS pointer": (_pointer, "is a Git LFS pointer"),
}


@pytest.mark.parametrize("name", BAD)
def test_folders_that_are_refused(model, corpus, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    spoil, says = BAD[name]
    folder = copy(model, tmp_path / "model")
    spoil(folder)
    with pytest.raises(BenchError) as error:
        average(AveragePlan(folder, corpus, LABELS), tmp_path / "table.txt", CPU)
    assert says in str(error.value)
    assert not (tmp_path / "executed").exists()
    assert not list(tmp_path.glob("table*"))


def test_what_is_no_folder_and_layers_that_are_not_there(model, corpus, tmp_path):
    for wrong in (tmp_path / "nowhere", corpus):
        with pytest.raises(BenchError, match="no folder at that path"):
            average(AveragePlan(wrong, corpus, LABELS), tmp_path / "t", CPU)
    with pytest.raises(BenchError, match="no layer 4"):
        average(AveragePlan(model, corpus, LABELS, layer=4), tmp_path / "t", CPU)


def test_a_label_the_tokenizer_makes_nothing_of(model, tmp_path):
    corpus = write_corpus(tmp_path / "c", ("a \ufffd here",))
    with pytest.raises(BenchError, match="makes nothing of"):
        average(AveragePlan(model, corpus, ("\ufffd",), masked=False), tmp_path / "t", CPU)


def test_without_the_extra_the_error_says_what_to_install(corpus, model, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BenchError) as error:
        average(AveragePlan(model, corpus, LABELS), tmp_path / "t", CPU)
    assert error.value.remedy == "pip install 'mlfsic-bench[bert]'"
